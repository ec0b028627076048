"""Back: to the update's base, or to an older good revision when that fails too."""

import structlog

from supervisor.contract import EventType
from supervisor.crew import Crew, WorkerFailed
from supervisor.engine import EngineError, EngineUnreachable
from supervisor.ledger import Ledger, Revision, Update, WorkerRow
from supervisor.revisions import Revisions
from supervisor.states import Status
from supervisor.succession import Succession

_LOG = structlog.get_logger()


class Rollback:
    """Asks for the way back, and carries it out."""

    def __init__(self, *, crew: Crew, ledger: Ledger, revisions: Revisions, succession: Succession) -> None:
        self._crew = crew
        self._ledger = ledger
        self._revisions = revisions
        self._succession = succession

    def demand(self, update: Update, status: Status, green: WorkerRow | None, failure: str) -> None:
        """Green failed by its own fault: note the evidence before its container goes, and ask for the way back."""
        self._ledger.move(
            update.tx_id,
            status,
            Status.ROLLBACK_PENDING,
            changes={"last_error": self._succession.evidence(green, failure), "blame": "own"},
            payload={"error": failure},
        )
        _LOG.warning("going back", tx=update.tx_id, reason=failure)

    def carry_out(self, update: Update) -> None:
        """Make the update's base active again, or an older good revision when that fails too."""
        green = self._crew.holder()
        at_once = update.blame == "own"
        for target in self._good_revisions(update):
            attempt = {"tx_id": update.tx_id, "target_sha": target.sha}
            try:
                self._succession.make_active(target, at_once=at_once)
            except EngineUnreachable:
                raise
            except (WorkerFailed, EngineError) as failure:
                self._ledger.append(
                    EventType.ROLLBACK_ATTEMPTED, {**attempt, "error": str(failure)}, parent_id=update.event_id
                )
                continue
            self._ledger.append(EventType.ROLLBACK_ATTEMPTED, attempt, parent_id=update.event_id)
            break
        else:
            self._ledger.append(
                EventType.UPDATE_ROLLBACK_FAILED,
                {"tx_id": update.tx_id, "error": "no earlier revision runs"},
                parent_id=update.event_id,
            )
            raise WorkerFailed("no earlier revision runs")
        self._ledger.move(update.tx_id, Status.ROLLBACK_PENDING, Status.ROLLED_BACK, restored=target.sha)
        self._revisions.set_active(target.sha)
        if green is not None and green.sha == update.sha:
            self._crew.retire(green, reason="rolled back")
        _LOG.info("rolled back", tx=update.tx_id, to=target.sha[:12])

    def _good_revisions(self, update: Update) -> list[Revision]:
        """The update's base, then that one's base, down to genesis."""
        chain = []
        sha = update.base_sha
        while sha:
            ancestor = self._ledger.revision(sha)
            chain.append(ancestor)
            sha = ancestor.base_sha
        return chain
