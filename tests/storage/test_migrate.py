"""The schema of the state database and the way to it."""

import asyncio
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine

from coordinator.storage import migrate
from coordinator.storage.errors import NoSpace, SchemaTooNew, StateDamaged, StorageFailed
from coordinator.storage.schema import SCHEMA_HEAD, SCHEMA_REVISIONS, metadata


def tables(path: Path) -> dict[str, str]:
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL")
        return {
            name: " ".join(sql.split()).replace("( ", "(").replace(" )", ")") for name, sql in rows
        }


def execute(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(statement)


def migrated(path: Path, revision: str = "head") -> Path:
    """Make a database with the migration scripts alone."""
    path.touch()
    migrate.run_migrations(path, revision)
    return path


def test_revisions_are_those_of_the_scripts(tmp_path: Path):
    """The list of known revisions is the chain of migration scripts."""
    scripts = ScriptDirectory.from_config(migrate.alembic_config(tmp_path / "x.db"))
    chain = [script.revision for script in scripts.walk_revisions()]
    assert tuple(reversed(chain)) == SCHEMA_REVISIONS
    assert scripts.get_heads() == [SCHEMA_HEAD]


def test_short_cut_and_scripts_lead_to_the_same_schema(tmp_path: Path):
    """A new database made at once equals one made by all the migrations in turn."""
    migrate.upgrade(tmp_path / "new.db")
    migrated(tmp_path / "old.db")
    assert tables(tmp_path / "new.db") == tables(tmp_path / "old.db")
    assert migrate.schema_revision(tmp_path / "new.db") == SCHEMA_HEAD


def test_scripts_lead_to_the_declared_tables(tmp_path: Path):
    """Nothing differs between the tables that the program declares and a migrated database."""
    path = migrated(tmp_path / "state.db")
    engine = create_engine(f"sqlite:///{path}")
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []
    engine.dispose()


def test_stairway(tmp_path: Path):
    """Every migration can be taken up, down and up again, and down undoes up."""
    path = tmp_path / "state.db"
    path.touch()
    before = "base"
    for revision in SCHEMA_REVISIONS:
        schema_before = tables(path)
        migrate.run_migrations(path, revision)
        schema_after = tables(path)
        migrate.run_migrations(path, before, down=True)
        lower = {name: sql for name, sql in tables(path).items() if name != "alembic_version"}
        assert lower == {k: v for k, v in schema_before.items() if k != "alembic_version"}
        migrate.run_migrations(path, revision)
        assert tables(path) == schema_after
        before = revision


def test_current_database_is_left_alone(tmp_path: Path):
    """Bringing an up-to-date database up to date changes nothing and does not import Alembic."""
    path = tmp_path / "state.db"
    migrate.upgrade(path)
    content = path.read_bytes()
    code = (
        "import sys\n"
        "from coordinator.storage import migrate, state\n"
        "migrate.upgrade(sys.argv[1])\n"
        "print([name for name in sys.modules if name.startswith('alembic')])\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, str(path)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
    )
    assert result.stdout == "[]\n"
    assert path.read_bytes() == content


def test_database_is_private(tmp_path: Path):
    """A new database, and the files SQLite puts beside it, can be read by nobody else."""
    path = tmp_path / "state.db"
    before = os.umask(0)
    try:
        migrate.upgrade(path)
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("INSERT INTO meta VALUES ('a', x'00')")
            connection.commit()
            modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in tmp_path.iterdir()}
    finally:
        os.umask(before)
    assert modes == {"state.db": 0o600, "state.db-wal": 0o600, "state.db-shm": 0o600}


