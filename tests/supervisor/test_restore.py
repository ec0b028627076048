"""The state as it was, with what came since: on a worker's real database, with no engine."""

import itertools
import os
import shutil
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from supervisor.agent_db.backup import backup
from supervisor.agent_db.restore import REPLACED, NoSnapshot, Restored, check_snapshot, restore
from supervisor.contract import EventType
from tests.worker.support import open_store
from worker.commander.base import Incoming, UpdateKind
from worker.models.base import Message, Speaker
from worker.store import InboxStatus, Store
from worker.store.outbox import ReplyKind

CHAT = 7


class Home:
    """A worker's database, a snapshot of it, and the place where what is replaced is kept."""

    def __init__(self, directory: Path) -> None:
        self.agent_db = directory / "state" / "agent.db"
        self.kept = directory / "snapshots"
        self.snapshot = self.kept / "tx.db"
        self.kept.mkdir()

    @contextmanager
    def store(self, epoch: int) -> Iterator[Store]:
        store = open_store(self.agent_db)
        store.lease.take(epoch)
        yield store
        store.close()

    def restore(self) -> Restored:
        return restore(self.agent_db, self.snapshot, self.kept, about={"tx_id": "tx"}, clock=time.time)

    def rows(self, sql: str, path: Path | None = None) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(path or self.agent_db)) as connection:
            return connection.execute(sql).fetchall()


def receive(store: Store, number: int, text: str) -> None:
    update = Incoming(number, UpdateKind.MESSAGE, CHAT, CHAT, True, text, None)
    store.inbox.add("bot", update, kind="message", text=text, status=InboxStatus.QUEUED)


def answer(store: Store, text: str) -> None:
    task = store.inbox.claim(CHAT)
    assert task is not None
    store.history.add(CHAT, Message(Speaker.USER, task.text), Message(Speaker.ASSISTANT, text), inbox_id=task.id)
    store.outbox.add(CHAT, text, kind=ReplyKind.ANSWER, inbox_id=task.id)
    store.inbox.done(task)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """Before the snapshot one message was answered and one waited; since then that was answered, and two came."""
    made = Home(tmp_path)
    with made.store(1) as store:
        receive(store, 1, "first")
        answer(store, "re: first")
        receive(store, 2, "second")
        backup(made.agent_db, made.snapshot)
    with made.store(2) as store:
        answer(store, "re: second")
        receive(store, 3, "third")
        answer(store, "re: third")
        receive(store, 4, "fourth")
        store.events.append(EventType.REPLY_SENT, {"chat_id": CHAT}, parent_id=None)
    return made


def test_what_came_since_is_carried_across(home: Home) -> None:
    """What was answered since is not answered again, what waits is still to be answered, and nothing is there twice."""
    restored = home.restore()
    assert restored.carried == {"events": 1, "inbox": 3, "history": 4, "outbox": 2}
    statuses = [("first", "done"), ("second", "done"), ("third", "done"), ("fourth", "queued")]
    assert home.rows("SELECT text, status FROM inbox ORDER BY id") == statuses
    said = [(f"{who}{text}",) for text in ("first", "second", "third") for who in ("", "re: ")]
    assert home.rows("SELECT text FROM history ORDER BY id") == said
    assert home.rows("PRAGMA foreign_key_check") == []
    pending = [(f"re: {text}", "pending") for text in ("first", "second", "third")]
    assert home.rows("SELECT text, status FROM outbox ORDER BY id") == pending
    with home.store(3) as store:
        assert store.inbox.offset("bot") == 5
        answer(store, "re: fourth")
    ((payload,),) = home.rows("SELECT payload FROM events WHERE event_type = 'state.restored'")
    assert '"tx_id":"tx"' in payload


