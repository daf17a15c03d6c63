"""Backups: one file that any SQLite tool can read, and that proves itself unaltered.

Imports this room only. A backup is a compact copy of the state database, followed by a trailer: a
magic word in a block of 512 bytes, and the SHA-256 of everything before the digest. SQLite ignores
what lies behind its last page; clients of etcd expect whole blocks and a digest of a snapshot.

Invariants: the file appears under its name only once it is complete and durable; a backup is never
used before its digest has been checked.
"""

import asyncio
import hashlib
import os
import shutil
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import msgspec

from coordinator.storage import schema
from coordinator.storage.errors import ArchiveDamaged, SchemaTooNew, StateDamaged, StorageFailed
from coordinator.storage.files import DiskFiles, discard, is_no_space, translate
from coordinator.storage.migrate import (
    connect_immutable,
    create_private_file,
    schema_revision,
    translate_sqlite,
)
from coordinator.storage.state import StateStore, decode_meta, encode_meta, select_meta
from coordinator.storage.write_behind import WriteBehind

MAGIC: Final = b"COORDBK1".ljust(512, b"\0")
TRAILER_BYTES: Final = len(MAGIC) + hashlib.sha256().digest_size

_CHUNK_BYTES: Final = 1 << 20
_ETCD_MAGIC: Final = bytes.fromhex("edda0ced")
"""At offset 16 of the databases that etcd's snapshots are."""
_COUNT_KEYS: Final = """
    SELECT count(*) FROM (
        SELECT version, max(mod_revision) FROM versions WHERE space = 0 GROUP BY key
    ) WHERE version > 0
"""


class BackupStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What a backup holds."""

    size_bytes: int
    """Of the file, with the trailer."""
    sha256: str
    """In hexadecimal digits, as in the trailer."""
    schema: str
    """Schema revision."""
    revision: int
    compact_revision: int
    applied_index: int
    applied_term: int
    cluster_id: int
    keys: int
    """Live user keys."""
    versions: int
    """Retained versions of all keys, deletions included."""


async def save_backup(
    store: StateStore,
    target: str | os.PathLike[str],
    write_behind: WriteBehind | None = None,
    facts: Mapping[str, object] | None = None,
) -> BackupStatus:
    """Write a backup of everything applied so far.

    Args:
        store: The state database.
        target: The file; replaced if it exists.
        write_behind: The queue in front of the database; flushed first.
        facts: Single facts to add to the copy, such as the id of the cluster.

    Raises:
        NoSpace: The disk is full; the target is untouched.
        StorageFailed: The backup could not be written; the target is untouched.
    """
    if write_behind is not None:
        await write_behind.flush()
    final = Path(target)
    part = Path(f"{final}.part")
    try:
        await asyncio.to_thread(_begin_file, part)
        await store.vacuum_into(part)
        await asyncio.to_thread(_add_facts, part, facts or {})
        await asyncio.to_thread(_seal_file, part, final)
    except BaseException:
        await asyncio.shield(asyncio.to_thread(discard, DiskFiles(), str(part)))
        raise
    return await asyncio.to_thread(verify_backup, final)


def _begin_file(part: Path) -> None:
    try:
        discard(DiskFiles(), str(part))
        create_private_file(part)
    except OSError as error:
        raise translate(error, f"writing {part}") from error


def _add_facts(part: Path, facts: Mapping[str, object]) -> None:
    try:
        _adjust(part, facts, ())
    except sqlite3.Error as error:
        raise translate_sqlite(error, f"writing {part}") from error


def _seal_file(part: Path, final: Path) -> None:
    """Append the trailer, make the file durable and give it its name."""
    files = DiskFiles()
    try:
        with part.open("r+b") as file:
            digest = hashlib.sha256()
            while chunk := file.read(_CHUNK_BYTES):
                digest.update(chunk)
            digest.update(MAGIC)
            file.write(MAGIC + digest.digest())
            file.flush()
            files.sync(file.fileno())
        files.rename(str(part), str(final))
        files.sync_directory(str(final.parent))
    except OSError as error:
        raise translate(error, f"writing {final}") from error


def verify_backup(path: str | os.PathLike[str]) -> BackupStatus:
    """Check a backup from its first to its last bit and say what it holds. Blocks.

    Raises:
        ArchiveDamaged: It is incomplete, altered, or no backup.
        SchemaTooNew: A newer release made it.
        StorageFailed: It cannot be read.
    """
    source = Path(path)
    size, sha256 = _check_digest(source)
    try:
        found = schema_revision(source, is_immutable=True)
        if found not in schema.SCHEMA_REVISIONS:
            raise SchemaTooNew(str(source), str(found), schema.SCHEMA_HEAD)
        facts = select_meta(source)
        with closing(connect_immutable(source)) as connection:
            keys = connection.execute(_COUNT_KEYS).fetchone()[0]
            versions = connection.execute("SELECT count(*) FROM versions").fetchone()[0]
    except StateDamaged as error:
        raise ArchiveDamaged(str(error)) from None
    except sqlite3.Error as error:
        raise translate_sqlite(error, f"reading {source}") from error
    revision, compact_revision = _revisions(facts)
    numbers = ("applied_index", "applied_term", "cluster_id")
    return BackupStatus(
        size_bytes=size,
        sha256=sha256,
        schema=found,
        revision=revision,
        compact_revision=compact_revision,
        keys=keys,
        versions=versions,
        **{name: int(facts.get(name, 0)) for name in numbers},
    )


def _revisions(facts: Mapping[str, Any]) -> tuple[int, int]:
    """Return the revision and the compact revision: the first two numbers of the keyspace's."""
    if "keyspace" not in facts:
        return 0, 0
    revision, compact_revision, *_ = decode_meta(facts["keyspace"])
    return int(revision), int(compact_revision)


