"""The ``events`` table of any of our databases, for reading.

A worker's database is written by code that was patched, so nothing in it is trusted to be what it should be.
"""

import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import isfinite
from pathlib import Path
from typing import Any, Final

from supervisor.contract.events import EventType
from supervisor.contract.ids import Side, side
from supervisor.ledger.database import ReadOnlyDatabase, translated
from supervisor.ledger.errors import LedgerMissing, LedgerUnusable
from supervisor.ledger.values import Event

_ID_RANGE: Final = range(1, 1 << 63)
_PARAMETERS: Final = 5_000  # in one statement; SQLite takes 32,766
_WHOLE: Final = 1 << 30  # characters; more than SQLite stores in one value


class EventLog:
    """One database's events, all from the same moment. Made by ``open_event_log``.

    Its methods raise LedgerUnusable when the file turns out to be broken.
    """

    def __init__(self, path: Path, database: Any, writer: Side) -> None:
        self._path = path
        self._database = database
        self._writer = writer

    def latest(self, event: EventType, *, payload_chars: int | None = None) -> Event | None:
        """The event of this type that was written last."""
        newest = "event_type = ? ORDER BY id DESC LIMIT 1"
        return next(self._select(newest, [event.value], payload_chars), None)

    def get(self, event_id: int, *, payload_chars: int | None = None) -> Event | None:
        """One event."""
        if event_id not in _ID_RANGE:
            return None
        return next(self._select("id = ?", [event_id], payload_chars), None)

    def children(self, parents: Sequence[int], *, payload_chars: int | None = None) -> Iterator[Event]:
        """The events directly under any of these. ``payload_chars`` limits how much of each payload is fetched."""
        for start in range(0, len(parents), _PARAMETERS):
            chunk = parents[start : start + _PARAMETERS]
            yield from self._select(f"parent_id IN ({','.join('?' * len(chunk))})", chunk, payload_chars)

    def _select(self, where: str, values: Sequence[object], payload_chars: int | None) -> Iterator[Event]:
        chars = _WHOLE if payload_chars is None else payload_chars
        sql = (
            "SELECT id, CAST(timestamp AS DOUBLE PRECISION), parent_id, CAST(event_type AS TEXT),"  # noqa: S608
            f" SUBSTR(CAST(payload AS TEXT), 1, ?) FROM events WHERE {where}"  # never a value, only its place
        )
        with translated(self._path):
            rows = self._database.execute_sql(sql, (chars, *values)).fetchall()
        return (event for row in rows if (event := self._event(*row)) is not None)

    def _event(self, event_id: Any, timestamp: Any, parent_id: Any, kind: Any, payload: Any) -> Event | None:
        """A row as an event, or None when it cannot be one that this side wrote.

        That way no row in a worker's database passes for something that the supervisor recorded.
        """
        if not isinstance(event_id, int) or event_id not in _ID_RANGE or side(event_id) is not self._writer:
            return None
        parent = parent_id if isinstance(parent_id, int) else None
        when = timestamp if timestamp is not None and isfinite(timestamp) else 0.0
        return Event(event_id, when, parent, kind or "", payload or "")


@contextmanager
def open_event_log(path: Path, writer: Side) -> Iterator[EventLog]:
    """The events of a database that ``writer`` keeps, as they are now; the file may be in use, and is not touched.

    Raises LedgerMissing, or LedgerUnusable.
    """
    with translated(path):
        try:
            mode = path.lstat().st_mode
        except FileNotFoundError:
            raise LedgerMissing(path) from None
    if not stat.S_ISREG(mode):
        raise LedgerUnusable(path, "it is not a regular file")
    database: Any = ReadOnlyDatabase(path)
    try:
        with translated(path):
            database.connection().text_factory = lambda raw: raw.decode("utf-8", "replace")
            database.begin()
            if not database.table_exists("events"):
                raise LedgerUnusable(path, "it has no table of events")
        yield EventLog(path, database, writer)
    finally:
        database.close()
