"""The data directory of one member: its lock, and who it belongs to.

Imports this room only. Layout:

    lock            held by the running process, contains its process id
    log/identity    member id, data-directory id and cluster id
    log/*.log       the Raft log, with term and vote
    state.db        the state database
    backup.tmp      a backup while it is being made
    tls/            certificates of our own making; may be there before anything else

The identity lies beside the log and not in the database: both are rebuilt from peers, but a member
that has lost its votes must not come back as itself.

Invariants: at most one process; the identity is written once the log exists and never changes,
except that the cluster id may be filled in.
"""

import errno
import fcntl
import os
import secrets
from pathlib import Path
from typing import Final

import google_crc32c
import msgspec

from coordinator.storage.errors import (
    REMEDY,
    DirectoryForeign,
    DirectoryInUse,
    SchemaTooNew,
    StorageDamaged,
    StorageFailed,
)
from coordinator.storage.files import (
    FILE_MODE,
    DiskFiles,
    Files,
    discard,
    read_all,
    translate,
    write_file,
)
from coordinator.storage.segment import segment_sequence

IDENTITY_FORMAT: Final = 1

_LOCK: Final = "lock"
_LOG: Final = "log"
_STATE: Final = "state.db"
_IDENTITY: Final = "identity"
_BACKUP: Final = "backup.tmp"
_TLS: Final = "tls"
_OURS: Final = (_LOCK, _LOG, _STATE, "lost+found")


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """Who a data directory belongs to."""

    member_id: int
    """The member of the cluster; a positive 63-bit number."""
    directory_id: int
    """Drawn when the directory was made: tells it from any other of the same member."""
    cluster_id: int
    """0 as long as the cluster is not known."""


class _IdentityFile(msgspec.Struct, kw_only=True):
    """The content of the file: ids in the notation of the tools, and a checksum over them."""

    format: int
    member_id: str
    directory_id: str
    cluster_id: str
    checksum: str


def backup_path(data_dir: str | os.PathLike[str]) -> Path:
    """Return where in a data directory a backup is made before it is sent away."""
    return Path(data_dir) / _BACKUP


