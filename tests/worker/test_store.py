"""The database: migrations, fencing, append-only events, the offset."""

import json
import sqlite3
import time
from contextlib import suppress
from pathlib import Path

import pytest
from peewee import IntegrityError

from supervisor.contract import EventType, Redactor
from tests.worker.support import open_store
from worker.commander.base import Incoming, UpdateKind
from worker.models.base import Message, Speaker
from worker.store import Database, Fenced, InboxStatus, Store, StoreUnusable
from worker.store.migrations import MIGRATIONS


def incoming(update_id: int) -> Incoming:
    return Incoming(update_id, UpdateKind.MESSAGE, 1, 1, True, "hello", None)


def add(store: Store, update_id: int) -> int | None:
    return store.inbox.add("test", incoming(update_id), kind="message", text="hello", status=InboxStatus.QUEUED)


def test_migrations_run_once(tmp_path: Path) -> None:
    """Opening a database again applies nothing anew and keeps what is there."""
    path = tmp_path / "deep" / "agent.db"
    first = open_store(path)
    first.lease.take(3)
    first.close()
    second = open_store(path)
    assert second.schema_version == max(MIGRATIONS)
    assert second.lease.stored() == 3


def test_an_older_worker_lives_with_a_newer_database(tmp_path: Path) -> None:
    """What a later revision added does not stop this one from writing."""
    newer = Database(tmp_path / "agent.db", time.time)
    later = {**MIGRATIONS, 99: ("ALTER TABLE inbox ADD COLUMN mood TEXT NOT NULL DEFAULT 'calm'",)}
    assert newer.migrate(later) == 99
    newer.close()
    store = open_store(tmp_path / "agent.db")
    assert store.schema_version == 99
    store.lease.take(1)
    assert add(store, 1) is not None
    assert store.inbox.claim(1) is not None


def test_rows_of_a_newer_worker_do_no_harm(tmp_path: Path) -> None:
    """Roles and kinds that only a later revision knows are left out, or treated as the plainest."""
    store = open_store(tmp_path / "agent.db")
    store.lease.take(1)
    store.history.add(1, Message(Speaker.USER, "hello"))
    store.database.execute("INSERT INTO history (chat_id, role, text, created_at) VALUES (1, 'oracle', 'x', 0)")
    store.database.execute(
        "INSERT INTO outbox (chat_id, kind, text, status, created_at, updated_at)"
        " VALUES (1, 'card', 'a card', 'pending', 0, 0)"
    )
    assert store.history.recent(1, 5) == [Message(Speaker.USER, "hello")]
    reply = store.outbox.next(1)
    assert reply is not None
    assert reply.text == "a card"


def test_a_migration_while_another_worker_writes(tmp_path: Path) -> None:
    """Blue, with its file open, goes on writing after green has migrated it."""
    blue = open_store(tmp_path / "agent.db")
    blue.lease.take(1)
    green = Database(tmp_path / "agent.db", time.time)
    green.migrate({**MIGRATIONS, 99: ("CREATE TABLE extra (id INTEGER PRIMARY KEY)",)})
    assert add(blue, 1) is not None
    assert green.stored_epoch() == 1


def test_a_failed_migration_leaves_nothing_behind(tmp_path: Path) -> None:
    """A migration is applied whole or not at all, and the error is one line."""
    database = Database(tmp_path / "agent.db", time.time)
    with pytest.raises(StoreUnusable, match=r"AUTONOUS_DB_PATH=.*agent\.db"):
        database.migrate({**MIGRATIONS, 99: ("CREATE TABLE half (id INTEGER)", "CREATE TABLE")})
    assert database.migrate() == max(MIGRATIONS)
    tables = sqlite3.connect(tmp_path / "agent.db").execute("SELECT name FROM sqlite_master").fetchall()
    assert ("half",) not in tables


@pytest.mark.parametrize("epoch", [None, 1])
def test_writes_without_the_latest_lease_are_fenced(tmp_path: Path, epoch: int | None) -> None:
    """With no lease, or an outgrown one, nothing is written; events still are."""
    mine, other = open_store(tmp_path / "agent.db"), open_store(tmp_path / "agent.db")
    if epoch is not None:
        mine.lease.take(epoch)
        assert add(mine, 1) is not None
    other.lease.take(2)
    with pytest.raises(Fenced):
        add(mine, 2)
    with pytest.raises(Fenced):
        mine.outbox.add(1, "too late")
    with pytest.raises(Fenced):
        mine.lease.take(1)
    assert mine.events.append(EventType.AGENT_FAILED, {}) > 0
    assert other.outbox.pending_chats() == []
    assert other.inbox.counts() == ({} if epoch is None else {"queued": 1})


