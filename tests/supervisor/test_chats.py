"""What is kept of a chat, read and removed beside a store that a worker has open."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from supervisor.agent_db import chats
from supervisor.agent_db.access import AgentDbUnusable
from supervisor.contract import EventType, Redactor
from supervisor.localbot.store import OWNER, BotStore
from worker.commander.base import Incoming, UpdateKind
from worker.models.base import CompletionResponse, Message, Speaker, ToolCall
from worker.store import InboxStatus, OutboxStatus, Store

SECRET = "the-canary-of-this-chat"
MINE, OTHER = 7, 8


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A store that stays open, as in a worker that holds the lease."""
    opened = Store(tmp_path / "agent.db", clock=time.time, sha="a" * 40, redact=Redactor([]))
    opened.database.epoch = opened.database.stored_epoch()
    yield opened
    opened.close()


def converse(store: Store, chat_id: int, update_id: int, text: str, *, status: InboxStatus = InboxStatus.DONE) -> None:
    """One message with its run, a tool call, its answer and the events of all that."""
    came = Incoming(update_id, UpdateKind.MESSAGE, chat_id, user_id=chat_id, private=True, text=text, date=1.0)
    row = store.inbox.add("telegram", came, kind="message", text=text, status=status)
    assert row is not None
    started = store.events.append(EventType.AGENT_STARTED, {"chat_id": chat_id, "text": text}, parent_id=None)
    turn = store.events.append(EventType.TURN_STARTED, {"turn": 1}, parent_id=started)
    store.events.append(EventType.TOOL_CALL_STARTED, {"arguments": text}, parent_id=turn)
    run = store.runs.open(row, chat_id)
    call = ToolCall("c", "bash", {"command": text})
    answer = CompletionResponse(text=text, tool_calls=(call,), input_tokens=1, output_tokens=1)
    store.runs.turn_ended(run.id, turn, answer, kept=True, seconds=0.1)
    store.history.add(chat_id, Message(Speaker.USER, text), Message(Speaker.ASSISTANT, text))
    store.outbox.add(chat_id, text, inbox_id=row)
    reply = store.outbox.next(chat_id)
    assert reply is not None
    store.outbox.settle(reply, OutboxStatus.SENT)


def rows(path: Path, table: str) -> int:
    with closing(sqlite3.connect(path)) as database:
        return int(database.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0])


def test_an_export_holds_every_table_and_nothing_of_another_chat(store: Store, tmp_path: Path) -> None:
    """Rows that name the chat, those that belong to them, and events that hang under its own."""
    converse(store, MINE, 10, SECRET)
    converse(store, OTHER, 11, "something else")
    lines = list(chats.export(tmp_path / "agent.db", MINE))
    assert {line["table"] for line in lines} == {
        "inbox", "history", "outbox", "runs", "turns", "tool_calls", "events"
    }  # fmt: skip
    assert [line["row"]["payload"] for line in lines if line["row"].get("event_type") == "tool_call.started"] == [
        {"sha": "a" * 40, "arguments": SECRET}
    ]
    assert "something else" not in str(lines)


def test_what_is_forgotten_is_gone_from_the_disk(store: Store, tmp_path: Path) -> None:
    """Not a byte of it is in the file or its log, and one event tells how much it was."""
    converse(store, MINE, 10, SECRET)
    converse(store, OTHER, 11, "something else")
    removed = chats.forget(tmp_path / "agent.db", MINE, worker_lives=True)
    assert removed.rows == {"inbox": 1, "history": 2, "outbox": 1, "runs": 1, "turns": 1, "tool_calls": 1}
    assert removed.events == 3
    for file in tmp_path.glob("agent.db*"):
        assert SECRET.encode() not in file.read_bytes()
    assert not chats.survey(tmp_path / "agent.db", MINE)
    other = chats.survey(tmp_path / "agent.db", OTHER)
    assert other.events == len(other.event_ids) == 3
    told = store.database.first("SELECT payload FROM events WHERE event_type = 'chat.erased'")
    assert told is not None
    assert '"events":3' in told[0]


def test_the_words_leave_the_index_as_well(store: Store, tmp_path: Path) -> None:
    """Not only the row: the index keeps the words of what was deleted until it is merged."""
    word = "zyxwvuquux"
    for number in range(40):
        text = f"{word} {number}" if number == 0 else f"message {number}"
        converse(store, OTHER if number % 2 else MINE, 10 + number, text)
        assert store.words.catch_up(5) == 2
    assert store.words.find(MINE, word, limit=5)
    assert chats.forget(tmp_path / "agent.db", MINE, worker_lives=True).rows["recall_whole_words"] == 40
    assert store.words.find(MINE, word, limit=5) == []
    assert len(store.words.find(OTHER, "17", limit=50)) == 2
    for file in tmp_path.glob("agent.db*"):
        assert word.encode() not in file.read_bytes()


