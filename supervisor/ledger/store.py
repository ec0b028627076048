"""The ground that every part of the ledger stands on: connections, transactions and the log of events."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from peewee import fn

from supervisor.contract.events import EventType
from supervisor.contract.ids import EventIds, Side, milliseconds
from supervisor.contract.redaction import Redactor
from supervisor.crashpoints import around
from supervisor.ledger.database import reader, translated, writer
from supervisor.ledger.models import EventRecord, compact
from supervisor.ledger.values import Event


class Store:
    """An open ledger file. It may be shared by threads, and the file by processes.

    ``clock`` gives seconds since the Unix epoch. ``redact`` takes the secrets out of all free text on its way in.
    ``moved`` is called after each change of an update's status.
    Every method raises LedgerUnusable when the file cannot be read or written; nothing is recorded then.
    """

    def __init__(
        self,
        path: Path,
        *,
        clock: Callable[[], float] = time.time,
        redact: Redactor | None = None,
        read_only: bool = False,
        moved: Callable[[], object] = lambda: None,
    ) -> None:
        self._path = path
        self._clock = clock
        self._redact = redact or Redactor()
        self._floor = 0.0  # seconds; new ids lie above it whatever the clock says
        self._ids = EventIds(Side.SUPERVISOR, lambda: max(self._clock(), self._floor))
        self._read_only = read_only
        self._moved = moved
        self._db: Any = reader(path) if read_only else writer(path, clock)
        # Compiled once: building a query costs several times what SQLite needs to run it.
        self._last_id_sql, _ = EventRecord.select(fn.MAX(EventRecord.id)).bind(self._db).sql()
        names = [field.name for field in EventRecord._meta.sorted_fields]
        self._append_sql, _ = EventRecord.insert(dict.fromkeys(names)).bind(self._db).sql()

    @classmethod
    def read_only(cls, path: Path) -> Self:
        """An existing ledger for reading; it touches no file and works beside a writer and without one.

        Raises LedgerMissing, NewerLedger, or LedgerUnusable.
        """
        return cls(path, read_only=True)

    @property
    def path(self) -> Path:
        """The file."""
        return self._path

    def close(self) -> None:
        """Close all connections. No thread may use the ledger any more."""
        if not self._db.deferred:
            if not self._read_only:
                self._db.close_all()
            self._db.init(None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Events

    def append(self, event: EventType, payload: Mapping[str, object], *, parent_id: int | None = None) -> int:
        """Write one event and return its id. It is on file when this returns."""
        text = self._encode(payload)
        with self._writing(f"append.{event.value}"):
            return self._log(event, text, parent_id, self._clock())

    def events(
        self,
        *types: EventType,
        parent_id: int | None = None,
        after: int = 0,
        newest_first: bool = False,
        limit: int | None = None,
    ) -> list[Event]:
        """Events in the order they were written, narrowed by type, by parent, and to ids above ``after``."""
        record = EventRecord
        wanted = record.id > after
        if types:
            wanted &= record.event_type.in_([str(event) for event in types])
        if parent_id is not None:
            wanted &= record.parent_id == parent_id
        order = record.id.desc() if newest_first else record.id
        rows = self._rows(record.select().where(wanted).order_by(order).limit(limit).tuples())
        return [Event(*row) for row in rows]

    # For the parts of the ledger

    @contextmanager
    def _reading(self) -> Iterator[None]:
        with translated(self._path), self._db.connection_context():
            yield

    @contextmanager
    def _writing(self, name: str) -> Iterator[None]:
        """One transaction that excludes every other writer from its start on; ``name`` is its crash point's."""
        with around(f"ledger.{name}"), translated(self._path), self._db.connection_context(), self._db.atomic():
            yield

    @contextmanager
    def _writing_durably(self, name: str) -> Iterator[None]:
        """The same, and on the disk afterwards: for what somebody else forgets once we have it."""
        with around(f"ledger.{name}"), translated(self._path), self._db.connection_context():
            self._db.pragma("synchronous", "full")
            try:
                with self._db.atomic():
                    yield
            finally:
                self._db.pragma("synchronous", "normal")

    def _rows(self, query: Any) -> Sequence[Any]:
        with self._reading():
            return list(query.bind(self._db))

    def _one(self, query: Any) -> Any:
        """The first row of a query, or None."""
        return next(iter(self._rows(query.limit(1))), None)

    def _count(self, query: Any) -> int:
        with self._reading():
            count: int = query.bind(self._db).count()
        return count

    def _run(self, query: Any) -> int:
        """Run a statement inside ``_writing`` and return how many rows it changed."""
        changed: int = query.bind(self._db).execute()
        return changed

    def _log(self, event: EventType, payload_json: str, parent_id: int | None, now: float) -> int:
        """Write one event inside ``_writing``."""
        event_id = self._next_id()
        self._db.execute_sql(self._append_sql, (event_id, now, parent_id, event.value, payload_json))
        return event_id

    def _next_id(self) -> int:
        """An id above all in the file, so that the latest event is the one with the highest id.

        The clock may have gone back since another process, or this one before a restart, wrote the last event.
        """
        last: int = self._db.execute_sql(self._last_id_sql).fetchone()[0] or 0
        event_id = self._ids.next()
        if event_id <= last:
            self._floor = (milliseconds(last) + 1.5) / 1000  # the middle of the next millisecond: safe to round
            event_id = self._ids.next()
        return event_id

    def _encode(self, payload: Mapping[str, object], own: Mapping[str, object] | None = None) -> str:
        """A payload as it is stored. ``own`` is what the ledger itself says: it wins, and is never masked."""
        return compact({**self._clean(payload), **(own or {})})

    def _clean(self, payload: Mapping[str, object]) -> dict[str, Any]:
        return {key: self._redact.deep(value) for key, value in payload.items()}
