"""What can go wrong on this member's disk.

Imports nothing. The tree is ordered by what the caller has to do about it:

    StorageError
    ├─ NoSpace            wait: the disk or the quota of the file system is full; nothing is lost
    ├─ StorageClosed      the log or the database was closed by its owner
    ├─ StorageFailed      stop the process: the disk failed and what it holds is unknown
    ├─ StorageDamaged     rebuild: what was once durable cannot be read back
    │  ├─ LogDamaged      … the log, with file and offset
    │  ├─ StateDamaged    … the state database
    │  └─ ArchiveDamaged  … a snapshot stream or a backup file
    └─ DirectoryRefused   do not start on this data directory
       ├─ DirectoryInUse  … another process holds it
       ├─ DirectoryForeign … it belongs to another member, or to another program
       └─ SchemaTooNew    … a newer release wrote it
"""

from typing import Final

REMEDY: Final = "restore a backup or, in a cluster, rebuild this member from its peers"
"""What to do about damage, as messages end with it."""


class StorageError(Exception):
    """Any failure of this member's storage."""


class NoSpace(StorageError):
    """The file system is full; the operation changed nothing and can be tried again."""


class StorageClosed(StorageError):
    """The log or the database has been closed; the operation was not carried out."""


class StorageFailed(StorageError):
    """The disk failed in a way that leaves its content unknown.

    After a failed fdatasync the kernel may have thrown the data away and forgotten the error, so
    nothing is ever tried again: the process has to stop.
    """


class StorageDamaged(StorageError):
    """Data that was once durable is missing or altered; the member has to be rebuilt."""


class LogDamaged(StorageDamaged):
    """The log is damaged before its last batch.

    Attributes:
        path: The damaged segment.
        offset: Byte offset in it at which reading had to stop.
        reason: What was found there, in a few words.
    """

    def __init__(self, path: str, offset: int, reason: str) -> None:
        """Compose the one-sentence message from the place and the reason."""
        super().__init__(f"log segment {path} is damaged at offset {offset}: {reason}; {REMEDY}")
        self.path = path
        self.offset = offset
        self.reason = reason


class StateDamaged(StorageDamaged):
    """The state database cannot be read, or contradicts itself."""


class ArchiveDamaged(StorageDamaged):
    """A snapshot stream or a backup file is incomplete or altered."""


class DirectoryRefused(StorageError):
    """The process must not start on this data directory."""


class DirectoryInUse(DirectoryRefused):
    """Another process holds the lock of the data directory.

    Attributes:
        path: The data directory.
        pid: Process id of the holder; 0 if it is not known.
    """

    def __init__(self, path: str, pid: int) -> None:
        """Compose the one-sentence message from the directory and the holder."""
        holder = f"process {pid}" if pid else "another process"
        super().__init__(f"data directory {path} is in use by {holder}; stop it first")
        self.path = path
        self.pid = pid


class DirectoryForeign(DirectoryRefused):
    """The data directory belongs to another member or cluster, or is not ours at all."""


class SchemaTooNew(DirectoryRefused):
    """The state database, or another file, was written by a newer release.

    Attributes:
        found: Schema or format revision of the file.
        known: Newest one this release knows.
    """

    def __init__(self, path: str, found: str, known: str) -> None:
        """Compose the one-sentence message from both revisions."""
        super().__init__(
            f"{path} has revision {found}, this release knows up to {known}; "
            "start the newer release again, or restore a backup taken before the upgrade"
        )
        self.found = found
        self.known = known