def test_the_worker_goes_on_with_the_same_offset(store: Store, tmp_path: Path) -> None:
    """The newest update stays without a word in it, so that nothing comes twice, and the chat can begin again."""
    converse(store, OTHER, 10, "something else")
    converse(store, MINE, 11, SECRET)
    offset = store.inbox.offset("telegram")
    assert chats.forget(tmp_path / "agent.db", MINE, worker_lives=True).rows["inbox"] == 1
    assert store.inbox.offset("telegram") == offset == 12
    assert store.inbox.open_chats() == []
    assert store.history.recent(MINE, 9) == []
    converse(store, MINE, 12, "again")
    assert store.history.recent(MINE, 9)[0].text == "again"


def test_events_can_still_not_be_changed(store: Store, tmp_path: Path) -> None:
    """The triggers that were lifted are back with the transaction's end."""
    converse(store, MINE, 10, SECRET)
    converse(store, OTHER, 11, "stays")
    chats.forget(tmp_path / "agent.db", MINE, worker_lives=True)
    with closing(sqlite3.connect(tmp_path / "agent.db")) as database:
        for statement in ("DELETE FROM events", "UPDATE events SET payload = ''"):
            with pytest.raises(sqlite3.IntegrityError, match="append-only"):
                database.execute(statement)


def test_what_a_worker_has_in_hand_is_not_pulled_away(store: Store, tmp_path: Path) -> None:
    """Refused while one lives; without one it goes like the rest."""
    converse(store, MINE, 10, SECRET, status=InboxStatus.IN_PROGRESS)
    before = chats.survey(tmp_path / "agent.db", MINE)
    with pytest.raises(chats.WorkInHand, match="chat 7"):
        chats.forget(tmp_path / "agent.db", MINE, worker_lives=True)
    assert chats.survey(tmp_path / "agent.db", MINE) == before
    assert chats.forget(tmp_path / "agent.db", MINE, worker_lives=False).rows == before.rows


def test_tables_of_later_revisions_are_found(store: Store, tmp_path: Path) -> None:
    """Whatever names the chat, or a run of it, goes with it."""
    converse(store, MINE, 10, SECRET)
    for statement in (
        "CREATE TABLE wishes (id INTEGER PRIMARY KEY, chat_id INTEGER NOT NULL, wish BLOB)",
        'CREATE TABLE "odd ""name" (run_id INTEGER NOT NULL, note TEXT)',
        "INSERT INTO wishes (chat_id, wish) VALUES (7, X'00FF'), (8, X'01')",
        'INSERT INTO "odd ""name" VALUES (1, \'x\')',
    ):
        store.database.execute(statement)
    exported = {line["table"]: line["row"] for line in chats.export(tmp_path / "agent.db", MINE)}
    assert exported["wishes"]["wish"] == {"base64": "AP8="}
    removed = chats.forget(tmp_path / "agent.db", MINE, worker_lives=True).rows
    assert (removed["wishes"], removed['odd "name']) == (1, 1)
    assert rows(tmp_path / "agent.db", "wishes") == 1


def test_a_file_that_is_none_is_told(tmp_path: Path) -> None:
    """Missing, a link, or something else."""
    (tmp_path / "text").write_text("no database at all, but long enough to have a header" * 40)
    (tmp_path / "link").symlink_to(tmp_path / "text")
    for name in ("missing", "link", "text"):
        with pytest.raises(AgentDbUnusable):
            chats.survey(tmp_path / name, MINE)


def test_the_local_bot_forgets_its_messages_and_goes_on_counting(tmp_path: Path) -> None:
    """The next message takes the next number, and none of what was said is left."""
    bot = BotStore(tmp_path / "localbot.db")
    bot.remember_chat({"id": OWNER, "type": "private"})
    for _ in range(3):
        bot.add_message(OWNER, {"text": SECRET}, from_bot=True)
    assert chats.forget_copy(tmp_path / "localbot.db", OWNER) == 2
    assert bot.journal(0, OWNER) == []
    assert [message["text"] for message in bot.bot_messages(OWNER, 0)] == [""]
    assert bot.add_message(OWNER, {"text": "next"}, from_bot=True)["message_id"] == 4
    bot.close()
