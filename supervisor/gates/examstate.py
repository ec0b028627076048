"""The state that an exam begins with: what stands in it must still stand there at the exam's end.

Of a new installation it is nearly empty, and a candidate could lose nothing of it; so each table has a row. Of a busy
one much waits in it, and would be worked off before what the exam asks for; so nothing waits.
"""

import hashlib
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Final, NamedTuple

from supervisor.agent_db.access import AgentDbUnusable, opened

#: Updates, what was said, what happened; each with the row that it begins with where it has none.
_SEEDS: Final[Mapping[str, str]] = {
    "inbox": (
        "INSERT INTO inbox (source, update_id, kind, chat_id, text, status, created_at, updated_at)"
        " SELECT 'exam', 1, 'message', 0, 'said before the exam', 'done', 0, 0"
        " WHERE NOT EXISTS (SELECT 1 FROM inbox)"
    ),
    "history": (
        "INSERT INTO history (chat_id, role, text, created_at)"
        " SELECT 0, 'user', 'said before the exam', 0 WHERE NOT EXISTS (SELECT 1 FROM history)"
    ),
    "events": (
        "INSERT INTO events (id, timestamp, event_type, payload)"
        " SELECT 1, 0, 'agent.started', '{}' WHERE NOT EXISTS (SELECT 1 FROM events)"
    ),
}

#: What a worker would go on with: messages, answers on their way, commands for the supervisor.
_SETTLED: Final = (
    "UPDATE inbox SET status = 'done' WHERE status NOT IN ('done', 'dead')",
    "UPDATE outbox SET status = 'sent' WHERE status = 'pending'",
    "UPDATE relays SET answered_at = created_at WHERE answered_at IS NULL",
    "DELETE FROM presses",
)

#: What a migration may not touch, whatever it adds.
_WORDS: Final[Mapping[str, str]] = {
    "inbox": "chat_id, text",
    "history": "chat_id, role, text",
    "events": "event_type, payload",
}
_COMPARED: Final = 10_000  # of the rows, the latest; all are counted


class Holding(NamedTuple):
    """What stood in a table: its newest id, its number of rows, and a digest of what they say."""

    newest: int
    rows: int
    words: str


Holdings = Mapping[str, Holding]


def prepare(agent_db: Path) -> None:
    """Settle what waits in it, and give each of its tables a first row.

    A database of another shape is left as it is: the exam tells of it.
    """
    for statement in (*_SETTLED, *_SEEDS.values()):
        try:
            with closing(sqlite3.connect(agent_db)) as database, database:
                database.execute(statement)
        except sqlite3.Error:
            continue


def holdings(agent_db: Path) -> Holdings:
    """What a database holds; nothing of a table that it has not."""
    found = {}
    for table in _SEEDS:
        try:
            with opened(agent_db) as database:
                (newest,) = database.execute(f"SELECT COALESCE(MAX(id), 0) FROM {table}").fetchone()  # noqa: S608
                found[table] = Holding(newest, *_rows_and_words(database, table, newest))
        except AgentDbUnusable:
            continue
    return found


def losses(before: Holdings, agent_db: Path) -> list[str]:
    """What of it is gone, a line for each table."""
    lost = []
    for table, held in before.items():
        try:
            with opened(agent_db) as database:
                rows, words = _rows_and_words(database, table, held.newest)
        except AgentDbUnusable:
            rows, words = 0, ""
        if rows < held.rows:
            lost.append(f"{held.rows - rows} of {held.rows} rows of {table}")
        elif words != held.words:
            lost.append(f"what rows of {table} said")
    return lost


def _rows_and_words(database: sqlite3.Connection, table: str, newest: int) -> tuple[int, str]:
    """How many rows there are up to ``newest``, and a digest of what the latest of them say."""
    (rows,) = database.execute(f"SELECT COUNT(*) FROM {table} WHERE id <= ?", (newest,)).fetchone()  # noqa: S608
    said = f"SELECT id, {_WORDS[table]} FROM {table} WHERE id <= ? ORDER BY id DESC LIMIT {_COMPARED}"  # noqa: S608
    words = hashlib.sha256()
    for row in database.execute(said, (newest,)):
        words.update(repr(row).encode())
    return int(rows), words.hexdigest()
