"""The tables of the state database.

Imports SQLAlchemy; the one list of tables that the store, the migrations, snapshots and backups
share. All rows are replicated state: the same on every member that applied the same entries.

To add a table of records: one line in `RECORD_TABLES`, one migration.
"""

from typing import Any, Final

from sqlalchemy import Column, Integer, LargeBinary, MetaData, Table, Text
from sqlalchemy.dialects import sqlite
from sqlalchemy.schema import CreateTable

SCHEMA_REVISIONS: Final = ("0001", "0002")
"""All migrations, oldest first; checked against the scripts by a test."""

SCHEMA_HEAD: Final = SCHEMA_REVISIONS[-1]

metadata: Final = MetaData(
    naming_convention={
        "ix": "ix_%(column_0_label)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

versions: Final = Table(
    "versions",
    metadata,
    Column("mod_revision", Integer, primary_key=True, autoincrement=False),
    Column("sub", Integer, primary_key=True, autoincrement=False),
    Column("space", Integer, nullable=False),
    Column("key", LargeBinary, nullable=False),
    Column("create_revision", Integer, nullable=False),
    Column("version", Integer, nullable=False),
    Column("lease", Integer, nullable=False),
    Column("value", LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)
"""Every retained version of every key. `version` 0 marks a deletion, with an empty value."""

meta: Final = Table(
    "meta",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)
"""Single facts, in MessagePack: applied_index, revision, chain, …"""


def _record_table(name: str, key: str, key_type: Any) -> Table:
    return Table(
        name,
        metadata,
        Column(key, key_type, primary_key=True, autoincrement=False),
        Column("data", LargeBinary, nullable=False),
        sqlite_with_rowid=False,
    )


RECORD_TABLES: Final[dict[str, Table]] = {
    str(table.name): table
    for table in (
        _record_table("leases", "id", Integer),
        _record_table("timers", "key", LargeBinary),
        _record_table("requests", "client", Integer),
        _record_table("members", "id", Integer),
        _record_table("users", "name", Text),
        _record_table("roles", "name", Text),
        _record_table("alarms", "key", LargeBinary),
        _record_table("api_keys", "id", Integer),
        _record_table("audit", "revision", Integer),
    )
}
"""Tables of one key and one opaque value: what is not keyed by revision."""

_VERSION_TABLE: Final = (
    "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL, "
    "CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num))"
)


def create_statements() -> list[str]:
    """Return the SQL that gives an empty database the newest schema, marked as such."""
    dialect = sqlite.dialect()
    tables = [str(CreateTable(table).compile(dialect=dialect)) for table in metadata.sorted_tables]
    mark = f"INSERT INTO alembic_version (version_num) VALUES ('{SCHEMA_HEAD}')"
    return [*tables, _VERSION_TABLE, mark]


def insert_statement(table: Table, verb: str = "INSERT") -> str:
    """Return the SQL that inserts one whole row of a table; `verb` may say OR REPLACE."""
    marks = ", ".join("?" * len(table.columns))
    return f"{verb} INTO {table.name} ({', '.join(table.columns.keys())}) VALUES ({marks})"


def delete_statement(table: Table) -> str:
    """Return the SQL that deletes one row of a table by its primary key."""
    condition = " AND ".join(f"{column.name} = ?" for column in table.primary_key)
    return f"DELETE FROM {table.name} WHERE {condition}"


def select_statement(table: Table) -> str:
    """Return the SQL that reads all rows of a table in the order of its primary key."""
    order = ", ".join(column.name for column in table.primary_key)
    return f"SELECT {', '.join(table.columns.keys())} FROM {table.name} ORDER BY {order}"
