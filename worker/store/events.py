"""The event log of the worker."""

import json
from collections.abc import Callable, Mapping
from typing import Final

from peewee import IntegrityError

from supervisor.contract import EventIds, EventType, Redactor, Side
from worker.store.database import Database
from worker.store.tables import EventRow
from worker.text import sound

COLUMNS: Final = (EventRow.id, EventRow.timestamp, EventRow.parent_id, EventRow.event_type, EventRow.payload)


class Events:
    """Appends events. ``sha`` is put into every payload; ``redact`` sees every text before it is stored."""

    def __init__(self, database: Database, clock: Callable[[], float], sha: str, redact: Redactor) -> None:
        self._database = database
        self._clock = clock
        self._sha = sha
        self._redact = redact
        database.bind()
        self._insert, _ = EventRow.insert_many([[0, 0, 0, "", ""]], fields=COLUMNS).sql()
        self._ids = EventIds(Side.WORKER, clock)

    def append(self, event: EventType, payload: Mapping[str, object], *, parent_id: int | None = None) -> int:
        """Store one event and give its id. Needs no lease; inside a write it is part of that transaction."""
        redacted = self._redact.deep({"sha": self._sha, **payload})
        text = sound(json.dumps(redacted, separators=(",", ":"), ensure_ascii=False))
        while True:
            event_id = self._ids.next()
            try:
                self._database.execute(self._insert, (event_id, self._clock(), parent_id, event.value, text))
            except IntegrityError:  # the other worker took this id in this very millisecond
                continue
            return event_id
