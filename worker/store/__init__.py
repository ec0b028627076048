"""The worker's own database, ``agent.db``: what came in, what was said, what goes out, what happened."""

from collections.abc import Callable
from pathlib import Path

from supervisor.contract import Redactor
from worker.store.costs import Costs
from worker.store.database import Database
from worker.store.developments import Developments
from worker.store.errors import Fenced, StoreError, StoreUnusable
from worker.store.events import Events
from worker.store.history import History
from worker.store.inbox import Inbox, InboxStatus, Task
from worker.store.lease import Lease
from worker.store.outbox import Outbox, OutboxStatus, Reply
from worker.store.presses import PressLog
from worker.store.recall import WordIndex
from worker.store.relays import Relays
from worker.store.runs import RunLog
from worker.store.summaries import Summaries

__all__ = [
    "Database",
    "Fenced",
    "InboxStatus",
    "OutboxStatus",
    "Reply",
    "Store",
    "StoreError",
    "StoreUnusable",
    "Task",
]


class Store:
    """Everything in ``agent.db``, one attribute for each table.

    ``clock`` gives seconds since the Unix epoch. ``sha`` is the revision that every event carries.
    Raises StoreUnusable when the file cannot be opened or migrated.
    """

    def __init__(self, path: Path, *, clock: Callable[[], float], sha: str, redact: Redactor) -> None:
        self.database = Database(path, clock)
        self.schema_version = self.database.migrate()
        self.events = Events(self.database, clock, sha, redact)
        self.lease = Lease(self.database, clock)
        self.inbox = Inbox(self.database, clock)
        self.history = History(self.database, clock)
        self.outbox = Outbox(self.database, clock)
        self.developments = Developments(self.database, clock)
        self.relays = Relays(self.database, clock)
        self.presses = PressLog(self.database, clock)
        self.runs = RunLog(self.database, clock)
        self.summaries = Summaries(self.database, clock)
        self.words = WordIndex(self.database, clock)
        self.costs = Costs(self.database)
        self.now = clock
        self.write = self.database.write
        self.savepoint = self.database.savepoint

    def close(self) -> None:
        """Close the file."""
        self.database.close()
