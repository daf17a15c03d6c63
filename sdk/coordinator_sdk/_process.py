"""Who this process is, as operators see it."""

from __future__ import annotations

import contextlib
import os
import platform


def process_facts() -> tuple[str, str, int]:
    """Who this process is: application, host and process id."""
    import __main__

    path = getattr(__main__, "__file__", None) or ""
    application = os.environ.get("COORDINATOR_APPLICATION") or os.path.basename(path) or "python"
    host = ""
    with contextlib.suppress(OSError):
        host = platform.node()
    return application, host, os.getpid()
