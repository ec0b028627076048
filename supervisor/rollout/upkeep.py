"""Staying up: the active worker lives and N-1 stands by, between updates and whatever happens."""

import structlog

from supervisor.contract import EventType
from supervisor.engine import EngineError
from supervisor.ledger import Revision, WorkerRow
from supervisor.rollout.context import Context, Part
from supervisor.rollout.pace import Pace
from supervisor.rollout.rebuild import Rebuilder
from supervisor.rollout.rollback import Rollback
from supervisor.rollout.standby import Standby
from supervisor.states import Status
from supervisor.timing import Timing
from supervisor.updates.superseding import supersede_others
from supervisor.workers.containers import ENDED_FROM_OUTSIDE
from supervisor.workers.pool import WorkerFailed

_LOG = structlog.get_logger()


class Upkeep(Part):
    """Keeps the good revision active and N-1 beside it, both with the settings of now."""

    def __init__(
        self,
        context: Context,
        *,
        rollback: Rollback,
        standby: Standby,
        rebuilder: Rebuilder,
        pace: Pace,
        timing: Timing,
    ) -> None:
        super().__init__(context)
        self._rollback = rollback
        self._standby = standby
        self._rebuilder = rebuilder
        self._pace = pace
        self._timing = timing
        self._renew_not_before = 0.0
        self._renewal_failure = ""

    def keep_running(self) -> None:
        """The active worker lives and N-1 stands by; a crash is answered by a restart, a crash loop by N-1."""
        self._pace.sweep()
        good = self._activation.good()
        supersede_others(self._ledger, good)  # where a supervisor died before it came to that
        holder = self._pool.holder()
        ailment = self._pool.ailment(holder) if holder else None
        if holder is None or ailment is not None:
            if holder is not None and self._containers.ended_from_outside(holder.worker_id):
                self._containers.end(holder.worker_id, reason=ENDED_FROM_OUTSIDE)
            elif holder is not None:
                self._bury(holder, ailment or "")
            if not self._crash_loop(good):
                self._activation.make_active(good, at_once=True)
        elif holder.sha != good.sha:
            self._activation.make_active(good, at_once=False)
        else:
            if not self._containers.current(holder):
                self._renew(holder, good)
            self._keep_standby(self._pool.holder() or holder, good)
            self._recover()

    @property
    def renewal(self) -> dict[str, str] | None:
        """While the active worker has other settings than now: ``state`` (waiting or failed) and ``reason``."""
        try:
            holder = self._pool.holder()
            if holder is None or self._containers.current(holder):
                return None
        except EngineError as error:
            return {"state": "waiting", "reason": str(error)}
        failure = self._renewal_failure
        return {"state": "failed" if failure else "waiting", "reason": failure}

    def _renew(self, holder: WorkerRow, good: Revision) -> None:
        """Hand over to a worker of the same revision that has the settings of now.

        One that fails says nothing about the revision: the holder goes on, or takes the lease again.
        """
        if self._clocks.monotonic() < self._renew_not_before:
            return
        worker = self._pool.living(good.sha) or self._pool.start(self._rebuilder.ensure_image(good))
        try:
            self._pool.settle(worker)
            self._pool.hand_over(worker)
        except WorkerFailed as failure:
            _LOG.warning("no worker comes up with the changed settings", error=str(failure))
            self._renew_not_before = self._clocks.monotonic() + self._timing.standby_retry
            self._pool.retire(worker, reason=str(failure))
            if self._pool.holder() is None:
                self._pool.hand_over(holder)
            self._renewal_failure = str(failure)
        else:
            self._renewal_failure = ""
            _LOG.info("the changed settings are in force", worker=worker.worker_id)

    def _keep_standby(self, holder: WorkerRow, good: Revision) -> None:
        """One worker of N-1 beside the active one, and no other."""
        self._pool.retire_all_but(holder, self._pool.living(good.base_sha or ""), reason="no longer needed")
        self._standby.keep(good.base_sha)

    def _recover(self) -> None:
        """A worker that has stayed for long enough shows that whatever made all of them fail is over."""
        lease = self._ledger.lease()
        if lease is None or not self._outages.repeated():
            return
        if self._clocks.wall() - lease.granted_at >= self._timing.rescue_over:
            self._outages.recovered()

    def _bury(self, worker: WorkerRow, ailment: str) -> None:
        self._activation.trouble = f"the last one ended: {ailment}"
        if not self._containers.died(worker.worker_id):
            self._containers.kill(worker.worker_id, ailment)
        self._containers.end(worker.worker_id, reason=ailment, crashed=not self._outages.excuse())
        _LOG.warning("the active worker ended", worker=worker.worker_id, reason=ailment)

    def _crash_loop(self, good: Revision) -> bool:
        """Whether another revision was asked for: N-1, because this one crashes too often. Else wait to try again."""
        window = self._settings.crash_window_seconds
        crashes = self._ledger.crashes(good.sha, self._clocks.wall() - window)
        beyond = len(crashes) - self._settings.crash_threshold
        if beyond < 0:
            return self._pace.rest(self._settings.restart_delay_seconds if crashes else 0, unless=self._sent_back)
        if excuse := self._outages.excuse():
            _LOG.warning("nobody is given up while nothing can be done", reason=excuse)
            return self._pace.rest(self._timing.engine_retry, unless=self._sent_back)
        repeated = self._rollback.repeated_by(good, crashes[-1].reason or "")  # also by the first revision
        goes_back = bool(good.base_sha) and not repeated
        if goes_back:
            reason = f"crash loop: {len(crashes)} exits, the last: {crashes[-1].reason}"
            self._rollback.demand(self._ledger.find(good.tx_id), Status.PROMOTED, None, reason)
        if beyond == 0 or goes_back:
            told = {"sha": good.sha, "crashes": len(crashes), "window_seconds": window}
            self._ledger.append(EventType.CRASH_LOOP_DETECTED, told, parent_id=good.event_id)
        if goes_back:
            return True
        # There is nothing before it, or what was before fails alike: keep trying, ever more slowly.
        slowly = min(self._timing.slowest_restart, self._settings.restart_delay_seconds * 2**beyond)
        return self._pace.rest(slowly, unless=self._sent_back)

    def _sent_back(self) -> bool:
        """Whether a person wants an earlier revision."""
        return bool(self._ledger.having(Status.ROLLBACK_PENDING))
