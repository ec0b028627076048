"""How a ledger file comes to be, and what is refused."""

import sqlite3
from contextlib import closing
from pathlib import Path

import peewee
import pytest

from supervisor.contract import EventType
from supervisor.ledger import Ledger, LedgerUnusable, NewerLedger, NewUpdate, Origin
from supervisor.ledger.migrations import LATEST, MIGRATIONS, Migration, applied, migrate
from supervisor.ledger.models import MODELS


def rows(path: Path, sql: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(sql).fetchall()


def test_migrations_are_numbered_without_a_gap() -> None:
    """1, 2, 3: the number of the last one is the schema's."""
    assert [step.number for step in MIGRATIONS] == list(range(1, LATEST + 1))


def test_a_new_ledger_records_its_migrations(tmp_path: Path) -> None:
    """Each step stands in the file with its number, name and time; opening again adds nothing."""
    path = tmp_path / "supervisor.db"
    for now in (100.0, 200.0):
        Ledger(path, clock=lambda now=now: now).close()  # type: ignore[misc]
    recorded = rows(path, "SELECT number, name, applied_at FROM schema_migrations")
    assert recorded == [(step.number, step.name, 100.0) for step in MIGRATIONS]


def test_the_file_is_in_wal_mode(tmp_path: Path) -> None:
    """Readers and the writer do not wait for each other."""
    Ledger(tmp_path / "supervisor.db").close()
    assert rows(tmp_path / "supervisor.db", "PRAGMA journal_mode") == [("wal",)]


def test_models_and_tables_have_the_same_columns(tmp_path: Path) -> None:
    """What the migrations make is what the code reads and writes, nulls and keys included."""
    path = tmp_path / "supervisor.db"
    Ledger(path).close()
    for model in MODELS:
        meta = model._meta
        made = {
            (name, not required, bool(key))
            for _, name, _, required, _, key in rows(path, f"PRAGMA table_info({meta.table_name})")
        }
        told = {(f.column_name, f.null, f.primary_key) for f in meta.sorted_fields}
        assert made == told, meta.table_name
    tables = {name for (name,) in rows(path, "SELECT name FROM sqlite_master WHERE type = 'table'")}
    own = {"sqlite_sequence", "schema_migrations"}  # SQLite's for ids that never come again, and ours
    assert tables == {model._meta.table_name for model in MODELS} | own


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE events SET payload = '{}'",
        "UPDATE events SET id = id + 1",
        "DELETE FROM events",
        "INSERT OR REPLACE INTO events SELECT id, 0, NULL, 'x', '{}' FROM events",
        "REPLACE INTO events SELECT id, 0, NULL, 'x', '{}' FROM events",
        "INSERT INTO events SELECT * FROM events WHERE true ON CONFLICT (id) DO UPDATE SET payload = ''",
    ],
)
def test_events_are_append_only(tmp_path: Path, change: str) -> None:
    """The file itself refuses to change or drop an event, whoever asks."""
    path = tmp_path / "supervisor.db"
    with Ledger(path) as ledger:
        ledger.append(EventType.PROCESS_STARTED, {"role": "supervisor"})
    before = rows(path, "SELECT * FROM events")
    with closing(sqlite3.connect(path)) as connection:
        with pytest.raises(sqlite3.IntegrityError, match="events are append-only"):
            connection.execute(change)
        connection.commit()
    assert rows(path, "SELECT * FROM events") == before


@pytest.mark.fault(
    11,
    what="refused; not a byte is changed",
    user="one line that names both versions",
    within="at once",
)
@pytest.mark.parametrize("alive", [False, True])
def test_a_newer_ledger_is_refused_and_not_touched(tmp_path: Path, alive: bool) -> None:
    """For writing and for reading, with and without a log beside it: one line, not a byte changed."""
    path = tmp_path / "supervisor.db"
    with Ledger(path) as ledger:
        ledger.create(NewUpdate(origin=Origin.CLI))
    newer = sqlite3.connect(path, isolation_level=None)
    newer.execute("INSERT INTO schema_migrations VALUES (?, 'from the future', 0)", (LATEST + 3,))
    if not alive:
        newer.close()
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir() if not file.name.endswith("-shm")}
    for opened in (Ledger, Ledger.read_only):
        with pytest.raises(NewerLedger) as told:
            opened(path)
        assert (told.value.found, told.value.known) == (LATEST + 3, LATEST)
        assert str(told.value) == (
            f"cannot use the ledger {path}: a newer version wrote it"
            f" (its schema is number {LATEST + 3}, this version knows up to {LATEST})"
        )
    after = {file.name: file.read_bytes() for file in tmp_path.iterdir() if not file.name.endswith("-shm")}
    newer.close()
    assert after == before


def test_a_file_that_was_never_set_up_is_not_read(tmp_path: Path) -> None:
    """A reader that comes before the first migration says what to do; the writer then sets it up."""
    path = tmp_path / "supervisor.db"
    path.touch()
    with pytest.raises(LedgerUnusable, match="start the supervisor first"):
        Ledger.read_only(path)
    Ledger(path).close()
    Ledger.read_only(path).close()


@pytest.mark.fault(
    41,
    what="an older ledger is brought up and what was in hand goes on; a newer one is refused",
    user="nothing, or one line",
    within="at the start",
)
def test_only_missing_steps_are_taken(tmp_path: Path) -> None:
    """A file at step 1 gets step 2 alone, and keeps what it has."""
    database = peewee.SqliteDatabase(str(tmp_path / "x.db"), lock_type="IMMEDIATE")
    one = Migration(1, "one", ("CREATE TABLE t (x)", "INSERT INTO t VALUES (1)"))
    two = Migration(2, "two", ("ALTER TABLE t ADD COLUMN y",))
    migrate(database, lambda: 0.0, (one,))
    migrate(database, lambda: 0.0, (one, two))
    migrate(database, lambda: 0.0, (one, two))
    assert applied(database) == 2
    assert database.execute_sql("SELECT x, y FROM t").fetchall() == [(1, None)]  # type: ignore[no-untyped-call]
    database.close()


def test_a_step_that_fails_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    """All pending steps are one transaction."""
    database = peewee.SqliteDatabase(str(tmp_path / "x.db"), lock_type="IMMEDIATE")
    one = Migration(1, "one", ("CREATE TABLE t (x)",))
    bad = Migration(2, "bad", ("CREATE TABLE u (x)", "CREATE TABLE t (x)"))
    with pytest.raises(peewee.OperationalError, match="already exists"):
        migrate(database, lambda: 0.0, (one, bad))
    assert database.get_tables() == []
    migrate(database, lambda: 0.0, (one,))
    assert applied(database) == 1
    database.close()
