"""Bringing a state database to the schema of this release.

Imports Alembic only when there is something to migrate: a start with an up-to-date database must
not pay for it. The scripts lie beside the package in a checkout and inside it in a wheel.

Invariants: a database of an unknown revision is refused and left alone; a migration that stops half
way leaves the old schema.
"""

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from coordinator.storage.errors import (
    REMEDY,
    NoSpace,
    SchemaTooNew,
    StateDamaged,
    StorageError,
    StorageFailed,
)
from coordinator.storage.files import FILE_MODE
from coordinator.storage.schema import SCHEMA_HEAD, SCHEMA_REVISIONS, create_statements

if TYPE_CHECKING:
    from alembic.config import Config

_PACKAGE: Final = Path(__file__).resolve().parent.parent


def migrations_directory() -> Path:
    """Return the folder of the migration scripts, of the wheel or else of the checkout.

    Raises:
        StorageFailed: Neither is there: the installation is incomplete.
    """
    for folder in (_PACKAGE / "_alembic", _PACKAGE.parent / "alembic"):
        if (folder / "env.py").is_file():
            return folder
    raise StorageFailed("the migration scripts are missing: install the package again")


def translate_sqlite(error: BaseException | None, doing: str) -> StorageError:
    """Return the storage error for an error of SQLite.

    Args:
        error: What the driver raised.
        doing: What was tried, as in "writing the state database".
    """
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_FULL:
        return NoSpace(f"no space left while {doing}: {error}")
    # SQLITE_ERROR: our statements are right, so a table or a column is missing.
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR):
        return StateDamaged(f"{doing} failed: {error}; {REMEDY}")
    if code == sqlite3.SQLITE_IOERR:
        return StorageFailed(f"{doing} failed: {error}; the disk may be full, or it fails")
    return StorageFailed(f"{doing} failed: {error}")


def create_private_file(path: Path) -> None:
    """Create an empty file of mode 0600 unless there is a file; SQLite would ask the umask."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE))


def create_schema(connection: sqlite3.Connection) -> None:
    """Give an empty database the newest schema, in one transaction."""
    connection.execute("BEGIN IMMEDIATE")
    for statement in create_statements():
        connection.execute(statement)
    connection.execute("COMMIT")


def connect_immutable(path: str | os.PathLike[str]) -> sqlite3.Connection:
    """Open a database that nobody writes to, without creating any file beside it."""
    return sqlite3.connect(f"file:{quote(os.fspath(path))}?immutable=1", uri=True)


def schema_revision(path: str | os.PathLike[str], *, is_immutable: bool = False) -> str | None:
    """Return the schema revision of a database; None if it is empty or absent.

    Args:
        path: The database.
        is_immutable: Whether nobody writes to it, so that no file beside it is needed.

    Raises:
        StateDamaged: The file is not a state database.
        StorageFailed: It cannot be read.
    """
    if not Path(path).exists():
        return None
    try:
        connect = connect_immutable if is_immutable else sqlite3.connect
        with closing(connect(path)) as connection:
            return _revision(connection, path)
    except sqlite3.Error as error:
        raise translate_sqlite(error, f"reading {os.fspath(path)}") from error


def _revision(connection: sqlite3.Connection, path: str | os.PathLike[str]) -> str | None:
    names = {row[0] for row in connection.execute("SELECT name FROM sqlite_master")}
    if not names:
        return None
    rows = []
    if "alembic_version" in names:
        rows = connection.execute("SELECT version_num FROM alembic_version").fetchall()
    if len(rows) != 1:
        raise StateDamaged(
            f"{os.fspath(path)} is not a state database: it names no schema revision"
        )
    return str(rows[0][0])


def upgrade(path: str | os.PathLike[str], revision: str = SCHEMA_HEAD) -> None:
    """Create a state database, or bring it up to date. Blocks; not for a running event loop.

    Args:
        path: The database; its folder must exist.
        revision: The schema revision to reach.

    Raises:
        SchemaTooNew: A newer release wrote it; it has not been touched.
        StateDamaged: The file is not a state database.
        NoSpace: The disk is full; the old schema is still in place.
        StorageFailed: The database could not be written.
    """
    found = schema_revision(path)
    if found is None:
        _create(Path(path))
        return
    if found not in SCHEMA_REVISIONS:
        raise SchemaTooNew(os.fspath(path), found, SCHEMA_HEAD)
    if SCHEMA_REVISIONS.index(found) < SCHEMA_REVISIONS.index(revision):
        run_migrations(path, revision)


def _create(path: Path) -> None:
    try:
        create_private_file(path)
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("PRAGMA journal_mode = WAL").close()
            connection.execute("PRAGMA synchronous = FULL").close()
            create_schema(connection)
    except sqlite3.Error as error:
        raise translate_sqlite(error, f"creating {path}") from error
    except OSError as error:
        raise StorageFailed(f"creating {path} failed: {error}") from error


def run_migrations(path: str | os.PathLike[str], revision: str, *, down: bool = False) -> None:
    """Run migration scripts, each in a transaction of its own.

    Args:
        path: An existing database.
        revision: The schema revision to reach, or "base" for none.
        down: Whether the way there leads back.

    Raises:
        NoSpace: The disk is full.
        StorageFailed: A script failed; the database has the revision reached before.
    """
    from alembic import command

    config = alembic_config(path)
    try:
        (command.downgrade if down else command.upgrade)(config, revision)
    except Exception as error:
        cause = getattr(error, "orig", error)
        raise translate_sqlite(cause, f"migrating {os.fspath(path)}") from error


def alembic_config(path: str | os.PathLike[str]) -> "Config":
    """Return the Alembic configuration for one database.

    The address travels in `attributes`, where a percent sign needs no escape.
    """
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(migrations_directory()).replace("%", "%%"))
    config.attributes["path"] = os.fspath(path)
    return config
