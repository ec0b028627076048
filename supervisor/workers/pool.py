"""The lease, and the workers it moves between.

One worker is active; the others stand by. The lease moves in one order only: the holder lets go, or is killed and seen
dead; the ledger grants the next epoch; the new holder is told. So there is never a moment with two active workers, and
the moment with none is as short as a message over a Unix socket.
"""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Final

import structlog

from supervisor.agent_db.access import cap_epoch
from supervisor.contract import EventType, Role, WorkerState
from supervisor.engine import EngineError
from supervisor.ledger import NO_POLL, Ledger, Revision, WorkerRow
from supervisor.sessions import Session, Sessions, Signal
from supervisor.settings import Settings
from supervisor.timing import IN_SERVICE, Timing
from supervisor.workers.containers import WorkerContainers, own_exit

_LOG = structlog.get_logger()

_INTERNAL_ERRORS_ALLOWED: Final = 3


class WorkerFailed(Exception):
    """A worker did not do what it must; the message says what, in one line.

    WorkerFailed
    └── WorkerLate    it lives and says that it is well, but did not do it in time
        └── NoPoll    that is: reach the Bot API
    """


class WorkerLate(WorkerFailed):
    """It did not do it in time."""


class NoPoll(WorkerLate):
    """It did not reach the Bot API, which may be the Bot API's fault."""

    code = NO_POLL


class Stopping(Exception):
    """The supervisor is being ended; what is in hand is taken up again at the next start."""


