"""How the host meets the worker's database.

The supervisor mends one thing in it. The ledger grants the lease, and agent.db repeats the epoch for the workers'
writes. A revision that wrote an epoch of its own there would fence every other one off, the way back included; so
whenever the lease moves, and nobody holds it, what stands above the ledger's epoch is put right.

All else is done by a person's command, with or without a worker: what is to be forgotten, and old events.

    AgentDbUnusable     the file is missing, locked, broken, or no such database
"""

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Final
from urllib.parse import quote

from supervisor.contract.events import EventType
from supervisor.contract.ids import EventIds, Side

_BUSY_SECONDS: Final = 2.0


class AgentDbUnusable(Exception):
    """The worker's database cannot be read or written; nothing of this transaction was. One line for the user."""


@contextmanager
def opened(agent_db: Path, *, write: bool = False) -> Iterator[sqlite3.Connection]:
    """The database, each statement a transaction of its own. What is deleted is overwritten on the disk as well.

    Any revision may have made of it what it liked: nothing in it is called, and only a plain file is opened.
    Raises AgentDbUnusable, also for errors inside the block.
    """
    if agent_db.is_symlink() or not agent_db.is_file():
        raise AgentDbUnusable(f"there is no database of a worker at {agent_db}")
    uri = f"file:{quote(str(agent_db))}?mode={'rw' if write else 'ro'}"
    try:
        with closing(sqlite3.connect(uri, uri=True, timeout=_BUSY_SECONDS, isolation_level=None)) as database:
            database.text_factory = lambda raw: raw.decode("utf-8", "replace")
            for pragma in ("trusted_schema = OFF", "foreign_keys = ON", "secure_delete = ON"):
                database.execute(f"PRAGMA {pragma}")
            yield database
    except sqlite3.Error as error:
        raise AgentDbUnusable(f"the worker's database {agent_db} cannot be used: {error}") from error


@contextmanager
def transaction(database: sqlite3.Connection) -> Iterator[None]:
    """All or nothing; every other writer waits from its start on. Foreign keys need only hold at its end."""
    database.execute("BEGIN IMMEDIATE")
    try:
        database.execute("PRAGMA defer_foreign_keys = ON")
        yield
        database.execute("COMMIT")
    except BaseException:
        if database.in_transaction:  # SQLite has ended it by itself when the disk is full
            database.execute("ROLLBACK")
        raise


def append_event(database: sqlite3.Connection, event: EventType, payload: Mapping[str, object], now: float) -> None:
    """Write an event of ours among the worker's; ``now`` is in seconds since the Unix epoch."""
    text = json.dumps(payload, separators=(",", ":"))
    event_id = EventIds(Side.WORKER, lambda: now).next()
    database.execute(
        "INSERT INTO events (id, timestamp, parent_id, event_type, payload) VALUES (?, ?, NULL, ?, ?)",
        (event_id, now, event.value, text),
    )


def overwrite_log(database: sqlite3.Connection) -> None:
    """Empty the write-ahead log, where what was deleted may still stand; a reader that is in the way is let be."""
    database.execute("PRAGMA busy_timeout = 200")
    database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def cap_epoch(agent_db: Path, granted: int) -> None:
    """Bring the epoch in ``agent_db`` down to the last that was granted, where it is higher.

    A database that is missing, locked or of another shape is left as it is: then the worker says what is wrong.
    """
    if not agent_db.is_file() or agent_db.is_symlink():
        return
    uri = f"file:{quote(str(agent_db))}?mode=rw"
    with suppress(sqlite3.Error), closing(sqlite3.connect(uri, uri=True, timeout=_BUSY_SECONDS)) as database:
        (stored,) = database.execute("SELECT MAX(epoch) FROM lease").fetchone()
        if stored is not None and stored > granted:
            database.execute("UPDATE lease SET epoch = ?", (granted,))
            database.commit()