def test_a_transaction_is_all_or_nothing(tmp_path: Path) -> None:
    """An error inside a write takes back everything in it, events too."""
    store = open_store(tmp_path / "agent.db")
    store.lease.take(1)
    with suppress(ZeroDivisionError), store.write():
        add(store, 1)
        store.events.append(EventType.AGENT_STARTED, {})
        assert store.inbox.counts() == {"queued": 1}
        _ = 1 / 0
    assert store.inbox.counts() == {}
    assert sqlite3.connect(tmp_path / "agent.db").execute("SELECT * FROM events").fetchall() == []


def test_events_are_append_only_compact_and_redacted(tmp_path: Path) -> None:
    """An event can be neither changed nor deleted; its payload has no spaces and no secrets."""
    store = Store(tmp_path / "agent.db", clock=lambda: 1_700_000_000.5, sha="abc", redact=Redactor(["hush-hush"]))
    event_id = store.events.append(EventType.AGENT_STARTED, {"text": "say hush-hush", "n": [1, 2]}, parent_id=5)
    raw = sqlite3.connect(tmp_path / "agent.db")
    assert raw.execute("SELECT * FROM events").fetchall() == [
        (event_id, 1_700_000_000.5, 5, "agent.started", '{"sha":"abc","text":"say [redacted]","n":[1,2]}')
    ]
    for statement in ("UPDATE events SET payload = ''", "DELETE FROM events"):
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            raw.execute(statement)


def test_the_offset_is_forgotten_after_six_idle_days(tmp_path: Path) -> None:
    """The offset follows the last update, and is left out once the numbers may have started anew."""
    now = 1_700_000_000.0
    store = open_store(tmp_path / "agent.db", clock=lambda: now)
    store.lease.take(1)
    assert store.inbox.offset("test") is None
    add(store, 1_000_000)
    assert store.inbox.offset("test") == 1_000_001
    assert store.inbox.offset("another bot") is None
    now += 6 * 86_400 + 1
    assert store.inbox.offset("test") is None
    add(store, 17)
    assert store.inbox.offset("test") == 18


def test_one_update_has_one_row(tmp_path: Path) -> None:
    """The same update is stored once, and the table itself refuses a second row."""
    store = open_store(tmp_path / "agent.db")
    store.lease.take(1)
    assert add(store, 1) is not None
    assert add(store, 1) is None
    with pytest.raises(IntegrityError):
        store.database.execute(
            "INSERT INTO inbox (source, update_id, kind, chat_id, text, status, created_at, updated_at)"
            " VALUES ('test', 1, 'message', 1, '', 'queued', 0, 0)"
        )


def test_an_unusable_file_is_told_in_one_line(tmp_path: Path) -> None:
    """A path that is no database names the setting."""
    path = tmp_path / "agent.db"
    path.write_text("this is not a database, whatever its name says" * 10)
    with pytest.raises(StoreUnusable, match="AUTONOUS_DB_PATH") as caught:
        open_store(path)
    assert "\n" not in str(caught.value)


def test_a_fresh_context_begins_after_what_was_said(tmp_path: Path) -> None:
    """After a fresh start nothing older is found, in that chat alone; what the worker told counts as said by it."""
    store = open_store(tmp_path / "agent.db")
    store.lease.take(1)
    for chat_id in (1, 2):
        store.history.add(chat_id, Message(Speaker.USER, "old"))
    for _ in range(2):
        store.history.start_anew(1)
    assert store.history.recent(1, 5) == []
    store.history.add(1, Message(Speaker.USER, "new"))
    store.history.add_notice(1, "Stopped.")
    assert store.history.recent(1, 5) == [Message(Speaker.USER, "new"), Message(Speaker.ASSISTANT, "Stopped.")]
    assert store.history.recent(2, 5) == [Message(Speaker.USER, "old")]


def test_an_answer_to_what_came_before_a_fresh_start_stays_out(tmp_path: Path) -> None:
    """Unless it is asked for again amid the new conversation, of which nothing is hidden by it."""
    store = open_store(tmp_path / "agent.db")
    store.lease.take(1)
    before = add(store, 1)
    store.history.start_anew(1)
    after = add(store, 2)
    store.history.add(1, Message(Speaker.USER, "before"), Message(Speaker.ASSISTANT, "late"), inbox_id=before)
    assert store.history.recent(1, 5) == []
    store.history.add(1, Message(Speaker.USER, "new"), inbox_id=after)
    store.history.add(1, Message(Speaker.USER, "replayed"), inbox_id=before)
    assert [message.text for message in store.history.recent(1, 5)] == ["new", "replayed"]


def test_an_event_takes_any_text(tmp_path: Path) -> None:
    """Half a surrogate pair, which no database can hold, is replaced; two halves are put together."""
    store = open_store(tmp_path / "agent.db")
    store.events.append(EventType.AGENT_STARTED, {"text": "half \ud83d, whole \ud83d\ude00"})
    row = store.database.first("SELECT payload FROM events")
    assert row is not None
    assert json.loads(row[0])["text"] == "half \ufffd, whole \U0001f600"
    store.close()