class WorkerPool:
    """The active worker and those beside it.

    ``poll_turn`` is held while the bot passes to a worker, by whoever else polls it while it does.
    """

    def __init__(
        self,
        *,
        containers: WorkerContainers,
        ledger: Ledger,
        sessions: Sessions,
        settings: Settings,
        signal: Signal,
        stopping: Callable[[], bool],
        poll_turn: AbstractContextManager[object] | None = None,
        timing: Timing = IN_SERVICE,
    ) -> None:
        self._containers = containers
        self._ledger = ledger
        self._sessions = sessions
        self._settings = settings
        self._signal = signal
        self._stopping = stopping
        self._poll_turn = poll_turn or nullcontext()
        self._timing = timing
        #: How often a worker had polled when it was granted the lease: N-1 has, in its former time. Read from the
        #: ledger where an earlier supervisor granted it.
        self._polls_before: dict[str, int] = {}
        #: Whom a worker took over from, by its id.
        self._predecessors: dict[str, str] = {}

    # -- who is there

    def holder(self) -> WorkerRow | None:
        """The worker that was granted the lease last, while its container has not been put away."""
        lease = self._ledger.lease()
        row = self._ledger.worker(lease.worker_id) if lease else None
        return row if row is not None and row.exited_at is None else None

    def may_poll(self) -> bool:
        """Whether a worker holds the lease that is not known to be dead."""
        holder = self.holder()
        return holder is not None and not self._containers.died(holder.worker_id)

    def polls(self) -> bool:
        """Whether that worker has polled since it was granted the lease."""
        holder = self.holder()
        return holder is not None and not self._containers.died(holder.worker_id) and self._has_polled(holder)

    def predecessor_complains(self, worker: WorkerRow) -> bool:
        """Whether the last poll of the worker that this one took over from failed, too.

        Nobody else is asked: one that stands by says for ever what it said last when it was active.
        """
        session = self._sessions.get(self._predecessors.get(worker.worker_id, ""))
        return session is not None and bool(session.beat.poll_error)

    def in_service(self) -> bool:
        """Whether a worker holds the lease and nothing is known to be wrong with it."""
        holder = self.holder()
        return holder is not None and self.ailment(holder) is None

    def living(self, sha: str) -> WorkerRow | None:
        """A worker of this revision that is up, well, and has the settings of now; the newest one."""
        well = [row for row in self._well(sha) if self._containers.current(row)]
        return well[-1] if well else None

    def retire_ailing(self, sha: str) -> bool:
        """Put away the workers of this revision that are not well; whether one is left, whatever its settings."""
        well = {row.worker_id for row in self._well(sha)}
        for row in self._containers.started():
            if row.sha == sha and row.worker_id not in well:
                self.retire(row, reason=self.ailment(row) or "it was not well")
        return bool(well)

    def _well(self, sha: str) -> list[WorkerRow]:
        return [row for row in self._ledger.living_workers() if row.sha == sha and self.ailment(row) is None]

    def _healthy(self, worker: WorkerRow) -> bool:
        session = self.session(worker)
        return session is not None and session.healthy(time.monotonic()) and not self._containers.died(worker.worker_id)

    def session(self, worker: WorkerRow) -> Session | None:
        """What the worker says of itself."""
        return self._sessions.get(worker.worker_id)

    def ailment(self, worker: WorkerRow) -> str | None:
        """What is wrong with a worker, in one line; None when nothing is known to be."""
        if self._containers.died(worker.worker_id):
            view = self._containers.container(worker.worker_id)
            return own_exit(view).reason if view else "its container is gone"
        self._sessions.look()  # no silence counts from while this process stood still
        session = self.session(worker)
        if session is None:
            return "it is not expected any more"
        if session.problem:
            return session.problem
        if session.lost(time.monotonic()):
            return "it stopped answering: no beat from its loop"
        if session.last_beat is not None and not session.beat.healthy:
            return f"it says that it is not well: {session.beat.detail}"
        if session.beat.internal_errors >= _INTERNAL_ERRORS_ALLOWED:
            return f"{session.beat.internal_errors} internal errors since it started"
        return None

    # -- bringing one up

    def start(self, revision: Revision) -> WorkerRow:
        """Start a worker of this revision in standby. Raises EngineError."""
        worker = self._containers.spawn(revision)
        _LOG.info("worker started", worker=worker.worker_id, sha=revision.sha[:12])
        return worker

    def settle(self, worker: WorkerRow) -> None:
        """Wait until a worker is healthy and has been for a settled time; one that was before is not asked again.

        Raises WorkerFailed when it is not within ``Timing.ready``.
        """
        if worker.ready_at is not None and self._healthy(worker):
            return
        self._await(worker, self._timing.ready, "it did not get ready", lambda s: s.healthy(time.monotonic()))
        self._ledger.worker_ready(worker.worker_id)
        self._until(lambda: self.ailment(worker) is not None, self._timing.settled)
        self._refuse_ailing(worker)

    def bring_up(self, revision: Revision, *, excuse: Callable[[], str]) -> WorkerRow:
        """A worker of this revision that stands by or better, started when there is none.

        Raises WorkerFailed, EngineError, Stopping; a worker that failed is put away, and counted unless ``excuse``
        says why it is not to blame.
        """
        worker = self.living(revision.sha)
        if worker is None:
            if self._stopping():
                raise Stopping
            worker = self.start(revision)
        try:
            self.settle(worker)
        except WorkerFailed as failure:
            self.retire(worker, reason=str(failure), crashed=not excuse())
            raise
        return worker

    def first_poll(self, worker: WorkerRow) -> None:
        """Wait until a newly active worker has polled once. Raises NoPoll, WorkerFailed."""
        try:
            self._await(
                worker, self._timing.first_poll, "it never polled successfully", lambda _: self._has_polled(worker)
            )
        except WorkerLate as late:
            raise NoPoll(str(late)) from None

    # -- moving the lease

    def hand_over(self, successor: WorkerRow, *, at_once: bool = False) -> None:
        """Make ``successor`` the active worker.

        The holder drains first, at most AUTONOUS_DRAIN_SECONDS; with ``at_once`` it is killed. Raises WorkerFailed
        when the successor does not take over, EngineError when the holder cannot be seen dead. The successor's first
        poll is awaited apart, by :meth:`first_poll`.
        """
        lease = self._ledger.lease()
        holder = self.holder()
        kept = None
        if lease is not None and lease.worker_id == successor.worker_id:
            epoch = lease.epoch
        else:
            if holder is not None:
                self._release(holder, at_once=at_once)
                self._predecessors[successor.worker_id] = holder.worker_id
            if lease is not None:
                cap_epoch(self._settings.paths.agent_db, lease.epoch)
            before = self._polls_before[successor.worker_id] = self._polls_ok(successor)
            with self._poll_turn:  # whoever stood in at the bot has ended its poll, and begins no other
                kept = self._ledger.keeps_any()
                epoch = self._ledger.grant_lease(successor.worker_id, {"polls_ok": before}).epoch
        self._sessions.assign(successor.worker_id, Role.ACTIVE, epoch=epoch, kept=kept)
        if holder is not None and holder.worker_id != successor.worker_id:
            self._sessions.assign(holder.worker_id, Role.STANDBY)
        self._await(
            successor,
            self._timing.activate,
            "it did not take over",
            lambda s: s.state is WorkerState.ACTIVE and s.beat.epoch == epoch,
        )
        self._ledger.worker_activated(successor.worker_id)

    def _release(self, holder: WorkerRow, *, at_once: bool) -> None:
        if at_once or self.ailment(holder) is not None:
            self._containers.kill(holder.worker_id, "killed: the lease moved on without it")
            return
        seconds = self._settings.drain_seconds
        self._sessions.assign(holder.worker_id, Role.DRAIN, deadline_seconds=seconds)
        released = self._until(
            lambda: self._released(holder) or self.ailment(holder) is not None, seconds + self._timing.grace
        )
        if released and self._released(holder):
            self._ledger.worker_drained(holder.worker_id)
            return
        self._containers.kill(holder.worker_id, f"killed: it had not let go of the lease after {seconds:g} s")

    def _polls_ok(self, worker: WorkerRow) -> int:
        session = self.session(worker)
        return session.beat.polls_ok if session else 0

    def _has_polled(self, worker: WorkerRow) -> bool:
        if worker.worker_id not in self._polls_before:
            granted = self._ledger.events(
                EventType.LEASE_GRANTED, parent_id=worker.event_id, newest_first=True, limit=1
            )
            self._polls_before[worker.worker_id] = granted[0].payload.get("polls_ok", 0) if granted else 0
        return self._polls_ok(worker) > self._polls_before[worker.worker_id]

    def _released(self, worker: WorkerRow) -> bool:
        session = self.session(worker)
        return session is not None and session.state is WorkerState.RELEASED

    def _await(self, worker: WorkerRow, seconds: float, otherwise: str, met: Callable[[Session], bool]) -> None:
        def decided() -> bool:
            session = self.session(worker)
            return self._stopping() or self.ailment(worker) is not None or (session is not None and met(session))

        in_time = self._until(decided, seconds)
        if self._stopping():
            raise Stopping
        self._refuse_ailing(worker)
        if not in_time:
            raise WorkerLate(f"{otherwise} within {seconds:g} s{self._poll_error(worker)}")

    def _until(self, met: Callable[[], bool], seconds: float) -> bool:
        """Wait until ``met`` is true, at most ``seconds``; gives what it said last.

        No silence counts from while this process stood still.
        """

        def looked() -> bool:
            self._sessions.look()
            return met()

        return self._signal.until(looked, seconds)

    def _poll_error(self, worker: WorkerRow) -> str:
        session = self.session(worker)
        return f" ({session.beat.poll_error})" if session and session.beat.poll_error else ""

    def _refuse_ailing(self, worker: WorkerRow) -> None:
        if ailment := self.ailment(worker):
            raise WorkerFailed(ailment)

    # -- putting away

    def retire_all_but(self, *kept: WorkerRow | None, reason: str) -> None:
        """End every other worker; one that is just being started is left for the next time."""
        names = {worker.worker_id for worker in kept if worker is not None}
        for row in self._containers.started():
            if row.worker_id not in names:
                self.retire(row, reason=reason)

    def retire(self, worker: WorkerRow, *, reason: str, crashed: bool = False) -> None:
        """End one worker; an engine that does not answer is left for the next look."""
        try:
            self._containers.end(worker.worker_id, reason=reason, crashed=crashed)
            self._polls_before.pop(worker.worker_id, None)
            self._predecessors.pop(worker.worker_id, None)
        except EngineError as error:
            _LOG.warning("could not put a worker away", worker=worker.worker_id, error=str(error))
