"""What the local bot remembers: the queue of updates, the chats with their messages, and a journal of what happened.

One SQLite file, so that the queue survives a restart, or ``:memory:``. Every method is one transaction.
"""

import json
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

Json = dict[str, Any]

#: The user who sits at the terminal, and their private chat with the bot.
OWNER: Final = 1
#: Entries of the journal that are kept; a reader that is further behind has missed the older ones.
JOURNAL_LENGTH: Final = 5000
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS updates (update_id INTEGER PRIMARY KEY AUTOINCREMENT, body TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS chats (chat_id INTEGER PRIMARY KEY, body TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS messages (
    chat_id INTEGER NOT NULL, message_id INTEGER NOT NULL, from_bot INTEGER NOT NULL, body TEXT NOT NULL, content BLOB,
    PRIMARY KEY (chat_id, message_id)
);
CREATE TABLE IF NOT EXISTS presses (press_id TEXT PRIMARY KEY, chat_id INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS journal (
    cursor INTEGER PRIMARY KEY AUTOINCREMENT, chat_id INTEGER NOT NULL, entry TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
"""


class EventKind(StrEnum):
    """What can happen in a chat, as a user sees it."""

    MESSAGE = "message"
    EDIT = "edit"
    ACTION = "action"  # the bot shows that it is busy
    ANSWER = "answer"  # to a pressed button


class BotStore:
    """The database at ``path``, created when it is missing. ``sqlite3.Error`` when it cannot be used.

    ``clock`` gives seconds since the Unix epoch. Not to be used by two threads at once.
    """

    def __init__(self, path: Path | str, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")
        self._db.executescript(_SCHEMA)
        # Update ids begin at the time of creation: when this file is lost, the ids of the next one are still larger
        # than what any worker has confirmed, so none of its messages is taken for an old one.
        self._db.execute(
            "INSERT INTO sqlite_sequence (name, seq) SELECT 'updates', ?"
            " WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = 'updates')",
            (int(clock()),),
        )

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing for what is done inside; may be nested."""
        if self._db.in_transaction:
            yield
            return
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    # The queue.

    def add_update(self, kind: str, body: Json) -> int | None:
        """Queue an update and return its id; ``None`` when the bot does not want this kind."""
        with self.transaction():
            allowed = self.fact("allowed_updates")
            if allowed and kind not in allowed:
                return None
            return self._insert("INSERT INTO updates (body) VALUES (?)", (_dump({kind: body}),))

    def updates(self, limit: int) -> list[Json]:
        """The oldest updates that are not confirmed."""
        rows = self._db.execute("SELECT update_id, body FROM updates ORDER BY update_id LIMIT ?", (limit,))
        return [{"update_id": update_id, **json.loads(body)} for update_id, body in rows]

    def update_count(self) -> int:
        """How many updates are not confirmed."""
        return int(self._db.execute("SELECT COUNT(*) FROM updates").fetchone()[0])

    def confirm(self, offset: int) -> None:
        """Forget every update below ``offset``; a negative one keeps that many of the newest."""
        if offset < 0:
            self._db.execute(
                "DELETE FROM updates WHERE update_id NOT IN"
                " (SELECT update_id FROM updates ORDER BY update_id DESC LIMIT ?)",
                (-offset,),
            )
        else:
            self._db.execute("DELETE FROM updates WHERE update_id < ?", (offset,))

    def drop_updates(self) -> None:
        """Forget every update."""
        self._db.execute("DELETE FROM updates")

    # Chats and messages.

    def remember_chat(self, chat: Json) -> None:
        """Keep a chat, new or changed."""
        self._db.execute("INSERT OR REPLACE INTO chats VALUES (?, ?)", (chat["id"], _dump(chat)))

    def chat(self, chat_id: int) -> Json | None:
        """A chat that the bot may write to."""
        row = self._db.execute("SELECT body FROM chats WHERE chat_id = ?", (chat_id,)).fetchone()
        return json.loads(row[0]) if row else None

    def add_message(self, chat_id: int, body: Json, *, from_bot: bool, content: bytes | None = None) -> Json:
        """Store a message under the chat's next ``message_id`` and return it as the Bot API shows it."""
        with self.transaction():
            (last,) = self._db.execute("SELECT MAX(message_id) FROM messages WHERE chat_id = ?", (chat_id,)).fetchone()
            message = {"message_id": (last or 0) + 1, "date": int(self._clock()), "chat": self.chat(chat_id), **body}
            self._db.execute(
                "INSERT INTO messages VALUES (?, ?, ?, ?, ?)",
                (chat_id, message["message_id"], from_bot, _dump(message), content),
            )
            self.note(chat_id, EventKind.MESSAGE, {"from_bot": from_bot, "message": message})
        return message

    def change_message(self, message: Json) -> None:
        """Replace a message of the bot by its edited form."""
        chat_id = message["chat"]["id"]
        with self.transaction():
            self._db.execute(
                "UPDATE messages SET body = ? WHERE chat_id = ? AND message_id = ?",
                (_dump(message), chat_id, message["message_id"]),
            )
            self.note(chat_id, EventKind.EDIT, {"from_bot": True, "message": message})

    def message(self, chat_id: int, message_id: int, *, of_bot: bool = False) -> Json | None:
        """One message; with ``of_bot`` only when the bot wrote it."""
        row = self._db.execute(
            "SELECT body FROM messages WHERE chat_id = ? AND message_id = ? AND from_bot >= ?",
            (chat_id, message_id, of_bot),
        ).fetchone()
        return json.loads(row[0]) if row else None

    def bot_messages(self, chat_id: int, after: int) -> list[Json]:
        """The bot's messages with an id above ``after``, as they are now, oldest first."""
        rows = self._db.execute(
            "SELECT body FROM messages WHERE chat_id = ? AND message_id > ? AND from_bot ORDER BY message_id",
            (chat_id, after),
        )
        return [json.loads(body) for (body,) in rows]

    def messages_with_buttons(self, chat_id: int) -> Iterator[Json]:
        """The bot's messages that have buttons, newest first."""
        rows = self._db.execute(
            "SELECT body FROM messages WHERE chat_id = ? AND from_bot"
            " AND json_extract(body, '$.reply_markup') IS NOT NULL ORDER BY message_id DESC",
            (chat_id,),
        )
        for (body,) in rows:
            yield json.loads(body)

    def content(self, chat_id: int, message_id: int) -> bytes | None:
        """The bytes of a document."""
        row = self._db.execute(
            "SELECT content FROM messages WHERE chat_id = ? AND message_id = ?", (chat_id, message_id)
        ).fetchone()
        return row[0] if row else None

    def add_press(self, chat_id: int) -> str:
        """The id of a new press of a button."""
        press_id = str(secrets.randbits(62))
        self._db.execute("INSERT INTO presses VALUES (?, ?)", (press_id, chat_id))
        return press_id

    def press_chat(self, press_id: str) -> int | None:
        """The chat that a press happened in."""
        row = self._db.execute("SELECT chat_id FROM presses WHERE press_id = ?", (press_id,)).fetchone()
        return row[0] if row else None

    # The journal and small facts.

    def note(self, chat_id: int, kind: EventKind, fields: Json) -> None:
        """Add an entry to the journal, which forgets its oldest ones."""
        entry = {"kind": kind, "at": self._clock(), "chat_id": chat_id, **fields}
        with self.transaction():
            cursor = self._insert("INSERT INTO journal (chat_id, entry) VALUES (?, ?)", (chat_id, _dump(entry)))
            self._db.execute("DELETE FROM journal WHERE cursor <= ?", (cursor - JOURNAL_LENGTH,))

    def journal(self, after: int, chat_id: int) -> list[Json]:
        """A chat's entries beyond a cursor, oldest first, each with its own ``cursor``."""
        rows = self._db.execute(
            "SELECT cursor, entry FROM journal WHERE cursor > ? AND chat_id = ? ORDER BY cursor", (after, chat_id)
        )
        return [{"cursor": cursor, **json.loads(entry)} for cursor, entry in rows]

    def cursor(self) -> int:
        """The cursor behind the newest entry."""
        return int(self._db.execute("SELECT COALESCE(MAX(cursor), 0) FROM journal").fetchone()[0])

    def fact(self, name: str) -> Any:
        """A small setting of the bot, ``None`` when it was never set."""
        row = self._db.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return json.loads(row[0]) if row else None

    def set_fact(self, name: str, value: Any) -> None:
        """Keep a small setting, any JSON."""
        self._db.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, _dump(value)))

    def _insert(self, statement: str, values: Sequence[object]) -> int:
        row_id = self._db.execute(statement, values).lastrowid
        assert row_id is not None  # noqa: S101 - set after every INSERT
        return row_id


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