class DataDirectory:
    """A data directory locked by this process. Get one from `open`."""

    def __init__(self, path: Path, lock_fd: int, files: Files) -> None:
        """Stand for a locked directory; use `open` instead."""
        self.path = path
        self.log_path = path / _LOG
        self.state_path = path / _STATE
        self.identity: Identity | None = None
        """Who it belongs to; None in a new directory."""
        self._lock_fd = lock_fd
        self._files = files

    @classmethod
    def open(cls, path: str | os.PathLike[str], files: Files | None = None) -> "DataDirectory":
        """Lock a data directory, creating it if need be, and read whom it belongs to.

        The folder it lies in must exist.

        Raises:
            DirectoryInUse: Another process has locked it.
            DirectoryForeign: It holds something that is not ours.
            StorageDamaged: Its identity is lost or altered.
            SchemaTooNew: A newer release wrote it.
            NoSpace: The disk is full.
            StorageFailed: The disk failed, or the rights do not suffice.
        """
        files = files or DiskFiles()
        folder = Path(path)
        try:
            is_new = not folder.exists()
            if is_new and not folder.parent.exists():
                raise StorageFailed(
                    f"data directory {folder} can't be made: {folder.parent} does not exist; "
                    "make it, or name another data directory"
                )
            _refuse_foreign(folder)
            files.make_directory(str(folder))
            if is_new:
                files.sync_directory(str(folder.parent))
            lock_fd = _lock(folder)
            try:
                directory = cls(folder, lock_fd, files)
                files.make_directory(str(directory.log_path))
                files.sync_directory(str(folder))
                directory.identity = directory._read_identity()
                for suffix in ("", ".part"):
                    discard(files, f"{folder / _BACKUP}{suffix}")
            except BaseException:
                os.close(lock_fd)
                raise
        except OSError as error:
            raise translate(error, f"opening data directory {folder}") from error
        return directory

    def create_identity(
        self, member_id: int, cluster_id: int = 0, directory_id: int | None = None
    ) -> Identity:
        """Say whom a new directory belongs to, durably. Call it once the log exists.

        Args:
            member_id: The member.
            cluster_id: The cluster; 0 if it is not known yet.
            directory_id: For tests; random by default.

        Raises:
            DirectoryForeign: It belongs to somebody already.
            NoSpace: The disk is full.
            StorageFailed: The disk failed.
        """
        if self.identity is not None:
            raise DirectoryForeign(f"{self.path} belongs to member {self.identity.member_id:016x}")
        drawn = directory_id or secrets.randbelow((1 << 63) - 1) + 1
        return self._write_identity(
            Identity(member_id=member_id, directory_id=drawn, cluster_id=cluster_id)
        )

    def bind_cluster(self, cluster_id: int) -> Identity:
        """Fill in the cluster id, durably; nothing happens if it is there already.

        Raises:
            DirectoryForeign: The directory belongs to another cluster.
            NoSpace: The disk is full.
            StorageFailed: The disk failed.
        """
        identity = self.require()
        if identity.cluster_id:
            return self.require(cluster_id=cluster_id)
        return self._write_identity(msgspec.structs.replace(identity, cluster_id=cluster_id))

    def change_cluster(self, cluster_id: int) -> Identity:
        """Let the member be one of another cluster from now on, durably.

        Raises:
            DirectoryForeign: The directory does not belong to any member yet.
            NoSpace: The disk is full.
            StorageFailed: The disk failed.
        """
        return self._write_identity(msgspec.structs.replace(self.require(), cluster_id=cluster_id))

    def require(self, *, member_id: int = 0, cluster_id: int = 0) -> Identity:
        """Return the identity, after checking that it is the expected one.

        Args:
            member_id: The expected member; 0 for any.
            cluster_id: The expected cluster; 0 for any. A directory that does not know its cluster
                yet fits any.

        Raises:
            DirectoryForeign: It is new, or belongs to another member or cluster.
        """
        found = self.identity
        if found is None:
            raise DirectoryForeign(f"data directory {self.path} does not belong to any member yet")
        for name, expected, actual in (
            ("member", member_id, found.member_id),
            ("cluster", cluster_id, found.cluster_id),
        ):
            if expected and actual and expected != actual:
                raise DirectoryForeign(
                    f"data directory {self.path} belongs to {name} {actual:016x}, not to "
                    f"{expected:016x}; point this member to its own directory"
                )
        return found

    def close(self) -> None:
        """Let go of the lock."""
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1

    def _read_identity(self) -> Identity | None:
        names = self._files.names(str(self.log_path))
        if _IDENTITY not in names:
            if self.state_path.exists():
                raise StorageDamaged(f"{self.log_path} has lost its identity; {REMEDY}")
            return None
        fd = self._files.open(str(self.log_path / _IDENTITY))
        try:
            content = read_all(self._files, fd)
        finally:
            self._files.close(fd)
        identity = _decode(self.log_path / _IDENTITY, content)
        if identity is None:
            raise StorageDamaged(f"{self.log_path / _IDENTITY} is damaged; {REMEDY}")
        if not any(segment_sequence(name) for name in names):
            raise StorageDamaged(f"{self.log_path} has lost the log; {REMEDY}")
        return identity

    def _write_identity(self, identity: Identity) -> Identity:
        try:
            write_file(self._files, str(self.log_path), _IDENTITY, _encode(identity))
        except OSError as error:
            raise translate(error, f"writing the identity of {self.path}") from error
        self.identity = identity
        return identity


def _refuse_foreign(folder: Path) -> None:
    """Refuse a directory in which there is something, but nothing of ours."""
    try:
        names = [name for name in os.listdir(folder) if name != _TLS]
    except FileNotFoundError:
        return
    except NotADirectoryError:
        raise DirectoryForeign(f"{folder} is not a directory") from None
    if names and not any(name in _OURS for name in names):
        raise DirectoryForeign(
            f"{folder} is not empty and holds no data of this program (but {sorted(names)[0]!r}); "
            "choose an empty directory"
        )


def _lock(folder: Path) -> int:
    """Lock the directory and leave the process id in the lock file."""
    fd = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
    except OSError as error:
        holder = os.pread(fd, 20, 0).strip()
        os.close(fd)
        if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
            raise
        pid = int(holder) if holder.isdigit() else 0
        raise DirectoryInUse(str(folder), pid) from None
    return fd


def _encode(identity: Identity) -> bytes:
    ids = [f"{number:016x}" for number in msgspec.structs.astuple(identity)]
    checksum = f"{google_crc32c.value(' '.join(ids).encode()):08x}"
    content = _IdentityFile(
        format=IDENTITY_FORMAT,
        member_id=ids[0],
        directory_id=ids[1],
        cluster_id=ids[2],
        checksum=checksum,
    )
    return msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n"


def _decode(path: Path, content: bytes) -> Identity | None:
    try:
        found = msgspec.json.decode(content, type=_IdentityFile)
        identity = Identity(
            member_id=int(found.member_id, 16),
            directory_id=int(found.directory_id, 16),
            cluster_id=int(found.cluster_id, 16),
        )
    except (msgspec.DecodeError, ValueError):
        return None
    if found.format > IDENTITY_FORMAT:
        raise SchemaTooNew(str(path), f"format {found.format}", f"format {IDENTITY_FORMAT}")
    return identity if _encode(identity) == content else None
