"""The end of updates whose base is not the good revision any more."""

from contextlib import suppress

from supervisor.ledger import Ledger, LostRace, Revision, Update
from supervisor.states import Status


def supersede(ledger: Ledger, update: Update, good: Revision) -> None:
    """Another revision than the update's base is the good one now."""
    with suppress(LostRace):  # cancelled meanwhile; or approved, and then its deployment sees it
        ledger.move(
            update.tx_id,
            update.status,
            Status.SUPERSEDED,
            changes={"last_error": f"{good.tx_id} is the good one now"},
            payload={"by": good.tx_id},
        )


def supersede_others(ledger: Ledger, good: Revision) -> None:
    """End what waits on any other base: none of it can be approved or deployed any more."""
    for update in ledger.having(Status.STAGED, Status.APPROVED):
        if update.base_sha != good.sha:
            supersede(ledger, update, good)
