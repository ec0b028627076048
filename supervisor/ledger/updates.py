"""Updates: a row each in ``artifacts``, moved by the table of transitions and by nothing else."""

import uuid
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, Final

from peewee import fn

from supervisor.contract.events import EventType
from supervisor.ledger.errors import (
    AmbiguousPrefix,
    BadColumns,
    GenesisExists,
    IllegalMove,
    LostRace,
    NoRevision,
    UnknownUpdate,
)
from supervisor.ledger.models import Artifact, AttemptRecord, ProbationRecord, columns
from supervisor.ledger.store import Store
from supervisor.ledger.values import CHANGEABLE_COLUMNS, NO_POLL, Blame, NewUpdate, Revision, Update
from supervisor.states import TRANSITIONS, Status

_NOTHING: Final[Mapping[str, object]] = {}
#: All but the patch, which would be read for nothing.
COLUMNS: Final = columns(Artifact, Update)
#: What people, models and tools wrote, where a secret may have slipped in. All else is ids, words and numbers.
_FREE_TEXT: Final = frozenset(
    {"title", "why", "model", "last_error", "changes", "card", "test_summary", "self_check_summary"}
)
_CANDIDATES: Final = 6  # ids fetched to name in an AmbiguousPrefix
_BEYOND_HEX: Final = "g"  # sorts after every character of an id


