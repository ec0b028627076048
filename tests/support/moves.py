"""What the ledger tells of an update's way: what it should, by the table of transitions, and what it does."""

from collections.abc import Sequence
from itertools import pairwise

from supervisor.contract.events import EventType as E
from supervisor.ledger import Ledger
from supervisor.states import TRANSITIONS, Status

#: An event about a change of status: its name, the status before, the status after.
Move = tuple[str, str | None, str]


def told(chain: Sequence[Status]) -> list[Move]:
    """Each event of an update that came to these statuses, in their order."""
    told: list[Move] = [(E.UPDATE_CREATED, None, Status.CREATED)]
    for source, target in pairwise(chain):
        told += [(event, source, target) for event in TRANSITIONS[source, target]]
        if target is Status.ROLLED_BACK:
            told.append((E.REVISION_PROMOTED, source, target))
    return told


def noted(ledger: Ledger, tx_id: str) -> list[Move]:
    """Each event about an update's status, in the order in which they were written, one written twice twice."""
    update = ledger.find(tx_id)
    created = [event for event in ledger.events(E.UPDATE_CREATED) if event.id == update.event_id]
    events = [*created, *ledger.events(parent_id=update.event_id)]
    told = [(event.event_type, event.payload) for event in events if "status_to" in event.payload]
    return [(name, payload["status_from"], payload["status_to"]) for name, payload in told]
