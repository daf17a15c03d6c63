"""Runs the server: ``python -m coordinator``."""

from __future__ import annotations

import sys

from coordinator.cli.serve import main

if __name__ == "__main__":
    sys.exit(main())
