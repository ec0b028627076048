"""The state that an exam begins with: what stands in it must still stand there at the exam's end.

Of a new installation it is nearly empty, and a candidate could lose nothing of it; so each table has a row. Of a busy
one much waits in it, and would be worked off before what the exam asks for; so nothing waits.
"""

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Final

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

#: Of each table its newest id and its number of rows.
Holdings = Mapping[str, tuple[int, int]]


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
                newest, rows = database.execute(f"SELECT COALESCE(MAX(id), 0), COUNT(*) FROM {table}").fetchone()  # noqa: S608
        except AgentDbUnusable:
            continue
        found[table] = (int(newest), int(rows))
    return found


def losses(before: Holdings, agent_db: Path) -> list[str]:
    """What of it is gone, a line for each table."""
    lost = []
    for table, (newest, rows) in before.items():
        try:
            with opened(agent_db) as database:
                (left,) = database.execute(f"SELECT COUNT(*) FROM {table} WHERE id <= ?", (newest,)).fetchone()  # noqa: S608
        except AgentDbUnusable:
            left = 0
        if left < rows:
            lost.append(f"{rows - left} of {rows} rows of {table}")
    return lost