def _check_digest(source: Path) -> tuple[int, str]:
    """Return size and digest of an unaltered backup."""
    try:
        size = source.stat().st_size
        _refuse_etcd(source)
        if size <= TRAILER_BYTES:
            raise ArchiveDamaged(f"{source} is too short to be a backup")
        digest = hashlib.sha256()
        with source.open("rb") as file:
            left = size - hashlib.sha256().digest_size
            tail = b""
            while left and (chunk := file.read(min(left, _CHUNK_BYTES))):
                digest.update(chunk)
                tail = (tail + chunk)[-len(MAGIC) :]
                left -= len(chunk)
            expected = file.read()
    except OSError as error:
        raise StorageFailed(f"reading {source} failed: {error}") from error
    if tail != MAGIC:
        raise ArchiveDamaged(f"{source} does not end like a backup: it is cut off, or is none")
    if digest.digest() != expected:
        raise ArchiveDamaged(f"{source} has been altered: its checksum differs")
    return size, expected.hex()


def _refuse_etcd(source: Path) -> None:
    with source.open("rb") as file:
        if file.read(20)[16:] == _ETCD_MAGIC:
            raise ArchiveDamaged(
                f"{source} is a snapshot of etcd, not a backup of this program: start etcd with "
                "it, and copy the keys over"
            )


def restore_backup(
    source: str | os.PathLike[str],
    state_path: str | os.PathLike[str],
    facts: Mapping[str, object] | None = None,
    clear_tables: tuple[str, ...] = (),
) -> BackupStatus:
    """Make a new state database from a backup, after checking it. Blocks.

    Args:
        source: The backup.
        state_path: The new database; must not exist.
        facts: Single facts to set in it, such as a new cluster id.
        clear_tables: Tables of records to empty in it.

    Returns:
        What the backup holds, before the changes.

    Raises:
        ArchiveDamaged: The backup is incomplete or altered.
        SchemaTooNew: A newer release made it.
        StorageFailed: There is a database already, or the disk failed.
        NoSpace: The disk is full.
    """
    _check_digest(Path(source))
    target = Path(state_path)
    if target.exists():
        raise StorageFailed(f"{target} exists; restore into a new data directory")
    part = Path(f"{target}.restore")
    files = DiskFiles()
    try:
        discard(files, str(part))
        create_private_file(part)
        shutil.copyfile(source, part)
        # The copy is what counts, should the original change meanwhile.
        status = verify_backup(part)
        os.truncate(part, status.size_bytes - TRAILER_BYTES)
        _adjust(part, facts or {}, clear_tables)
        fd = files.open(str(part))
        try:
            files.sync(fd)
        finally:
            files.close(fd)
        files.rename(str(part), str(target))
        files.sync_directory(str(target.parent))
    except OSError as error:
        if is_no_space(error):
            discard(files, str(part))
        raise translate(error, f"restoring {target}") from error
    except sqlite3.Error as error:
        raise translate_sqlite(error, f"restoring {target}") from error
    return status


def _adjust(path: Path, facts: Mapping[str, object], clear_tables: tuple[str, ...]) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN")
        upsert = schema.insert_statement(schema.meta, "INSERT OR REPLACE")
        connection.executemany(upsert, [(name, encode_meta(fact)) for name, fact in facts.items()])
        for name in clear_tables:
            connection.execute(f"DELETE FROM {schema.RECORD_TABLES[name].name}")
        connection.execute("COMMIT")
