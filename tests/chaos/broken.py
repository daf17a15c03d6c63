"""``python -m tests.chaos.broken serve ...``: the server on a disk that can break.

While the file named by ``BROKEN_DISK`` exists, every sync of the log fails as a failing disk's.
"""

from __future__ import annotations

import errno
import os
import sys

from coordinator.cli.serve import main
from coordinator.storage.files import DiskFiles

VARIABLE = "BROKEN_DISK"


def install(mark: str) -> None:
    """Break syncs while a file exists."""

    def breaking(method):
        def call(self, fd, *rest):
            if os.path.exists(mark):
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return method(self, fd, *rest)

        return call

    for name in ("sync_data", "sync"):
        setattr(DiskFiles, name, breaking(getattr(DiskFiles, name)))


if __name__ == "__main__":
    install(os.environ[VARIABLE])
    sys.exit(main())
