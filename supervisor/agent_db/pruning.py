"""Old events, in both databases: which ones nothing needs any more, and their removal."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from supervisor.agent_db.access import append_event, opened, transaction
from supervisor.contract.events import EventType
from supervisor.contract.ids import first_id
from supervisor.ledger.eventremoval import Keep, batches, remove, rows
from supervisor.ledger.retention import DUE_SQL, may_go

# A worker hangs what it does under its own start; the rest of the tree goes with its age.
_KEPT: Final = (EventType.PROCESS_STARTED, EventType.CHAT_ERASED, EventType.EVENTS_PRUNED)
_IN_HAND: Final = "UNION SELECT event_id FROM runs WHERE status = 'open' AND event_id IS NOT NULL"


def due_events(agent_db: Path, before: float) -> list[int]:
    """Ids of the worker's events before a moment (seconds since the Unix epoch) that may go.

    Those of a run that is not over stay, and whatever newer ones hang under. Raises AgentDbUnusable.
    """
    with opened(agent_db) as database:
        has_runs = database.execute("SELECT 1 FROM sqlite_master WHERE name = 'runs'").fetchone()
        sql = DUE_SQL.format(may_go=may_go(_KEPT, updates_stay=False), also=_IN_HAND if has_runs else "")
        return [row[0] for row in database.execute(sql.replace(":first", str(first_id(before))))]


def prune_events(agent_db: Path, ids: Sequence[int], told: dict[str, object], keep: Keep) -> int:
    """Hand events to ``keep`` and remove them, a portion at a time, each with an ``events.pruned``; how many went.

    Raises AgentDbUnusable, and what ``keep`` raises; the portions before stay removed.
    """
    total = 0
    with opened(agent_db, write=True) as database:
        for batch in batches(ids):
            keep(rows(database.execute, batch))  # before the lock: an event never changes
            with transaction(database):
                removed = remove(database.execute, batch)
                payload = {**told, "removed": removed, "first_id": batch[0], "last_id": batch[-1]}
                append_event(database, EventType.EVENTS_PRUNED, payload, time.time())
            total += removed
    return total
