"""Connections to a state database: how it is opened, and what its errors mean.

Imports SQLAlchemy and aiosqlite.
"""

from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from sqlalchemy import URL, event, exc
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from coordinator.storage.errors import StorageError
from coordinator.storage.migrate import translate_sqlite

_PRAGMAS: Final = (
    "journal_mode = WAL",
    "synchronous = FULL",
    "busy_timeout = 10000",
    "cache_size = -16384",
    "temp_store = MEMORY",
    "trusted_schema = OFF",
)
_SCRATCH_PRAGMAS: Final = ("journal_mode = OFF", "synchronous = OFF", "cache_size = -16384")
_READING_PRAGMAS: Final = ("cache_size = -16384", "trusted_schema = OFF")


def open_engine(path: Path, *, is_scratch: bool = False) -> AsyncEngine:
    """Return an engine for a database.

    Args:
        path: The file.
        is_scratch: Whether the file is worthless until it is complete: nothing in it is protected
            against a crash, and the one who fills it makes it durable.
    """
    url = URL.create("sqlite+aiosqlite", database=str(path))
    return _engine(url, _SCRATCH_PRAGMAS if is_scratch else _PRAGMAS)


def open_immutable(path: Path) -> AsyncEngine:
    """Return an engine for a database that nobody writes to; it creates no file beside it."""
    query = {"immutable": "1", "uri": "true"}
    database = f"file:{quote(str(path))}"
    return _engine(URL.create("sqlite+aiosqlite", database=database, query=query), _READING_PRAGMAS)


def _engine(url: URL, pragmas: tuple[str, ...]) -> AsyncEngine:
    engine = create_async_engine(
        url,
        # Transactions are begun and ended in so many words, not by the driver's guess.
        isolation_level="AUTOCOMMIT",
        pool_size=4,
        max_overflow=-1,
        pool_reset_on_return=None,
    )

    def set_pragmas(connection: Any, _record: object) -> None:
        cursor = connection.cursor()
        for pragma in pragmas:
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    event.listen(engine.sync_engine, "connect", set_pragmas)
    return engine


def translate_state(error: exc.SQLAlchemyError, doing: str) -> StorageError:
    """Return the storage error for an error that came through SQLAlchemy."""
    return translate_sqlite(getattr(error, "orig", None) or error, doing)