def test_everything_else_is_as_it_was(home: Home) -> None:
    """What a revision did to older words, to other tables and to the schema is undone; what was replaced is kept."""
    with closing(sqlite3.connect(home.agent_db)) as connection:
        connection.executescript(
            "UPDATE history SET text = 'spoilt' WHERE id = 1; UPDATE chats SET context_after = 99;"
            "CREATE TABLE moods (id INTEGER PRIMARY KEY);"
            "ALTER TABLE inbox ADD COLUMN mood TEXT NOT NULL DEFAULT 'bad';"
            "CREATE TRIGGER t BEFORE INSERT ON inbox BEGIN SELECT RAISE(ABORT, 'broken'); END"
        )
    home.restore()
    assert home.rows("SELECT text FROM history WHERE id = 1") == [("first",)]
    assert home.rows("SELECT name FROM sqlite_master WHERE name IN ('moods', 't')") == []
    assert len(home.rows("SELECT * FROM inbox")) == 4
    assert home.rows("SELECT text FROM history WHERE id = 1", home.kept / REPLACED) == [("spoilt",)]


def recalled(store: Store) -> set[int]:
    """The messages that the words of the first two lead to."""
    while store.words.catch_up(10):
        pass
    found = [found.history_id for found in store.words.find(CHAT, "first", limit=9)]
    return {message.history_id for message in store.words.messages(CHAT, found)}


def test_what_was_forgotten_since_is_not_recalled_again(home: Home) -> None:
    """The snapshot still had it, in each index; the history keeps it, as it does after every `/forget`."""
    with home.store(3) as store:
        assert recalled(store) == {1, 2}
        for history_id in (1, 2):
            store.database.execute("INSERT INTO recall_codes VALUES (?, ?, x'00')", (history_id, CHAT))
            store.database.execute("INSERT INTO recall_vectors VALUES (?, ?, 'm', x'00')", (history_id, CHAT))
        home.snapshot.unlink()
        backup(home.agent_db, home.snapshot)
        assert store.words.forget(CHAT, 1)
    assert home.restore().carried == {"recall_forgotten": 1}
    for table in ("recall_codes", "recall_vectors"):
        assert home.rows(f"SELECT history_id FROM {table}") == [(2,)]
    with home.store(4) as store:
        assert recalled(store) == {2}
    assert home.rows("SELECT text FROM history WHERE id = 1") == [("first",)]


@pytest.mark.parametrize("without", ["", "CREATE TABLE recall_forgotten (a); CREATE TABLE recall_vectors (b);"])
def test_a_snapshot_with_no_place_for_what_was_forgotten(home: Home, without: str) -> None:
    """Of another revision, which knew none or did it otherwise; the rest is carried all the same."""
    gone = "DROP TABLE recall_forgotten; DROP TABLE recall_codes; DROP TABLE recall_vectors;"
    with closing(sqlite3.connect(home.snapshot)) as connection:
        connection.executescript(gone + without)
    with home.store(3) as store:
        assert store.words.forget(CHAT, 1)
    assert home.restore().carried == {"events": 1, "inbox": 3, "history": 4, "outbox": 2}


def test_what_was_answered_while_the_clock_was_back_is_not_answered_again(home: Home) -> None:
    """A row that both have is taken from the database that went on with it, whatever the times say."""
    with closing(sqlite3.connect(home.agent_db)) as connection:
        for table in ("inbox", "outbox"):
            connection.execute(f"UPDATE {table} SET updated_at = updated_at - 3600 WHERE id > 1")
        connection.execute("UPDATE outbox SET status = 'sent', updated_at = updated_at - 3600 WHERE id = 1")
        connection.commit()
    home.restore()
    statuses = [("first", "done"), ("second", "done"), ("third", "done"), ("fourth", "queued")]
    assert home.rows("SELECT text, status FROM inbox ORDER BY id") == statuses
    assert home.rows("SELECT status FROM outbox ORDER BY id") == [("sent",), ("pending",), ("pending",)]


TABLES = ("inbox", "history", "outbox")


def content(home: Home) -> list[list[tuple[Any, ...]]]:
    """All that a restore carries, from a database that is whole."""
    assert home.rows("PRAGMA integrity_check") == [("ok",)]
    events = home.rows(f"SELECT id FROM events WHERE event_type != '{EventType.STATE_RESTORED}' ORDER BY id")
    return [*(home.rows(f"SELECT * FROM {table} ORDER BY id") for table in TABLES), events]


#: The steps of a restore, one after the other.
STEPS = ("restore", "_carry", "_set_aside", "backup")