def test_newer_schema_is_refused(tmp_path: Path):
    """A database of an unknown revision is refused, with both revisions and a way out."""
    path = tmp_path / "state.db"
    migrate.upgrade(path)
    execute(path, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(SchemaTooNew, match=rf"9999.*{SCHEMA_HEAD}.*newer release") as raised:
        migrate.upgrade(path)
    assert (raised.value.found, raised.value.known) == ("9999", SCHEMA_HEAD)
    assert migrate.schema_revision(path) == "9999"


def test_other_databases_are_refused(tmp_path: Path):
    """A file that is no database, or a database of something else, is refused."""
    (tmp_path / "text").write_bytes(b"no database at all" * 100)
    execute(tmp_path / "other.db", "CREATE TABLE things (id INTEGER)")
    for name in ("text", "other.db"):
        with pytest.raises(StateDamaged):
            migrate.upgrade(tmp_path / name)


def test_interrupted_first_start_is_repeated(tmp_path: Path):
    """An empty file, left by a start that was interrupted, becomes a database."""
    (tmp_path / "state.db").touch()
    migrate.upgrade(tmp_path / "state.db")
    assert migrate.schema_revision(tmp_path / "state.db") == SCHEMA_HEAD


def test_missing_folder_is_reported(tmp_path: Path):
    """A database cannot be made in a folder that does not exist."""
    with pytest.raises(StorageFailed):
        migrate.upgrade(tmp_path / "nowhere" / "state.db")


@pytest.fixture
def scripts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the scripts to which a test may add."""
    folder = tmp_path / "scripts"
    shutil.copytree(migrate.migrations_directory(), folder)
    monkeypatch.setattr(migrate, "migrations_directory", lambda: folder)
    monkeypatch.setattr(migrate, "SCHEMA_REVISIONS", (*SCHEMA_REVISIONS, "next"))
    return folder


def add_script(folder: Path, body: str) -> None:
    (folder / "versions" / "next.py").write_text(
        "from alembic import op\n"
        f"revision = 'next'\ndown_revision = {SCHEMA_HEAD!r}\n"
        f"def upgrade():\n    {body}\n"
        "def downgrade():\n    pass\n"
    )


def test_old_database_is_migrated(tmp_path: Path, scripts: Path):
    """A database of an earlier revision is brought up to date, with its rows, by the scripts."""
    path = tmp_path / "100%_state.db"
    migrate.upgrade(path)
    execute(path, "INSERT INTO users VALUES ('root', x'01')")
    add_script(scripts, "op.execute('CREATE TABLE more (id INTEGER)')")
    migrate.upgrade(path, "next")
    assert "more" in tables(path)
    assert migrate.schema_revision(path) == "next"
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT * FROM users").fetchall() == [("root", b"\x01")]


def test_failing_migration_changes_nothing(tmp_path: Path, scripts: Path):
    """A migration that fails in the middle leaves the schema it found."""
    path = tmp_path / "state.db"
    migrate.upgrade(path)
    before = tables(path)
    add_script(
        scripts,
        "op.execute('CREATE TABLE more (id INTEGER)'); op.drop_table('users'); "
        "op.execute('NONSENSE')",
    )
    with pytest.raises(StateDamaged, match="NONSENSE"):
        migrate.upgrade(path, "next")
    assert tables(path) == before
    assert migrate.schema_revision(path) == SCHEMA_HEAD


async def test_migration_runs_beside_a_running_loop(tmp_path: Path, scripts: Path):
    """A migration can run in a thread while an event loop runs."""
    path = tmp_path / "state.db"
    await asyncio.to_thread(migrate.upgrade, path)
    add_script(scripts, "op.execute('CREATE TABLE more (id INTEGER)')")
    await asyncio.to_thread(migrate.upgrade, path, "next")
    assert "more" in tables(path)


def test_scripts_of_the_wheel_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The scripts inside an installed package are preferred; without any, the error says so."""
    package = tmp_path / "site" / "coordinator"
    package.mkdir(parents=True)
    monkeypatch.setattr(migrate, "_PACKAGE", package)
    with pytest.raises(StorageFailed, match="install the package again"):
        migrate.migrations_directory()
    for folder in (package.parent / "alembic", package / "_alembic"):
        folder.mkdir()
        (folder / "env.py").touch()
        assert migrate.migrations_directory() == folder


def test_errors_of_sqlite_are_told_apart():
    """A full disk, a damaged file and anything else become different errors."""

    def error(code: int) -> Any:
        error = sqlite3.OperationalError("why")
        error.sqlite_errorcode = code
        return error

    for code, expected in (
        (sqlite3.SQLITE_FULL, NoSpace),
        (sqlite3.SQLITE_CORRUPT, StateDamaged),
        (sqlite3.SQLITE_NOTADB, StateDamaged),
        (sqlite3.SQLITE_IOERR_FSYNC, StorageFailed),
        (sqlite3.SQLITE_BUSY, StorageFailed),
    ):
        assert type(migrate.translate_sqlite(error(code), "x")) is expected
