"""What an exam's state holds before it, and what of that is gone after it; on the worker's own tables."""

import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from supervisor.gates.examstate import holdings, losses, prepare
from tests.worker.support import open_store
from worker.store import InboxStatus

TABLES = ["inbox", "history", "events"]


@pytest.fixture
def agent_db(tmp_path: Path) -> Path:
    """As a worker leaves it that has done nothing yet, and then seeded."""
    path = tmp_path / "agent.db"
    open_store(path).close()
    prepare(path)
    return path


def execute(agent_db: Path, *statements: str) -> None:
    with closing(sqlite3.connect(agent_db)) as database, database:
        for statement in statements:
            database.execute(statement)


def test_each_table_begins_with_something(agent_db: Path) -> None:
    """So that there is something to lose; one that has rows already gets no more."""
    before = holdings(agent_db)
    assert list(before) == TABLES
    assert all(held.rows > 0 for held in before.values())
    prepare(agent_db)
    assert holdings(agent_db) == before


def test_nothing_waits_in_it(tmp_path: Path) -> None:
    """A candidate is not kept from the exam by what its owner had written before."""
    path = tmp_path / "agent.db"
    store = open_store(path)
    columns = "(source, update_id, kind, chat_id, text, status, created_at, updated_at)"
    for number, status in enumerate(InboxStatus, start=1):
        execute(path, f"INSERT INTO inbox {columns} VALUES ('x', {number}, 'message', 1, 'hi', '{status}', 0, 0)")
    execute(
        path,
        "INSERT INTO outbox (chat_id, kind, text, status, parts_sent, error, created_at, updated_at)"
        " VALUES (1, 'answer', 'hello', 'pending', 0, '', 0, 0)",
        "INSERT INTO relays (chat_id, user_id, name, argument, created_at) VALUES (1, 1, 'rollback', 'a1', 0)",
        "INSERT INTO presses (data, user_id, chat_id, message_id, callback_id, created_at)"
        f" VALUES ('s:1', 1, 1, 1, '1', {time.time()})",
    )
    prepare(path)
    assert store.inbox.open_chats() == []
    assert store.outbox.pending_chats() == []
    assert store.relays.next((), among=False) is None
    assert store.presses.waiting() == []
    store.close()


@pytest.mark.parametrize("table", TABLES)
def test_what_is_gone_is_named(agent_db: Path, table: str) -> None:
    """Also of a table that is gone itself."""
    before = holdings(agent_db)
    execute(agent_db, "DROP TRIGGER events_no_delete", f"DELETE FROM {table}")
    assert losses(before, agent_db) == [f"1 of 1 rows of {table}"]
    execute(agent_db, f"DROP TABLE {table}")
    assert losses(before, agent_db) == [f"1 of 1 rows of {table}"]


@pytest.mark.parametrize(
    ("table", "change"),
    [
        ("inbox", "UPDATE inbox SET text = ''"),
        ("history", "UPDATE history SET chat_id = 1"),
        ("history", "UPDATE history SET role = 'assistant'"),
        ("events", "UPDATE events SET payload = '[]'"),
    ],
)
def test_rows_that_say_something_else_are_no_longer_there(agent_db: Path, table: str, change: str) -> None:
    """However many there are."""
    before = holdings(agent_db)
    execute(agent_db, "DROP TRIGGER events_no_update", change)
    assert losses(before, agent_db) == [f"what rows of {table} said"]


def test_what_comes_anew_makes_up_for_nothing(agent_db: Path) -> None:
    """New rows have later numbers; alone they are no loss."""
    more = "INSERT INTO history (chat_id, role, text, created_at) VALUES (1, 'user', 'more', 1)"
    before = holdings(agent_db)
    execute(agent_db, more)
    assert losses(before, agent_db) == []
    execute(agent_db, "DELETE FROM history WHERE chat_id = 0", more)
    assert losses(before, agent_db) == ["1 of 1 rows of history"]


def test_a_file_that_is_no_database_holds_nothing(tmp_path: Path) -> None:
    """It is left as it is, and the exam's other parts tell of it."""
    path = tmp_path / "agent.db"
    path.write_text("not a database")
    prepare(path)
    assert path.read_text() == "not a database"
    assert holdings(path) == {}
