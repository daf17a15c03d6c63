"""Runs the migrations of the state database, for the program and for the command line.

The program names the database in `config.attributes["path"]`; on the command line it is
`alembic -x path=state.db upgrade head`.
"""

import asyncio

from alembic import context
from sqlalchemy import URL, Connection, event, pool
from sqlalchemy.ext.asyncio import create_async_engine

from coordinator.storage.schema import metadata


def database_url() -> URL:
    """Return the address of the database; its path may hold any character."""
    path = (
        context.config.attributes.get("path") or context.get_x_argument(as_dictionary=True)["path"]
    )
    return URL.create("sqlite+aiosqlite", database=str(path))


def configure(connection: Connection | None = None) -> None:
    """Set the options that all ways of running share."""
    context.configure(
        connection=connection,
        url=None if connection else database_url(),
        dialect_name=None if connection else "sqlite",
        target_metadata=metadata,
        render_as_batch=True,
        # SQLite can roll back changes of the schema, once the driver is kept from
        # committing behind our back: a migration happens as a whole or not at all.
        transactional_ddl=True,
        transaction_per_migration=True,
        literal_binds=connection is None,
    )


def run(connection: Connection) -> None:
    """Run the migrations on an open connection."""
    configure(connection)
    with context.begin_transaction():
        context.run_migrations()


async def run_online() -> None:
    """Open the database and run the migrations."""
    engine = create_async_engine(
        database_url(), poolclass=pool.NullPool, connect_args={"isolation_level": None}
    )
    event.listen(
        engine.sync_engine,
        "begin",
        lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"),
    )
    async with engine.connect() as connection:
        await connection.run_sync(run)
    await engine.dispose()


if context.is_offline_mode():
    configure()
    with context.begin_transaction():
        context.run_migrations()
else:
    asyncio.run(run_online())
