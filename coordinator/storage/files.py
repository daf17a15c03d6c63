"""The few file operations that storage needs, behind one small interface.

Imports only the standard library. Everything the log does to a disk goes through `Files`, so that
tests and the simulator can put a disk underneath that fails, fills up or forgets; see `memory.py`.

Invariants: files are created with mode 0600 and directories with 0700; a name is durable only after
`sync_directory`.
"""

import contextlib
import errno
import os
import sys
from typing import Final, Protocol

from coordinator.storage.errors import NoSpace, StorageError, StorageFailed

FILE_MODE: Final = 0o600
DIRECTORY_MODE: Final = 0o700

_NO_SPACE_ERRNOS: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


class Files(Protocol):
    """A disk. Every operation raises OSError as the operating system does."""

    def make_directory(self, path: str) -> None:
        """Create `path` (mode 0700) unless it exists; the parent must exist."""

    def names(self, directory: str) -> list[str]:
        """Return the names in `directory`, sorted."""

    def create(self, path: str) -> int:
        """Create an empty file (mode 0600), which must not exist, and return its descriptor."""

    def open(self, path: str) -> int:
        """Open an existing file for reading and writing and return its descriptor."""

    def close(self, fd: int) -> None:
        """Close a descriptor."""

    def size(self, fd: int) -> int:
        """Return the size of a file in bytes."""

    def read(self, fd: int, size: int, offset: int) -> bytes:
        """Return up to `size` bytes from `offset`; fewer at the end of the file."""

    def write(self, fd: int, data: bytes, offset: int) -> int:
        """Write at `offset` and return how many bytes were written, perhaps fewer than given."""

    def truncate(self, fd: int, size: int) -> None:
        """Cut or extend (with zeros) a file to `size` bytes."""

    def sync_data(self, fd: int) -> None:
        """Make the content durable; not its time stamps."""

    def sync(self, fd: int) -> None:
        """Make the content and all attributes durable."""

    def rename(self, source: str, target: str) -> None:
        """Give a file another name in one step, replacing what had that name."""

    def unlink(self, path: str) -> None:
        """Remove a name."""

    def sync_directory(self, path: str) -> None:
        """Make the names in a directory durable."""


class DiskFiles:
    """The real disk."""

    def make_directory(self, path: str) -> None:
        """See `Files.make_directory`; also takes the rights of others away if they have any."""
        try:
            os.mkdir(path, DIRECTORY_MODE)
        except FileExistsError:
            if os.stat(path).st_mode & 0o077:
                os.chmod(path, DIRECTORY_MODE)

    def names(self, directory: str) -> list[str]:
        """See `Files.names`."""
        return sorted(os.listdir(directory))

    def create(self, path: str) -> int:
        """See `Files.create`."""
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)

    def open(self, path: str) -> int:
        """See `Files.open`."""
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)

    def close(self, fd: int) -> None:
        """See `Files.close`."""
        os.close(fd)

    def size(self, fd: int) -> int:
        """See `Files.size`."""
        return os.fstat(fd).st_size

    def read(self, fd: int, size: int, offset: int) -> bytes:
        """See `Files.read`."""
        return os.pread(fd, size, offset)

    def write(self, fd: int, data: bytes, offset: int) -> int:
        """See `Files.write`."""
        return os.pwrite(fd, data, offset)

    def truncate(self, fd: int, size: int) -> None:
        """See `Files.truncate`."""
        os.ftruncate(fd, size)

    if sys.platform == "darwin":

        def sync_data(self, fd: int) -> None:
            """See `Files.sync_data`; fsync alone does not reach the platter on this system."""
            import fcntl

            fcntl.fcntl(fd, fcntl.F_FULLFSYNC)

        def sync(self, fd: int) -> None:
            """See `Files.sync`."""
            self.sync_data(fd)

    else:

        def sync_data(self, fd: int) -> None:
            """See `Files.sync_data`."""
            os.fdatasync(fd)

        def sync(self, fd: int) -> None:
            """See `Files.sync`."""
            os.fsync(fd)

    def rename(self, source: str, target: str) -> None:
        """See `Files.rename`."""
        os.replace(source, target)

    def unlink(self, path: str) -> None:
        """See `Files.unlink`."""
        os.unlink(path)

    def sync_directory(self, path: str) -> None:
        """See `Files.sync_directory`."""
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def is_no_space(error: OSError) -> bool:
    """Whether an error says that the file system, or the quota on it, is full."""
    return error.errno in _NO_SPACE_ERRNOS


def translate(error: OSError, doing: str) -> StorageError:
    """Return the storage error for an operating system error.

    Args:
        error: What the operating system said.
        doing: What was tried, as in "writing segment 7".
    """
    if is_no_space(error):
        return NoSpace(f"no space left while {doing}: {error}")
    return StorageFailed(f"{doing} failed: {error}")


def write_all(files: Files, fd: int, data: bytes, offset: int) -> None:
    """Write all of `data` at `offset`, however many calls that takes.

    Raises:
        OSError: The disk refused; some of the bytes may have been written.
    """
    written = files.write(fd, data, offset)
    while written < len(data):
        count = files.write(fd, data[written:], offset + written)
        if count <= 0:
            raise OSError(errno.EIO, "the file takes no more bytes")
        written += count


def read_all(files: Files, fd: int) -> bytes:
    """Return the whole content of a file."""
    size = files.size(fd)
    parts: list[bytes] = []
    offset = 0
    while offset < size:
        part = files.read(fd, size - offset, offset)
        if not part:
            break
        parts.append(part)
        offset += len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def discard(files: Files, path: str) -> None:
    """Remove a file that may not be there."""
    with contextlib.suppress(FileNotFoundError):
        files.unlink(path)


def write_file(files: Files, directory: str, name: str, data: bytes) -> None:
    """Create or replace a small file in one durable step.

    After a crash the file has either its old content or the new one.

    Raises:
        OSError: The disk refused; the old content is still there.
    """
    final = f"{directory}/{name}"
    beside = f"{final}.tmp"
    discard(files, beside)
    fd = files.create(beside)
    try:
        write_all(files, fd, data, 0)
        files.sync(fd)
    finally:
        files.close(fd)
    files.rename(beside, final)
    files.sync_directory(directory)