class Updates(Store):
    """Everything about updates."""

    def create(
        self, new: NewUpdate, *, changes: Mapping[str, object] = _NOTHING, parent_id: int | None = None
    ) -> Update:
        """Record a submission: a row in ``created`` and its ``update.txn.created``.

        ``changes`` are other columns that are known already. Raises BadColumns.
        """
        values = self._columns(changes)
        with self._writing("create"):
            return self._insert(new, Status.CREATED, values, parent_id)

    def create_again(self, update: Update, patch: bytes, base: Revision, *, parent_id: int | None = None) -> Update:
        """Record what a superseded update is on a newer base: an update of its own, which names it."""
        again = NewUpdate(
            origin=update.origin,
            patch=patch,
            base_sha=base.sha,
            base_tx_id=base.tx_id,
            title=update.title,
            why=update.why,
            model=update.model,
            chat_id=update.chat_id,
            forced=update.forced,
            repairs=update.repairs,
            supersedes=update.tx_id,
        )
        return self.create(again, parent_id=parent_id)

    def genesis(
        self, new: NewUpdate, *, changes: Mapping[str, object] = _NOTHING, parent_id: int | None = None
    ) -> Update:
        """Record the first revision, which needs no gates: a row that is promoted from the start.

        ``changes`` are the columns that a submission does not have, such as sha, tree and image_id.
        Raises GenesisExists when a revision was promoted before, BadColumns.
        """
        values = self._columns(changes)
        with self._writing("genesis"):
            if self.good_sha() is not None:
                raise GenesisExists
            now = self._clock()
            update = self._insert(new, Status.PROMOTED, {"promoted_at": now, **values}, parent_id)
            for event in TRANSITIONS[Status.DEPLOYED_UNSTABLE, Status.PROMOTED]:
                self._log(event, self._told(update, None, Status.PROMOTED, {}), update.event_id, now)
            return update

    def move(
        self,
        tx_id: str,
        source: Status,
        target: Status,
        *,
        changes: Mapping[str, object] = _NOTHING,
        payload: Mapping[str, object] = _NOTHING,
        restored: str | None = None,
        along: Callable[[], object] = lambda: None,
    ) -> Update:
        """Take an update from one status to the next, with the events of that transition, all or nothing.

        ``changes`` are other columns to set with it, ``payload`` is added to the events. ``restored`` is the sha that
        a finished rollback went back to: the current good revision from then on; it goes with that move alone.
        ``along`` is done in the same transaction, and undoes all of it by an exception.
        Raises IllegalMove, LostRace when the update is not in ``source`` (any more), UnknownUpdate, BadColumns.
        """
        events = TRANSITIONS.get((source, target))
        if events is None:
            raise IllegalMove(source, target)
        if (restored is not None) != (target is Status.ROLLED_BACK):
            raise ValueError("a finished rollback, and nothing else, names the sha that it restored")
        values = self._columns(changes)
        with self._writing(f"{source}.{target}"):
            now = self._clock()
            here = (Artifact.tx_id == tx_id) & (Artifact.status == source)
            values |= {"status": target, "updated_at": now}
            moved = self._run(Artifact.update(values).where(here))
            update = self._get(tx_id)
            if not moved:
                raise LostRace(tx_id, source, update.status)
            for event in events:
                self._log(event, self._told(update, source, target, payload), update.event_id, now)
            if restored is not None:
                told = self._told(update, source, target, payload, sha=restored, image_id=None)
                self._log(EventType.REVISION_PROMOTED, told, update.event_id, now)
            along()
        self._moved()
        return update

    def amend(
        self,
        tx_id: str,
        changes: Mapping[str, object],
        *,
        event: EventType | None = None,
        payload: Mapping[str, object] = _NOTHING,
    ) -> Update:
        """Set columns that are no status, such as the sha once the patch is applied; ``event`` tells it, if given.

        Raises UnknownUpdate, and BadColumns for the status and whatever else only the ledger writes.
        """
        values = self._columns(changes)
        with self._writing("amend"):
            now = self._clock()
            self._run(Artifact.update({**values, "updated_at": now}).where(Artifact.tx_id == tx_id))
            update = self._get(tx_id)
            if event is not None:
                own = {"tx_id": tx_id, "sha": update.sha, "image_id": update.image_id}
                self._log(event, self._encode(payload, own), update.event_id, now)
            return update

    def probation(self, tx_id: str) -> tuple[float, float | None] | None:
        """What is left of its window in seconds, and since when that runs; None when nothing was noted."""
        query = ProbationRecord.select(ProbationRecord.seconds_left, ProbationRecord.counts_since)
        row: tuple[float, float | None] | None = self._one(query.where(ProbationRecord.tx_id == tx_id).tuples())
        return row

    def set_probation(self, tx_id: str, seconds_left: float, counts_since: float | None) -> None:
        """Note how the clock of its probation stands; since None it stands still."""
        row = {"seconds_left": seconds_left, "counts_since": counts_since}
        with self._writing("probation"):
            noted = ProbationRecord.insert(tx_id=tx_id, **row)
            self._run(noted.on_conflict(conflict_target=[ProbationRecord.tx_id], update=row))

    def attempted(self, tx_id: str, step: str) -> int:
        """Count one more attempt at a step of an update; gives how many there were."""
        key = f"{tx_id} {step}"
        with self._writing("attempt"):
            row = self._one(AttemptRecord.select(AttemptRecord.count).where(AttemptRecord.id == key).tuples())
            count = 1 + (row[0] if row else 0)
            noted = AttemptRecord.insert(id=key, count=count)
            self._run(noted.on_conflict(conflict_target=[AttemptRecord.id], update={"count": count}))
            return count

    def unattempted(self, tx_id: str, step: str) -> None:
        """Take one attempt back."""
        mine = (AttemptRecord.id == f"{tx_id} {step}") & (AttemptRecord.count > 0)
        with self._writing("attempt.back"):
            self._run(AttemptRecord.update(count=AttemptRecord.count - 1).where(mine))

    def find(self, prefix: str) -> Update:
        """The one update whose id starts with this. Raises UnknownUpdate or AmbiguousPrefix."""
        wanted = prefix.strip().lower()
        if not wanted or not set(wanted) <= set("0123456789abcdef-"):
            raise UnknownUpdate(prefix)
        inside = (Artifact.tx_id >= wanted) & (Artifact.tx_id < wanted + _BEYOND_HEX)
        query = Artifact.select(COLUMNS).where(inside).order_by(Artifact.tx_id).limit(_CANDIDATES)
        found: list[Update] = list(self._rows(query.objects(Update)))
        if not found:
            raise UnknownUpdate(prefix)
        if len(found) > 1:
            raise AmbiguousPrefix(prefix, [update.tx_id for update in found])
        return found[0]

    def patch(self, tx_id: str) -> bytes:
        """The patch as it was submitted. Raises UnknownUpdate."""
        row = self._one(Artifact.select(Artifact.patch).where(Artifact.tx_id == tx_id).tuples())
        if row is None:
            raise UnknownUpdate(tx_id)
        return bytes(row[0])

    def lock(self, tx_id: str) -> str | None:
        """The whole lock of an update with packages that an agent asked for; None where a checkout's lock holds."""
        row = self._one(Artifact.select(Artifact.lock).where(Artifact.tx_id == tx_id).tuples())
        return None if row is None else row[0]

    def updates(self, *, limit: int | None = None) -> list[Update]:
        """The updates, newest first."""
        query = Artifact.select(COLUMNS).order_by(Artifact.event_id.desc()).limit(limit)
        return list(self._rows(query.objects(Update)))

    def having(self, *statuses: Status) -> list[Update]:
        """The updates in any of these states, oldest first."""
        wanted = Artifact.status.in_(list(statuses))
        query = Artifact.select(COLUMNS).where(wanted).order_by(Artifact.event_id)
        return list(self._rows(query.objects(Update)))

    def first(self, *statuses: Status) -> Update | None:
        """The oldest update in any of these states."""
        return next(iter(self.having(*statuses)), None)

    def to_be_made_again(self) -> list[Update]:
        """Superseded updates of which nobody has made another on a newer base, or said why not, oldest first."""
        another = Artifact.alias()
        made = another.select(another.tx_id).where(another.supersedes == Artifact.tx_id)
        wanted = (Artifact.status == Status.SUPERSEDED) & Artifact.code.is_null() & ~fn.EXISTS(made)
        query = Artifact.select(COLUMNS).where(wanted).order_by(Artifact.event_id)
        return list(self._rows(query.objects(Update)))

    def made_again(self, update: Update) -> Update | None:
        """What a superseded update is on a newer base."""
        return self._update(Artifact.select(COLUMNS).where(Artifact.supersedes == update.tx_id))

    def blame_open(self) -> list[Update]:
        """The updates of which it is not known yet whether the revision before fails alike, oldest first."""
        ended = Artifact.status.in_([Status.DEPLOY_FAILED, Status.ROLLED_BACK])
        wanted = ended & Artifact.blame.is_null() & (Artifact.code == NO_POLL)
        return list(self._rows(Artifact.select(COLUMNS).where(wanted).order_by(Artifact.event_id).objects(Update)))

    def failed_before(self, patch_id: str) -> Update | None:
        """The latest update with the same change that failed by its own fault or was rolled back.

        A rollback for reasons outside of the revision bans nothing, nor does one whose blame is open.
        """
        own_fault = Artifact.blame == Blame.OWN
        unsaid = Artifact.blame.is_null() & (Artifact.code.is_null() | (Artifact.code != NO_POLL))
        taken_back = (Artifact.status == Status.ROLLED_BACK) & (unsaid | (Artifact.blame != Blame.EXTERNAL))
        wanted = (Artifact.patch_id == patch_id) & (own_fault | taken_back)
        return self._update(Artifact.select(COLUMNS).where(wanted).order_by(Artifact.event_id.desc()))

    def good_sha(self) -> str | None:
        """The current good revision: what the latest ``revision.promoted`` names."""
        latest = self.events(EventType.REVISION_PROMOTED, newest_first=True, limit=1)
        return latest[0].payload["sha"] if latest else None

    def good_revision(self) -> Revision:
        """The current good revision with its image. Raises NoRevision before the first one was made."""
        sha = self.good_sha()
        if sha is None:
            raise NoRevision
        return self.revision(sha)

    def revision(self, sha: str) -> Revision:
        """The revision with this sha. Raises UnknownUpdate for one that was never built."""
        update = self._update(Artifact.select(COLUMNS).where((Artifact.sha == sha) & ~Artifact.image_id.is_null()))
        if update is None:
            raise UnknownUpdate(sha)
        return update.revision

    def _update(self, query: Any) -> Update | None:
        update: Update | None = self._one(query.objects(Update))
        return update

    def _get(self, tx_id: str) -> Update:
        update = self._update(Artifact.select(COLUMNS).where(Artifact.tx_id == tx_id))
        if update is None:
            raise UnknownUpdate(tx_id)
        return update

    def _insert(self, new: NewUpdate, status: Status, values: Mapping[str, object], parent_id: int | None) -> Update:
        now = self._clock()
        tx_id = new.tx_id or str(uuid.uuid4())
        own = {"tx_id": tx_id, "status_from": None, "status_to": status, "base_sha": new.base_sha}
        told = self._encode({"origin": new.origin, "title": new.title}, own)
        event_id = self._log(EventType.UPDATE_CREATED, told, parent_id, now)
        submitted = asdict(new)
        submitted |= self._clean({name: submitted[name] for name in submitted.keys() & _FREE_TEXT})
        row = {"changes": [], "card": {}, **submitted, **values, "tx_id": tx_id, "status": status}
        row |= {"event_id": event_id, "created_at": now, "updated_at": now}
        self._run(Artifact.insert(row))
        return self._get(tx_id)

    def _told(
        self,
        update: Update,
        source: Status | None,
        target: Status,
        payload: Mapping[str, object],
        **instead: object,
    ) -> str:
        """The payload of an event about a change of status."""
        own = {"tx_id": update.tx_id, "status_from": source, "status_to": target}
        return self._encode(payload, {**own, "sha": update.sha, "image_id": update.image_id, **instead})

    def _columns(self, changes: Mapping[str, object]) -> dict[str, object]:
        """Changes that may be made, without secrets. Raises BadColumns."""
        bad = changes.keys() - CHANGEABLE_COLUMNS
        if bad:
            raise BadColumns(bad)
        free = {name: value for name, value in changes.items() if name in _FREE_TEXT}
        return {**changes, **self._clean(free)}
