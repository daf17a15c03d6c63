"""``python -m tests.drill.cached serve ...``: the server on a disk that forgets at SIGKILL.

What the log writes stays in this process until it syncs; so a SIGKILL loses exactly what a
power cut may lose. Reads see the cache.
"""

from __future__ import annotations

import sys

from coordinator.cli.serve import main
from coordinator.storage.files import DiskFiles

_pending: dict[int, list[tuple[int, bytes]]] = {}
_write, _read, _close = DiskFiles.write, DiskFiles.read, DiskFiles.close


def write(self: DiskFiles, fd: int, data: bytes, offset: int) -> int:
    """Keep the data until somebody syncs."""
    _pending.setdefault(fd, []).append((offset, bytes(data)))
    return len(data)


def settle(self: DiskFiles, fd: int) -> None:
    """Let everything written to a file reach the operating system."""
    for offset, data in _pending.pop(fd, ()):
        while data:
            count = _write(self, fd, data, offset)
            offset, data = offset + count, data[count:]


def install() -> None:
    """Put the cache in front of the disk."""
    sync_data, sync = DiskFiles.sync_data, DiskFiles.sync
    size, truncate = DiskFiles.size, DiskFiles.truncate

    def settled(method):
        def call(self, fd, *rest):
            settle(self, fd)
            return method(self, fd, *rest)

        return call

    DiskFiles.write = write  # type: ignore[method-assign]
    for name, method in {
        "sync_data": sync_data,
        "sync": sync,
        "size": size,
        "truncate": truncate,
        "read": _read,
        "close": _close,
    }.items():
        setattr(DiskFiles, name, settled(method))


if __name__ == "__main__":
    install()
    sys.exit(main())