def dies_at(home: Home, moment: int) -> bool:
    """Restore in a process that is gone, without any clean-up, at so many lines of its steps; whether it came there."""
    if (pid := os.fork()) == 0:
        lines: set[tuple[str, int]] = set()

        def at_line(frame: FrameType, event: str, _: object) -> Any:
            if frame.f_code.co_name not in STEPS or "agent_db" not in frame.f_code.co_filename:
                return None
            lines.add((frame.f_code.co_filename, frame.f_lineno))
            if event == "line" and len(lines) > moment:
                os._exit(9)
            return at_line

        sys.settrace(at_line)
        try:
            home.restore()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 9


def test_killed_at_any_moment_it_has_changed_nothing_or_all(home: Home, tmp_path: Path) -> None:
    """And what it leaves lying about does not spoil the next attempt."""
    with closing(sqlite3.connect(home.agent_db)) as connection:
        connection.executescript("UPDATE history SET text = 'spoilt' WHERE id = 1")
    before, directory = content(home), home.kept.parent
    pristine = tmp_path / "pristine"
    for part in ("state", "snapshots"):
        shutil.copytree(directory / part, pristine / part)
    home.restore()
    after = content(home)
    ends: list[bool] = []
    for moment in itertools.count():
        for part in ("state", "snapshots"):
            shutil.rmtree(directory / part)
            shutil.copytree(pristine / part, directory / part)
        if not dies_at(home, moment):
            break
        found = content(home)
        assert found in (before, after), moment
        ends.append(found == after)
        if moment % 3 == 0:
            home.restore()
            assert content(home) == after, moment
    assert ends == sorted(ends)
    assert before != after


def test_the_log_of_one_that_was_killed_is_not_taken_for_this_ones(home: Home) -> None:
    """It may be of another snapshot, and what it says of pages would spoil this one."""
    log = home.agent_db.with_name(f"{home.agent_db.name}-wal")
    with home.store(3) as store:
        for number in range(5, 20):
            receive(store, number, "of another time " * 100)
        left = log.read_bytes()
    assert left
    with closing(sqlite3.connect(home.agent_db)) as connection:
        connection.executescript("DELETE FROM inbox WHERE id > 4; VACUUM")
    home.agent_db.with_name(f"{home.agent_db.name}.restored-wal").write_bytes(left)
    home.restore()
    assert home.rows("PRAGMA integrity_check") == [("ok",)]
    assert [text for (text,) in home.rows("SELECT text FROM inbox ORDER BY id")] == [
        "first",
        "second",
        "third",
        "fourth",
    ]


def destroyed(home: Home) -> None:
    home.agent_db.write_bytes(b"no database at all" * 1000)


def without_inbox(home: Home) -> None:
    with closing(sqlite3.connect(home.agent_db)) as connection:
        connection.executescript("PRAGMA foreign_keys = OFF; DROP TABLE inbox")


def missing(home: Home) -> None:
    home.agent_db.unlink()


@pytest.mark.parametrize("spoil", [destroyed, without_inbox, missing])
def test_a_state_that_cannot_be_read_is_replaced_and_kept(home: Home, spoil: Callable[[Home], None]) -> None:
    """Nothing can be carried across then, which is told."""
    spoil(home)
    there = home.agent_db.exists()
    restored = home.restore()
    assert restored.carried == {}
    assert str(home.agent_db) in restored.lost
    assert [text for (text,) in home.rows("SELECT text FROM inbox ORDER BY id")] == ["first", "second"]
    assert (home.kept / REPLACED).exists() == there
    with home.store(3) as store:
        answer(store, "re: second")


def test_a_snapshot_that_is_none_changes_nothing(home: Home) -> None:
    """Damaged, empty or gone: one line, and the state is as it was."""
    before = home.rows("SELECT * FROM inbox")
    for content in (b"x" * 4096, None):
        home.snapshot.unlink()
        if content is not None:
            home.snapshot.write_bytes(content)
        with pytest.raises(NoSnapshot) as refused:
            check_snapshot(home.snapshot)
        assert "\n" not in str(refused.value)
        with pytest.raises(NoSnapshot):
            home.restore()
        assert home.rows("SELECT * FROM inbox") == before
    assert sorted(path.name for path in home.agent_db.parent.iterdir() if "restored" in path.name) == []
