"""What is kept of one chat: written out, or forgotten.

The tables are found in the database itself, not listed here: any revision may have added its own, and a row is a
chat's when it names the chat, or a run or message of the chat.

    UnknownChat     nothing is kept of this chat
    WorkInHand      a worker lives and has something to do for it
"""

import base64
import json
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from supervisor.agent_db.access import append_event, opened, overwrite_log, transaction
from supervisor.contract.events import EventType
from supervisor.contract.ids import milliseconds
from supervisor.ledger.eventremoval import batches, quoted, remove

#: What a row without a chat of its own belongs to, by the column that says so.
_BELONGS: Final = {"inbox_id": "inbox", "run_id": "runs"}
#: Of an inbox row that must stay: what it is known by, and what the next offset is made from.
_STAYS_OF_INBOX: Final = frozenset(
    {"id", "source", "update_id", "kind", "attempts", "replays", "created_at", "updated_at"}
)
#: What a message of the local bot becomes whose number stays taken.
_BLANK_BODY: Final = (
    "json_object('message_id', message_id, 'date', 0, 'chat', json_extract(body, '$.chat'), 'text', '')"
)
_MERGED_PAGES: Final = 500
_MERGE_WORKED: Final = 2  # fewer changes than these mean that nothing was left to merge
_OPEN_INBOX: Final = "status IN ('queued', 'in_progress', 'failed')"
_OPEN_OUTBOX: Final = "status = 'pending'"

# An event is a chat's when it names the chat, or hangs under one that does; a worker's start is everybody's.
_EVENTS_SQL: Final = """
WITH RECURSIVE mine (id) AS (
    SELECT id FROM events WHERE event_type != 'process.started'
        AND CASE WHEN json_valid(payload) THEN json_extract(payload, '$.chat_id') END = :chat
    UNION
    SELECT events.id FROM events JOIN mine ON events.parent_id = mine.id
)
SELECT id FROM mine ORDER BY id
"""


class UnknownChat(Exception):
    """Nothing is kept of this chat; the message is one line for the user."""

    def __init__(self, chat_id: int, known: list[int]) -> None:
        known_ones = ", ".join(map(str, known)) if known else "none at all"
        super().__init__(f"nothing is kept of chat {chat_id}; known chats: {known_ones}")


class WorkInHand(Exception):
    """A worker has something to do for the chat, and its database is as it was; one line for the user."""

    def __init__(self, chat_id: int) -> None:
        super().__init__(
            f"the worker has messages of chat {chat_id} in hand; wait for it, or send /stop, and try again"
        )


@dataclass(frozen=True, slots=True)
class Kept:
    """How many rows there are, or were, of a chat: by table, and events; of those that are there, the ids."""

    rows: Mapping[str, int]
    events: int
    event_ids: tuple[int, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.events or any(self.rows.values()))


def survey(agent_db: Path, chat_id: int) -> Kept:
    """What is kept of a chat. Raises AgentDbUnusable."""
    with opened(agent_db) as database:
        rows = {
            table: _one(database, f"SELECT COUNT(*) FROM {quoted(table)} WHERE {which}", chat_id)  # noqa: S608
            for table, which in _tables(database).items()
        }
        events = tuple(_events(database, chat_id))
        return Kept({table: count for table, count in rows.items() if count}, len(events), events)


def unknown(agent_db: Path, chat_id: int) -> UnknownChat:
    """What to raise about a chat of which nothing is kept. Raises AgentDbUnusable."""
    with opened(agent_db) as database:
        return UnknownChat(chat_id, _chats(database))


def export(agent_db: Path, chat_id: int) -> Iterator[dict[str, Any]]:
    """Every row of a chat with its table's name, all from the same moment. Raises AgentDbUnusable."""
    with opened(agent_db) as database:
        database.execute("BEGIN")
        indexes = _word_indexes(database)  # the same words once more
        for table, which in _tables(database).items():
            if table in indexes:
                continue
            cursor = database.execute(f"SELECT * FROM {quoted(table)} WHERE {which}", {"chat": chat_id})  # noqa: S608
            names = [column[0] for column in cursor.description]
            for row in cursor:
                yield {"table": table, "row": {name: _plain(value) for name, value in zip(names, row, strict=True)}}
        for event_id in _events(database, chat_id):
            yield {"table": "events", "row": _event(database, event_id)}


