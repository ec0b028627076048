"""From an approved update to a promoted one, or back: the only place that decides which revision is active.

One thread runs :meth:`Rollout.run`. It does the most urgent thing that the ledger asks for, and whatever a crash left
half done is simply asked for again: every step may be repeated.
"""

from collections.abc import Callable

import structlog

from supervisor.engine import EngineError
from supervisor.ledger import Ledger, LostRace
from supervisor.outages import OutageMonitor
from supervisor.revisions import Revisions
from supervisor.rollout.activation import Activation
from supervisor.rollout.context import Context, Trial
from supervisor.rollout.deployment import Deployment
from supervisor.rollout.pace import Pace
from supervisor.rollout.probation import Probation
from supervisor.rollout.rebuild import Rebuilder
from supervisor.rollout.rollback import Rollback
from supervisor.rollout.standby import Beside, Standby, in_thread
from supervisor.rollout.upkeep import Upkeep
from supervisor.sessions import Sessions, Signal
from supervisor.settings import Settings
from supervisor.states import IN_ROLLOUT, Status
from supervisor.timing import IN_SERVICE, SYSTEM_CLOCKS, Clocks, Timing
from supervisor.updates.attempts import Attempts
from supervisor.updates.binding import Engine
from supervisor.workers.containers import WorkerContainers
from supervisor.workers.pool import Stopping, WorkerFailed, WorkerPool

_LOG = structlog.get_logger()


class Rollout:
    """Deploys, proves, rolls back, and keeps the active worker and N-1 running."""

    def __init__(
        self,
        *,
        engine: Engine,
        ledger: Ledger,
        revisions: Revisions,
        containers: WorkerContainers,
        pool: WorkerPool,
        sessions: Sessions,
        settings: Settings,
        signal: Signal,
        rebuilder: Rebuilder,
        outages: OutageMonitor,
        bot_api_answers: Callable[[], bool],
        beside: Beside = in_thread,
        clocks: Clocks = SYSTEM_CLOCKS,
        timing: Timing = IN_SERVICE,
    ) -> None:
        self._ledger = ledger
        self._settings = settings
        self._timing = timing
        self._attempts = Attempts(ledger)
        self._pace = pace = Pace(containers=containers, sessions=sessions, signal=signal, clocks=clocks, timing=timing)
        self._activation = Activation(
            pool=pool, containers=containers, ledger=ledger, rebuilder=rebuilder, outages=outages
        )
        self._standby = standby = Standby(
            pool=pool,
            ledger=ledger,
            rebuilder=rebuilder,
            outages=outages,
            clocks=clocks,
            timing=timing,
            beside=beside,
        )
        context = Context(
            ledger=ledger,
            containers=containers,
            pool=pool,
            activation=self._activation,
            outages=outages,
            settings=settings,
            clocks=clocks,
        )
        trial = Trial(engine=engine, attempts=self._attempts, bot_api_answers=bot_api_answers)
        self._rollback = rollback = Rollback(context, revisions)
        self._deployment = Deployment(context, trial)
        self._probation = Probation(
            context, trial, revisions=revisions, rollback=rollback, standby=standby, pace=pace, timing=timing
        )
        self._upkeep = Upkeep(
            context, rollback=rollback, standby=standby, rebuilder=rebuilder, pace=pace, timing=timing
        )

    def stop(self) -> None:
        """Have :meth:`run` end soon."""
        self._pace.stop()

    def finish(self, seconds: float) -> None:
        """After :meth:`stop`: wait, at most so long, until no worker is being started any more."""
        self._standby.finish(seconds)

    @property
    def stopping(self) -> bool:
        """Whether :meth:`stop` was called."""
        return self._pace.stopping

    @property
    def trouble(self) -> str:
        """Why no worker is up; empty while one is, or is on its way."""
        return self._activation.trouble

    @property
    def renewal(self) -> dict[str, str] | None:
        """See :attr:`Upkeep.renewal`."""
        return self._upkeep.renewal

    def run(self) -> None:
        """Do what the ledger asks for, most urgent first, until :meth:`stop`."""
        self._work()
        self._attempts.end()

    def _work(self) -> None:
        while not self._pace.stopping:
            try:
                self._turn()
            except Stopping:
                return
            except LostRace as race:
                _LOG.info("somebody else was quicker", reason=str(race))
                self._pace.rest(self._timing.look)
            except EngineError as error:
                self._activation.trouble = str(error)
                _LOG.warning("the engine did not do its part; trying again", error=str(error))
                self._pace.rest(self._timing.engine_retry)
            except WorkerFailed as error:
                self._activation.trouble = str(error)
                _LOG.warning("a worker failed; trying again", error=str(error))
                self._pace.rest(self._settings.restart_delay_seconds)
            except Exception:  # a defect of ours must not end the one who keeps a worker running
                _LOG.exception("a defect in the roll-out; trying again")
                self._pace.rest(self._timing.engine_retry)

    def _turn(self) -> None:
        self._pace.begin()
        waiting = [update for update in self._ledger.having(*IN_ROLLOUT) if not update.gates_pending]
        if all(update.status is Status.APPROVED for update in waiting):
            self._rollback.settle_blame()
        if not waiting:
            self._upkeep.keep_running()
            self._pace.idle()
            return
        update = min(waiting, key=lambda update: IN_ROLLOUT.index(update.status))
        do = {
            Status.ROLLBACK_PENDING: self._rollback.carry_out,
            Status.DEPLOYING: self._deployment.carry_out,
            Status.DEPLOYED_UNSTABLE: self._probation.prove,
            Status.APPROVED: self._deployment.begin,
        }
        do[update.status](update)
