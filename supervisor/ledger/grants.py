"""Directories of the host that an owner has opened to the tools for a time."""

from dataclasses import asdict
from typing import Final

from peewee import fn

from supervisor.contract.events import EventType
from supervisor.ledger.models import GrantRecord, columns
from supervisor.ledger.store import Store
from supervisor.ledger.values import GrantRow, NewGrant

_COLUMNS: Final = columns(GrantRecord, GrantRow)


class Grants(Store):
    """Everything about grants. Each change is one transaction with its event."""

    def add_grant(self, new: NewGrant, *, parent_id: int | None = None) -> GrantRow:
        """Record a grant, with ``grant.created``."""
        with self._writing("grant"):
            now = self._clock()
            last = self._one(GrantRecord.select(fn.MAX(GrantRecord.number)).tuples())[0] or 0
            told = {**asdict(new), "number": last + 1}
            del told["place"]
            event_id = self._log(EventType.GRANT_CREATED, self._encode({"why": told.pop("why")}, told), parent_id, now)
            row = {**asdict(new), **self._clean({"why": new.why}), "number": last + 1}
            self._run(GrantRecord.insert({**row, "event_id": event_id, "created_at": now}))
        return self._grant(last + 1)

    def open_grants(self) -> list[GrantRow]:
        """Those that nobody has ended yet, oldest first; the time of one may be over all the same."""
        query = GrantRecord.select(_COLUMNS).where(GrantRecord.ended_at.is_null()).order_by(GrantRecord.number)
        return list(self._rows(query.objects(GrantRow)))

    def end_grant(self, number: int, event: EventType, **payload: object) -> bool:
        """Record the end of a grant; only the first call does. Returns whether this one did."""
        with self._writing("grant.end"):
            now = self._clock()
            open_one = (GrantRecord.number == number) & GrantRecord.ended_at.is_null()
            if not self._run(GrantRecord.update(ended_at=now).where(open_one)):
                return False
            row = self._grant(number)
            told = {"number": number, "path": row.path, "mode": row.mode}
            self._log(event, self._encode(payload, told), row.event_id, now)
            return True

    def _grant(self, number: int) -> GrantRow:
        found: GrantRow = self._one(GrantRecord.select(_COLUMNS).where(GrantRecord.number == number).objects(GrantRow))
        return found
