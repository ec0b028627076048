"""Forward: green is started beside blue, takes the work over, and its probation begins."""

from typing import Final

import structlog

from supervisor.agent_db.backup import BackupFailed, backup
from supervisor.engine import EngineError, EngineUnreachable
from supervisor.ledger import Blame, LedgerError, Update, WorkerRow
from supervisor.rollout.context import Context, Part, Trial
from supervisor.rollout.rollback import blame_so_far
from supervisor.states import Status
from supervisor.updates.attempts import TooManyDeaths
from supervisor.updates.binding import BindingBroken, check_binding
from supervisor.updates.superseding import supersede
from supervisor.workers.containers import ENDED_FROM_OUTSIDE
from supervisor.workers.pool import NoPoll, Stopping, WorkerFailed

_LOG = structlog.get_logger()


class BaseGone(Exception):
    """The update's base is not what green would replace; the message is one line."""


_EXPECTED: Final = (WorkerFailed, BindingBroken, BackupFailed, EngineError, TooManyDeaths, BaseGone)


class Deployment(Part):
    """Takes an approved update to its probation, or leaves blue as it was."""

    def __init__(self, context: Context, trial: Trial) -> None:
        super().__init__(context)
        self._trial = trial

    def begin(self, update: Update) -> None:
        """Start green beside blue, move the work over, and begin the probation."""
        good = self._activation.good()
        if update.base_sha != good.sha:
            supersede(self._ledger, update, good)
            return
        started = self._clocks.wall()
        update = self._ledger.move(
            update.tx_id, Status.APPROVED, Status.DEPLOYING, changes={"deploy_started_at": started}
        )
        self.carry_out(update)

    def carry_out(self, update: Update) -> None:
        """The steps of a deploy, each of which may have been done before a crash.

        It is given up when the update's base is not the good revision any more, or somebody goes back from it.
        """
        green: WorkerRow | None = None
        try:
            green = self._pool.living(update.revision.sha)
            self._refuse_without_base(update)
            self._trial.attempts.begin(update)
            check_binding(update, self._trial.engine)
            self._snapshot(update)
            if green is None:
                self._have_blue_serve()
                green = self._pool.start(update.revision)
            self._pool.settle(green)
            check_binding(update, self._trial.engine, container=green.worker_id)
            self._refuse_without_base(update)
            self._pool.hand_over(green)
            self._pool.first_poll(green)
            self._enter_probation(update)
        except (EngineUnreachable, LedgerError, Stopping):
            raise  # nobody's fault here: the same steps again, when it is back
        except Exception as failure:
            outside = green is not None and self._containers.ended_from_outside(green.worker_id)
            if green is not None and outside and self._trial.attempts.again(update):
                _LOG.warning("green ended from outside; another one is started", tx=update.tx_id, error=str(failure))
                self._containers.end(green.worker_id, reason=ENDED_FROM_OUTSIDE)
                return  # still deploying: the same steps again
            # Whatever it was: an update that is stuck in the middle would keep everybody from looking after blue.
            if not isinstance(failure, _EXPECTED):
                _LOG.exception("a defect in a deploy", tx=update.tx_id)
            self._abandon(update, green, failure, Blame.EXTERNAL if outside else self._blame(failure, green))

    def _enter_probation(self, update: Update) -> None:
        finished = self._clocks.wall()
        self._ledger.move(
            update.tx_id,
            Status.DEPLOYING,
            Status.DEPLOYED_UNSTABLE,
            changes={"deploy_finished_at": finished},
            payload={"duration_ms": round((finished - (update.deploy_started_at or finished)) * 1000)},
            along=lambda: self._refuse_without_base(update),  # nobody goes back from it between the look and the move
        )

    def _refuse_without_base(self, update: Update) -> None:
        """Raise BaseGone unless the update stands on the good revision, and that is to stay."""
        good = self._activation.good()
        if update.base_sha != good.sha:
            raise BaseGone(f"update {good.tx_id[:8]}, which is not its base, is the good one now; submit it again")
        if self._ledger.find(good.tx_id).status is Status.ROLLBACK_PENDING:
            raise BaseGone(f"update {good.tx_id[:8]}, its base, is being rolled back; submit it again")

    def _have_blue_serve(self) -> None:
        """Green takes its time, and may be a bad one: until then somebody answers, if anybody can."""
        if self._pool.in_service():
            return
        try:
            self._activation.make_active(self._activation.good(), at_once=True)
        except WorkerFailed as failure:  # what is to be deployed may be the remedy
            _LOG.warning("nobody serves, and green is started all the same", error=str(failure))

    def _snapshot(self, update: Update) -> None:
        """A copy of the worker's database as it is before the deploy."""
        paths = self._settings.paths
        if update.snapshot or not paths.agent_db.exists():
            return
        target = paths.snapshots / f"{update.tx_id}.db"
        backup(paths.agent_db, target)
        self._ledger.amend(update.tx_id, {"snapshot": str(target)})

    def _abandon(self, update: Update, green: WorkerRow | None, failure: Exception, blame: Blame) -> None:
        """The deploy is over; go on with blue as if nothing had been."""
        evidence = self._activation.evidence(green, failure)
        holder = self._pool.holder()
        if green is not None and holder is not None and holder.worker_id == green.worker_id:
            self._containers.kill(green.worker_id, str(failure))
        code = getattr(failure, "code", None)
        self._ledger.move(
            update.tx_id,
            Status.DEPLOYING,
            Status.DEPLOY_FAILED,
            changes={"last_error": evidence, "blame": blame_so_far(blame, code), "code": code},
            payload={"error": str(failure)},
        )
        _LOG.warning("deploy failed", tx=update.tx_id, error=str(failure))
        if self._ledger.first(Status.ROLLBACK_PENDING) is None:  # the way back comes next, and leads elsewhere
            self._activation.make_active(self._activation.good(), at_once=True)
        if green is not None:
            self._pool.retire(green, reason=str(failure))

    def _blame(self, failure: Exception, green: WorkerRow | None) -> Blame:
        if isinstance(failure, NoPoll):
            alone = green is not None and not self._pool.predecessor_complains(green)
            return Blame.OWN if alone and self._trial.bot_api_answers() else Blame.EXTERNAL
        if not isinstance(failure, WorkerFailed) or self._outages.excuse():
            return Blame.EXTERNAL
        return Blame.OWN
