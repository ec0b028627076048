"""Back: to the update's base, or to an older good revision when that fails too."""

from typing import Final

import structlog

from supervisor.contract import EventType
from supervisor.engine import EngineError, EngineUnreachable
from supervisor.ledger import NO_POLL, Blame, Revision, Update, WorkerRow
from supervisor.revisions import Revisions
from supervisor.rollout.context import Context, Part
from supervisor.states import Status
from supervisor.updates.superseding import supersede_others
from supervisor.workers.pool import NoPoll, WorkerFailed

_LOG = structlog.get_logger()
_GIVEN_UP: Final = (Status.DEPLOY_FAILED, Status.ROLLED_BACK)
_TAKEN_BACK: Final = (Status.ROLLBACK_PENDING, Status.ROLLED_BACK)


def blame_so_far(blame: Blame | None, code: str | None) -> Blame | None:
    """Whom to blame as an update ends: open where it alone seems unable to poll, see :meth:`Rollback.settle_blame`."""
    return None if blame == Blame.OWN and code == NO_POLL else blame


class Rollback(Part):
    """Asks for the way back, and carries it out.

    Within the crash window after a way back, the revision that was gone back to may show that it fails alike.
    """

    def __init__(self, context: Context, revisions: Revisions) -> None:
        super().__init__(context)
        self._revisions = revisions

    def demand(
        self,
        update: Update,
        status: Status,
        green: WorkerRow | None,
        failure: str,
        *,
        blame: Blame = Blame.OWN,
        code: str | None = None,
    ) -> None:
        """Green failed: note the evidence before its container goes, and ask for the way back."""
        self._ledger.move(
            update.tx_id,
            status,
            Status.ROLLBACK_PENDING,
            changes={"last_error": self._activation.evidence(green, failure), "blame": blame, "code": code},
            payload={"error": failure},
        )
        _LOG.warning("going back", tx=update.tx_id, reason=failure)

    def carry_out(self, update: Update) -> None:
        """Make the update's base active again, or an older good revision when that fails too."""
        green = self._pool.holder()
        target = self._restore(update)
        update = self._ledger.find(update.tx_id)
        blame = blame_so_far(update.blame, update.code)
        self._ledger.move(
            update.tx_id, Status.ROLLBACK_PENDING, Status.ROLLED_BACK, changes={"blame": blame}, restored=target.sha
        )
        self._revisions.set_active(target.sha)
        supersede_others(self._ledger, target)
        if green is not None and green.sha == update.sha:
            self._pool.retire(green, reason="rolled back")
        _LOG.info("rolled back", tx=update.tx_id, to=target.sha[:12])

    def settle_blame(self) -> None:
        """Blame nobody for an update that could not poll when, after the way back, the one before cannot either.

        Asked by each turn of the roll-out that finds nothing under way, this supervisor's or the next one's, until a
        worker of the good revision has stayed to answer it.
        """
        undecided = self._ledger.blame_open()
        worker = self._pool.holder() if undecided else None
        if worker is None or worker.sha != self._activation.good().sha or self._pool.ailment(worker):
            return
        try:
            self._pool.first_poll(worker)
        except NoPoll as late:
            for update in undecided:
                self._excuse(update, str(late))
        except WorkerFailed as failure:
            _LOG.warning("the worker before fails in another way", error=str(failure))
        else:
            for update in undecided:
                self._ledger.amend(update.tx_id, {"blame": Blame.OWN})

    def repeated_by(self, good: Revision, reason: str) -> bool:
        """Whether the good revision fails just as one did that was lately given up for it, in its deploy or later.

        Then neither is to blame: the ban is lifted, and going back further would not help. Not so when it had begun to
        fail before that one was deployed, which then only inherited what is wrong with it.
        """
        since = self._clocks.wall() - self._settings.crash_window_seconds
        alike = [
            update
            for update in self._ledger.having(*_GIVEN_UP)
            if update.base_sha == good.sha
            and update.updated_at >= since
            and (update.blame == Blame.OWN or update.blame_open)
            and self._is_repeated(update, good, reason)
        ]
        for update in alike:
            self._excuse(update, reason)
        return bool(alike) or self._outages.repeated()

    # -- inside

    def _restore(self, update: Update) -> Revision:
        """The good revision that is active again, the newest that runs. Raises WorkerFailed when none does.

        When N-1 repeats the failure that the update is given up for, nothing older is tried: it is kept, though it
        does not run now, and nobody is blamed.
        """
        for target in self._good_revisions(update):
            attempt = {"tx_id": update.tx_id, "target_sha": target.sha}
            try:
                self._activation.make_active(target, at_once=update.blame == Blame.OWN)
            except EngineUnreachable:
                raise
            except (WorkerFailed, EngineError) as failure:
                told = {**attempt, "error": str(failure)}
                self._ledger.append(EventType.ROLLBACK_ATTEMPTED, told, parent_id=update.event_id)
                # Blamed, or excused by a supervisor that died before it came to the end of this.
                own = isinstance(failure, WorkerFailed) and (update.blame == Blame.OWN or self._outages.repeated())
                if own and target.sha == update.base_sha and self._is_repeated(update, target, str(failure)):
                    self._excuse(update, str(failure))
                    return target
            else:
                self._ledger.append(EventType.ROLLBACK_ATTEMPTED, attempt, parent_id=update.event_id)
                return target
        told = {"tx_id": update.tx_id, "error": "no earlier revision runs"}
        self._ledger.append(EventType.UPDATE_ROLLBACK_FAILED, told, parent_id=update.event_id)
        raise WorkerFailed("no earlier revision runs")

    def _is_repeated(self, update: Update, base: Revision, reason: str) -> bool:
        """Whether the update failed so first, and its base does now.

        One whose base had lately begun to fail so when it was deployed only inherited that.
        """
        failures = {(update.last_error or "").partition("\n")[0]}
        failures |= {worker.reason or "" for worker in self._ledger.crashes(update.sha or "", 0)}
        deployed = update.deploy_started_at or update.updated_at
        before = self._ledger.crashes(base.sha, deployed - self._settings.crash_window_seconds)
        inherited = any(worker.reason == reason and (worker.exited_at or 0) < deployed for worker in before)
        return reason in failures and not inherited

    def _excuse(self, update: Update, reason: str) -> None:
        self._outages.repeats(reason)  # first: an excuse that is cut here is found and gone on with by the blame
        self._ledger.amend(update.tx_id, {"blame": Blame.EXTERNAL})
        _LOG.warning("N-1 fails alike; nobody is blamed", tx=update.tx_id, reason=reason)

    def _good_revisions(self, update: Update) -> list[Revision]:
        """The update's base, then that one's base, down to genesis; none from which somebody went back."""
        chain = []
        sha = update.base_sha
        while sha:
            ancestor = self._ledger.revision(sha)
            if self._ledger.find(ancestor.tx_id).status not in _TAKEN_BACK:
                chain.append(ancestor)
            sha = ancestor.base_sha
        return chain
