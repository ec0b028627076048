"""The probation: green works, blue stands by, and the first failure of green's own brings blue back."""

import time
from typing import Final

import structlog

from supervisor.contract import EventType
from supervisor.images.garbage import old_snapshots, remove_snapshot
from supervisor.ledger import Blame, LedgerError, Update, WorkerRow
from supervisor.revisions import Revisions
from supervisor.rollout.context import Context, Part, Trial
from supervisor.rollout.pace import Pace
from supervisor.rollout.rollback import Rollback
from supervisor.rollout.standby import Standby
from supervisor.rollout.window import WindowClock
from supervisor.states import Status
from supervisor.timing import Timing
from supervisor.updates.attempts import TooManyDeaths
from supervisor.updates.binding import BindingBroken, check_binding
from supervisor.updates.superseding import supersede_others
from supervisor.workers.containers import ENDED_FROM_OUTSIDE
from supervisor.workers.pool import NoPoll, WorkerFailed

_LOG = structlog.get_logger()
#: A worker waits so long before it polls again, and then for the answer; 30 s each where they are not set.
_POLL_PAUSES: Final = ("AUTONOUS_CONTROL_CIRCUIT_COOLDOWN_SECONDS", "TG_TIMEOUT")


class Probation(Part):
    """Watches green for its window, and promotes it or asks for the way back."""

    def __init__(
        self,
        context: Context,
        trial: Trial,
        *,
        revisions: Revisions,
        rollback: Rollback,
        standby: Standby,
        pace: Pace,
        timing: Timing,
    ) -> None:
        super().__init__(context)
        self._trial = trial
        self._revisions = revisions
        self._rollback = rollback
        self._standby = standby
        self._pace = pace
        self._timing = timing
        values = context.settings.worker_values
        #: How long it may take until a worker can tell that its polls go well again.
        self._poll_pause = sum(float(values.get(name, 30)) for name in _POLL_PAUSES)
        self._polls_failing_since: float | None = None

    def prove(self, update: Update) -> None:
        """Watch green until its window has passed, or until its first failure of its own."""
        self._polls_failing_since = None
        try:
            self._trial.attempts.begin(update)
        except TooManyDeaths as deaths:
            self._give_up(update, str(deaths))
            return
        clock = WindowClock.of(update, self._ledger, self._clocks, self._settings.stable_window_seconds)
        while not self._pace.stopping:
            self._pace.begin()
            if self._ledger.find(update.tx_id).status is not Status.DEPLOYED_UNSTABLE:
                return
            self._pace.look()
            clock.run(running=not self._outages.away())
            green = self._pool.holder()
            if displaced := self._displaced(update, green):
                self._give_up(update, displaced)
                return
            if green is None or self._containers.ended_from_outside(green.worker_id):
                if not self._start_again(update, green):
                    return
                clock.restart()
            elif failure := self._failure(green):
                if self._gone_back(update, green, failure):
                    return
            elif self._clocks.monotonic() >= clock.ends and self._beaten_since(green, clock.ends):
                if self._polls(green) and not self._outages.look(afresh=True):
                    self._promote(update)
                    return
                self._pace.pause(self._timing.look)
            else:
                self._standby.replace(update.base_sha)
                self._pace.sweep()
                left = clock.ends - self._clocks.monotonic()
                self._pace.pause(min(left, self._timing.look) if left > 0 else self._timing.look)

    def _give_up(self, update: Update, reason: str) -> None:
        """End the probation for what is not green's fault."""
        self._rollback.demand(update, Status.DEPLOYED_UNSTABLE, self._pool.holder(), reason, blame=Blame.EXTERNAL)

    def _displaced(self, update: Update, green: WorkerRow | None) -> str:
        """Why nothing can be proven about the update any more; empty while it is the one in service."""
        if update.base_sha != self._activation.good().sha:
            return "its base is not the good revision any more"
        if green is not None and green.sha != update.sha:
            return f"the lease is with a worker of {green.sha[:12]}"
        return ""

    def _gone_back(self, update: Update, green: WorkerRow, failure: WorkerFailed) -> bool:
        """Whether green's failure is its own, and the way back was asked for."""
        if self._pace.look():
            return False  # the machine stood still just now, and nobody could be heard
        if excuse := self._outages.excuse():
            self._bear_with(green, str(failure), excuse)
            return False
        code = NoPoll.code if isinstance(failure, NoPoll) else None
        self._rollback.demand(update, Status.DEPLOYED_UNSTABLE, green, str(failure), code=code)
        return True

    def _bear_with(self, green: WorkerRow, failure: str, excuse: str) -> None:
        """Green fails by what is around it: one that died is started again, when that can be done."""
        _LOG.warning("green fails, and not by its own fault", failure=failure, excuse=excuse)
        if self._containers.died(green.worker_id):
            self._containers.end(green.worker_id, reason=excuse)
        self._pace.rest(self._timing.engine_retry)

    def _start_again(self, update: Update, green: WorkerRow | None) -> bool:
        """Green ended with the engine, the machine or its container, and not by its fault: whether it is up again."""
        _LOG.warning("green ended from outside; its probation begins again", tx=update.tx_id)
        if green is not None:
            self._containers.end(green.worker_id, reason=ENDED_FROM_OUTSIDE)
        try:
            check_binding(update, self._trial.engine)
            self._activation.make_active(update.revision, at_once=True)
        except (WorkerFailed, BindingBroken) as failure:
            if excuse := self._outages.excuse():
                _LOG.warning("green does not come up, and not by its own fault", failure=str(failure), excuse=excuse)
                self._pace.rest(self._timing.engine_retry)
                return True
            self._rollback.demand(update, Status.DEPLOYED_UNSTABLE, None, str(failure))
            return False
        return True

    def _failure(self, green: WorkerRow) -> WorkerFailed | None:
        if ailment := self._pool.ailment(green):
            return WorkerFailed(ailment)
        session = self._pool.session(green)
        now = self._clocks.monotonic()
        # After it was away a worker may pause for its whole cool-down, and then wait for a message.
        pausing = self._outages.bot_api_away_since(now - self._poll_pause - self._timing.poll_errors)
        if session is None or not session.beat.poll_error or pausing:
            self._polls_failing_since = None
        elif self._polls_failing_since is None:
            self._polls_failing_since = now
        elif now - self._polls_failing_since > self._timing.poll_errors:
            self._polls_failing_since = None
            # Only when the Bot API answers us is it the worker that cannot poll.
            if self._trial.bot_api_answers():
                return NoPoll(f"it cannot poll: {session.beat.poll_error}")
        return None

    def _polls(self, worker: WorkerRow) -> bool:
        """Whether its last poll went well: else it is not known yet whose fault that is."""
        session = self._pool.session(worker)
        return session is not None and not session.beat.poll_error

    def _beaten_since(self, worker: WorkerRow, moment: float) -> bool:
        """Whether it gave a sign of life after that: one that went silent a second before has proven nothing."""
        session = self._pool.session(worker)
        if session is None or session.last_beat is None:
            return False
        seconds_ago = time.monotonic() - session.last_beat
        return self._clocks.monotonic() - seconds_ago >= moment

    def _promote(self, update: Update) -> None:
        promoted_at = self._clocks.wall()
        self._ledger.move(update.tx_id, Status.DEPLOYED_UNSTABLE, Status.PROMOTED, changes={"promoted_at": promoted_at})
        self._revisions.set_active(update.revision.sha)
        supersede_others(self._ledger, update.revision)
        blue = self._pool.living(update.base_sha or "")
        self._pool.retire_all_but(self._pool.holder(), blue, reason="a newer revision was promoted")
        self._ledger.append(EventType.UPDATE_CLEANUP_COMPLETED, {"tx_id": update.tx_id}, parent_id=update.event_id)
        _LOG.info("promoted", tx=update.tx_id, sha=update.revision.sha[:12])
        self._remove_old_snapshots()

    def _remove_old_snapshots(self) -> None:
        """Each deploy leaves one, of the whole state. What cannot be removed is tried again at the next promotion."""
        try:
            for old, file in old_snapshots(self._ledger, self._settings.paths.snapshots):
                try:
                    remove_snapshot(self._ledger, old, file)
                except OSError as error:
                    _LOG.warning("an old snapshot cannot be removed", file=str(file), error=str(error))
        except LedgerError as error:
            _LOG.warning("old snapshots cannot be removed", error=str(error))
