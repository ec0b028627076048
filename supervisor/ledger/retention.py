"""How old events leave the ledger: by command, and with an event that says what went."""

from typing import Final

from supervisor.contract.events import EventType
from supervisor.contract.ids import first_id
from supervisor.ledger.eventremoval import Keep, batches, remove, rows
from supervisor.ledger.store import Store

#: What is derived from events, what others hang under, and the record of every decision about an update.
KEPT: Final = (
    EventType.PROCESS_STARTED,
    EventType.WORKER_SPAWNED,
    EventType.REVISION_PROMOTED,
    EventType.OWNER_CLAIMED,
    EventType.RESCUE_STARTED,  # whether one goes on is told by the latest of the two
    EventType.RESCUE_ENDED,
    EventType.GRANT_CREATED,
    EventType.GRANT_EXPIRED,
    EventType.GRANT_REVOKED,
    EventType.CHAT_ERASED,
    EventType.EVENTS_PRUNED,
)

#: Events before ``:first`` whose type may go, unless ``kept`` names them: whoever stays keeps all above it.
DUE_SQL: Final = """
WITH RECURSIVE kept (id) AS (
    SELECT parent_id FROM events WHERE parent_id IS NOT NULL AND (id >= :first OR NOT {may_go})
    UNION
    SELECT parent_id FROM events JOIN kept USING (id) WHERE parent_id IS NOT NULL
)
SELECT id FROM events WHERE id < :first AND {may_go} AND id NOT IN (SELECT id FROM kept {also}) ORDER BY id
"""


def may_go(kept: tuple[EventType, ...], *, updates_stay: bool) -> str:
    """The condition, in SQL, for types of events that no part of the system needs any more."""
    types = ", ".join(f"'{event.value}'" for event in kept)
    return f"(event_type NOT IN ({types})" + (" AND event_type NOT LIKE 'update.%')" if updates_stay else ")")


class Retention(Store):
    """What may go, and its removal."""

    def due_events(self, before: float) -> list[int]:
        """Ids of the events before a moment, in seconds since the Unix epoch, that nothing needs any more."""
        condition = may_go(KEPT, updates_stay=True)
        also = "".join(f" UNION SELECT {column} FROM {table}" for table, column in self._references())  # noqa: S608
        sql = DUE_SQL.format(may_go=condition, also=also).replace(":first", str(first_id(before)))
        with self._reading():
            return [row[0] for row in self._db.execute_sql(sql).fetchall()]

    def _references(self) -> list[tuple[str, str]]:
        """Tables and columns that refer to events; names of our own migrations."""
        with self._reading():
            tables = self._db.get_tables()
            keys = [(table, key) for table in tables for key in self._db.get_foreign_keys(table)]
        return [(table, key.column) for table, key in keys if key.dest_table == "events"]

    def prune_events(self, ids: list[int], told: dict[str, object], keep: Keep) -> int:
        """Hand events to ``keep`` and remove them, a portion at a time, each with an ``events.pruned``; how many went.

        What ``keep`` raises leaves the portion where it is.
        """
        total = 0
        for batch in batches(ids):
            with self._reading():  # before the lock: an event never changes
                going = list(rows(self._db.execute_sql, batch))
            keep(going)
            with self._writing("prune"):
                removed = remove(self._db.execute_sql, batch)
                payload = {**told, "removed": removed, "first_id": batch[0], "last_id": batch[-1]}
                self._log(EventType.EVENTS_PRUNED, self._encode({}, payload), None, self._clock())
            total += removed
        return total
