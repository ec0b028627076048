"""Workers and the lease that one of them holds."""

import hashlib
from collections.abc import Mapping
from typing import Any, Final

from peewee import fn

from supervisor.contract.events import EventType
from supervisor.ledger.errors import UnknownWorker, WorkerGone
from supervisor.ledger.models import EventRecord, LeaseRecord, WorkerRecord, columns
from supervisor.ledger.store import Store
from supervisor.ledger.values import Lease, NewWorker, WorkerRow

_NOTHING: Final[Mapping[str, object]] = {}
_COLUMNS: Final = columns(WorkerRecord, WorkerRow)


def _digest(credential: str) -> str:
    return hashlib.sha256(credential.encode()).hexdigest()


class Workers(Store):
    """Everything about workers."""

    def register_worker(self, new: NewWorker, *, parent_id: int | None = None) -> WorkerRow:
        """Record a worker that is about to be started, with its ``worker.spawned``; of its credential only a digest."""
        with self._writing("worker"):
            now = self._clock()
            spawned = EventRecord.event_type == EventType.WORKER_SPAWNED
            instance = 1 + self._count(EventRecord.select().where(spawned))
            told = {"worker_id": new.worker_id, "instance": instance, "sha": new.sha, "image_id": new.image_id}
            event_id = self._log(EventType.WORKER_SPAWNED, self._encode({}, told), parent_id, now)
            row = {**told, "tx_id": new.tx_id, "credential_sha256": _digest(new.credential)}
            row |= {"event_id": event_id, "spawned_at": now, "oom": False, "crashed": False}
            self._run(WorkerRecord.insert(row))
            return self.worker(new.worker_id)

    def worker(self, worker_id: str) -> WorkerRow:
        """One worker, living or ended. Raises UnknownWorker."""
        row = self._worker(WorkerRecord.worker_id == worker_id)
        if row is None:
            raise UnknownWorker(worker_id)
        return row

    def living_workers(self) -> list[WorkerRow]:
        """The workers whose end was not recorded yet, oldest first."""
        query = WorkerRecord.select(_COLUMNS).where(WorkerRecord.exited_at.is_null())
        return list(self._rows(query.order_by(WorkerRecord.event_id).objects(WorkerRow)))

    def worker_ready(self, worker_id: str, payload: Mapping[str, object] = _NOTHING) -> bool:
        """Record that it came up; only the first call does. Returns whether this one did. Raises UnknownWorker."""
        with self._writing("worker.ready"):
            worker = self.worker(worker_id)
            if worker.ready_at is not None:
                return False
            now = self._clock()
            self._run(WorkerRecord.update(ready_at=now).where(WorkerRecord.worker_id == worker_id))
            self._log(EventType.WORKER_READY, self._about(worker, payload), worker.event_id, now)
            return True

    def worker_activated(self, worker_id: str, payload: Mapping[str, object] = _NOTHING) -> int:
        """Record that it took the active role; returns the event's id. Raises UnknownWorker."""
        return self._note(EventType.WORKER_ACTIVATED, worker_id, payload)

    def worker_drained(self, worker_id: str, payload: Mapping[str, object] = _NOTHING) -> int:
        """Record that it gave the active role back; returns the event's id. Raises UnknownWorker."""
        return self._note(EventType.WORKER_DRAINED, worker_id, payload)

    def worker_exited(
        self,
        worker_id: str,
        *,
        exit_code: int | None,
        oom: bool,
        reason: str,
        uptime_seconds: float,
        crashed: bool = False,
        ended_at: float | None = None,
    ) -> bool:
        """Record its end; only the first call does. Returns whether this one did. Raises UnknownWorker.

        ``exit_code`` is None when nobody saw it; ``crashed`` when the end was its own fault; ``ended_at`` is the
        engine's word on when its process ended, in seconds since the epoch: earlier than this record of it.
        """
        end = {"exit_code": exit_code, "oom": oom, "reason": reason, "uptime_seconds": uptime_seconds}
        end = {**self._clean(end), "crashed": crashed}
        with self._writing("exit"):
            worker = self.worker(worker_id)
            if worker.exited_at is not None:
                return False
            now = self._clock()
            ended = WorkerRecord.update({**end, "exited_at": now})
            self._run(ended.where(WorkerRecord.worker_id == worker_id))
            self._log(EventType.WORKER_EXITED, self._about(worker, {**end, "ended_at": ended_at}), worker.event_id, now)
            return True

    def crashes(self, sha: str, since: float) -> list[WorkerRow]:
        """The workers of a revision that ended by their own fault since a time, oldest first."""
        own = (WorkerRecord.sha == sha) & WorkerRecord.crashed & (WorkerRecord.exited_at >= since)
        query = WorkerRecord.select(_COLUMNS).where(own).order_by(WorkerRecord.exited_at)
        return list(self._rows(query.objects(WorkerRow)))

    def grant_lease(self, worker_id: str, payload: Mapping[str, object] = _NOTHING) -> Lease:
        """Give the lease to this worker, with the next epoch. Raises UnknownWorker, WorkerGone.

        ``payload`` is added to the event.
        """
        with self._writing("lease"):
            worker = self.worker(worker_id)
            if worker.exited_at is not None:
                raise WorkerGone(worker_id)
            last = self._one(LeaseRecord.select(fn.MAX(LeaseRecord.epoch)).tuples())[0] or 0
            lease = Lease(epoch=last + 1, worker_id=worker_id, granted_at=self._clock())
            self._run(LeaseRecord.insert(epoch=lease.epoch, worker_id=worker_id, granted_at=lease.granted_at))
            told = {"epoch": lease.epoch, "worker_id": worker_id, "sha": worker.sha}
            self._log(EventType.LEASE_GRANTED, self._encode(payload, told), worker.event_id, lease.granted_at)
            return lease

    def lease(self) -> Lease | None:
        """The lease that was granted last. Its holder may have ended since."""
        row = self._one(LeaseRecord.select().order_by(LeaseRecord.epoch.desc()).tuples())
        return None if row is None else Lease(*row)

    def holds_lease(self, worker_id: str) -> bool:
        """Whether the lease was granted to this worker last, living or ended."""
        lease = self.lease()
        return lease is not None and lease.worker_id == worker_id

    def _worker(self, wanted: Any) -> WorkerRow | None:
        row: WorkerRow | None = self._one(WorkerRecord.select(_COLUMNS).where(wanted).objects(WorkerRow))
        return row

    def _note(self, event: EventType, worker_id: str, payload: Mapping[str, object]) -> int:
        with self._writing(event.value):
            worker = self.worker(worker_id)
            return self._log(event, self._about(worker, payload), worker.event_id, self._clock())

    def _about(self, worker: WorkerRow, payload: Mapping[str, object]) -> str:
        own = {"worker_id": worker.worker_id, "instance": worker.instance, "sha": worker.sha}
        return self._encode(payload, own)
