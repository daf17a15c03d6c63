"""`make cluster`. This release runs one member only, and says so."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path


def main() -> None:
    """Explain, then become a single member whose log is the terminal."""
    parser = argparse.ArgumentParser(prog="python -m examples.cluster")
    parser.add_argument("--port", type=int, default=2379)
    parser.add_argument("--data-dir", type=Path, default=Path(".data"))
    given = parser.parse_args()
    url = f"http://127.0.0.1:{given.port}"
    print("Clusters of several members come with a later release; this one runs one member.")
    print(f"Starting it on {url}, data in {given.data_dir}; its log follows.", flush=True)
    flags = ["--data-dir", str(given.data_dir)]
    flags += ["--listen-client-urls", url, "--advertise-client-urls", url]
    os.execv(sys.executable, [sys.executable, "-m", "coordinator", "serve", *flags])


if __name__ == "__main__":
    main()