def refuse_work_in_hand(agent_db: Path, chat_id: int) -> None:
    """What ``forget`` refuses beside a living worker, known before anything else is removed.

    Raises WorkInHand, AgentDbUnusable.
    """
    with opened(agent_db) as database:
        if _in_hand(database, chat_id):
            raise WorkInHand(chat_id)


def forget(agent_db: Path, chat_id: int, *, worker_lives: bool, now: float | None = None) -> Kept:
    """Remove what is kept of a chat, and say so in an event without a word of it; how much went.

    A short transaction, so a worker goes on beside it. Of each source the newest update stays, blank, because the
    next offset is made from it. Twenty thousand events go at a time. Raises WorkInHand, AgentDbUnusable.
    """
    with opened(agent_db, write=True) as database:
        events = _events(database, chat_id)
        rows: dict[str, int] = {}
        removed = 0
        for number, batch in enumerate(list(batches(events)) or [()]):
            with transaction(database):
                if number == 0:
                    if worker_lives and _in_hand(database, chat_id):
                        raise WorkInHand(chat_id)
                    rows = _remove_rows(database, chat_id)
                gone = remove(database.execute, batch) if batch else 0
                removed += gone
                if gone or (number == 0 and rows):
                    told = {"rows": rows if number == 0 else {}, "events": gone, **_range(batch)}
                    append_event(database, EventType.CHAT_ERASED, told, time.time() if now is None else now)
        for index in _word_indexes(database) & rows.keys():
            _merge(database, index)
        overwrite_log(database)
        return Kept(rows, removed)


def in_copy(localbot_db: Path, chat_id: int) -> int:
    """How much the local bot has of a chat, beside the blank message that ``forget_copy`` leaves.

    Raises AgentDbUnusable.
    """
    if not localbot_db.exists():
        return 0
    of_chat = (
        f"SELECT 1 FROM messages WHERE chat_id = :chat AND (content IS NOT NULL OR body != {_BLANK_BODY})",  # noqa: S608
        "SELECT 1 FROM presses WHERE chat_id = :chat",
        "SELECT 1 FROM journal WHERE chat_id = :chat",
    )
    with opened(localbot_db) as database:
        return _one(database, f"SELECT COUNT(*) FROM ({' UNION ALL '.join(of_chat)})", chat_id)  # noqa: S608


def forget_copy(localbot_db: Path, chat_id: int) -> int:
    """Remove a chat's messages from the local bot, which stands in for Telegram; how many went.

    The newest number stays taken. Raises AgentDbUnusable.
    """
    if not localbot_db.exists():
        return 0
    with opened(localbot_db, write=True) as database:
        with transaction(database):
            gone = _forget_messages(database, chat_id)
        overwrite_log(database)
        return gone


def _forget_messages(database: sqlite3.Connection, chat_id: int) -> int:
    newest = "message_id = (SELECT MAX(message_id) FROM messages WHERE chat_id = :chat)"
    for statement in (
        f"UPDATE messages SET body = {_BLANK_BODY}, content = NULL WHERE chat_id = :chat AND {newest}",  # noqa: S608 - ours
        "DELETE FROM presses WHERE chat_id = :chat",
        "DELETE FROM journal WHERE chat_id = :chat",
    ):
        database.execute(statement, {"chat": chat_id})
    older = f"DELETE FROM messages WHERE chat_id = :chat AND NOT {newest}"  # noqa: S608 - words of ours
    return database.execute(older, {"chat": chat_id}).rowcount


def _tables(database: sqlite3.Connection) -> dict[str, str]:
    """Which rows of which table are a chat's: first the tables whose rows belong to rows of another one."""
    listed = database.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
    columns = {name: set(_columns(database, name)) for (name,) in listed if name != "events"}
    own = {name: "chat_id = :chat" for name in columns if "chat_id" in columns[name]}
    below = {
        name: f"{column} IN (SELECT id FROM {parent} WHERE chat_id = :chat)"  # noqa: S608 - words of ours
        for name in columns.keys() - own.keys()
        for column, parent in _BELONGS.items()
        if column in columns[name] and parent in own
    }
    return {**dict(sorted(below.items())), **own}


def _word_indexes(database: sqlite3.Connection) -> set[str]:
    """Tables of FTS5 that say which chat their rows are of."""
    listed = database.execute("SELECT name FROM sqlite_master WHERE sql LIKE 'CREATE VIRTUAL TABLE%USING fts5%'")
    return {name for (name,) in listed} & _tables(database).keys()


