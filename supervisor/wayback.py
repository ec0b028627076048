"""How a way back that was asked for is getting on, as the ledger shows it."""

from supervisor.contract import EventType
from supervisor.ledger import Ledger, Update


def failed(ledger: Ledger, update: Update) -> bool:
    """Whether the way back that is asked for now has been tried to its end, and no earlier revision runs."""
    newest = ledger.events(
        EventType.UPDATE_ROLLBACK_STARTED,
        EventType.UPDATE_ROLLBACK_FAILED,
        parent_id=update.event_id,
        newest_first=True,
        limit=1,
    )
    return bool(newest) and newest[0].event_type == EventType.UPDATE_ROLLBACK_FAILED