def _merge(database: sqlite3.Connection, index: str) -> None:
    """Have an index drop the words of rows that were deleted, some pages a transaction."""
    name = quoted(index)
    pages = -_MERGED_PAGES  # negative at first: all of the index, in portions from then on
    while True:
        before = database.total_changes
        with transaction(database):
            database.execute(f"INSERT INTO {name} ({name}, rank) VALUES ('merge', ?)", (pages,))  # noqa: S608
        if database.total_changes - before < _MERGE_WORKED:
            return
        pages = _MERGED_PAGES


def _columns(database: sqlite3.Connection, table: str) -> dict[str, tuple[str, bool]]:
    """The declared type of each column, and whether it refuses NULL."""
    found = database.execute(f"PRAGMA table_info({quoted(table)})")
    return {name: (kind.upper(), bool(notnull)) for _, name, kind, notnull, _, _ in found}


def _remove_rows(database: sqlite3.Connection, chat_id: int) -> dict[str, int]:
    counts: dict[str, int] = {}
    for table, which in _tables(database).items():
        blanked = _blank_newest(database, chat_id) if table == "inbox" else 0
        gone = database.execute(f"DELETE FROM {quoted(table)} WHERE {which}", {"chat": chat_id}).rowcount  # noqa: S608
        counts[table] = blanked + gone
    return {table: count for table, count in counts.items() if count}


def _blank_newest(database: sqlite3.Connection, chat_id: int) -> int:
    """Take everything that is anybody's out of the chat's inbox rows that an offset is made from; how many."""
    blank = {"chat_id": "0", "status": "'done'"}
    for name, (kind, notnull) in _columns(database, "inbox").items():
        if name not in _STAYS_OF_INBOX and name not in blank:
            blank[name] = "NULL" if not notnull else "''" if "TEXT" in kind else "0"
    changes = ", ".join(f"{quoted(name)} = {value}" for name, value in blank.items())
    newest = "update_id = (SELECT MAX(update_id) FROM inbox AS other WHERE other.source = inbox.source)"
    return database.execute(
        f"UPDATE inbox SET {changes} WHERE chat_id = :chat AND {newest}",  # noqa: S608 - names of its own
        {"chat": chat_id},
    ).rowcount


def _in_hand(database: sqlite3.Connection, chat_id: int) -> bool:
    tables = _tables(database)
    return any(
        _one(database, f"SELECT EXISTS (SELECT 1 FROM {table} WHERE chat_id = :chat AND {state})", chat_id)  # noqa: S608
        for table, state in (("inbox", _OPEN_INBOX), ("outbox", _OPEN_OUTBOX))
        if table in tables
    )


def _events(database: sqlite3.Connection, chat_id: int) -> list[int]:
    return [row[0] for row in database.execute(_EVENTS_SQL, {"chat": chat_id})]


def _event(database: sqlite3.Connection, event_id: int) -> dict[str, Any]:
    cursor = database.execute(
        "SELECT id, timestamp, parent_id, event_type, payload FROM events WHERE id = ?", (event_id,)
    )
    event = dict(zip((column[0] for column in cursor.description), cursor.fetchone(), strict=True))
    try:
        return {**event, "payload": json.loads(event["payload"])}
    except ValueError:
        return event


def _chats(database: sqlite3.Connection) -> list[int]:
    names = [table for table, which in _tables(database).items() if which.startswith("chat_id")]
    if not names:
        return []
    each = " UNION ".join(f"SELECT chat_id FROM {quoted(name)}" for name in names)  # noqa: S608 - names of its own
    found = database.execute(f"SELECT chat_id FROM ({each}) WHERE chat_id != 0 ORDER BY chat_id LIMIT 20")  # noqa: S608
    return [row[0] for row in found]


def _range(ids: Sequence[int]) -> dict[str, float]:
    return {"from": milliseconds(ids[0]) / 1000, "to": milliseconds(ids[-1]) / 1000} if ids else {}


def _one(database: sqlite3.Connection, sql: str, chat_id: int) -> int:
    return int(database.execute(sql, {"chat": chat_id}).fetchone()[0])


def _plain(value: Any) -> Any:
    return {"base64": base64.b64encode(value).decode()} if isinstance(value, bytes) else value
