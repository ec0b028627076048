"""How a way back that was asked for is getting on."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from supervisor.contract import EventType
from supervisor.ledger import Ledger, Update
from supervisor.states import Status
from supervisor.timing import IN_SERVICE

if TYPE_CHECKING:
    from supervisor.sessions import Sessions, Signal

_LOOK_SECONDS: Final = 0.2


class RollbackUnfinished(Exception):
    """The way back is not through; the message is one line for the user."""

    def __init__(self, reason: str, *, interrupted: bool = False) -> None:
        super().__init__(reason)
        self.interrupted = interrupted


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


def complete(
    tx_id: str,
    *,
    ledger: Ledger,
    sessions: "Sessions",
    signal: "Signal",
    stopped: Callable[[], bool],
    refuse: Callable[[], None],
    seconds: float,
) -> None:
    """Wait until the update is rolled back, and the worker that is active then has polled.

    ``refuse`` raises when nobody works on it any more. Raises RollbackUnfinished.
    """
    ends = time.monotonic() + seconds
    while (update := ledger.find(tx_id)).status is Status.ROLLBACK_PENDING:
        if stopped():
            raise RollbackUnfinished("the way back was interrupted; `make up` goes on", interrupted=True)
        refuse()
        if failed(ledger, update):
            raise RollbackUnfinished("no earlier revision runs; see `supervisor logs`")
        if time.monotonic() > ends:
            raise RollbackUnfinished("the way back takes too long; see `supervisor logs`")
        signal.wait(_LOOK_SECONDS)
    # The Bot API may be away, which is not the target's fault.
    signal.until(lambda: stopped() or _polls(ledger, sessions), IN_SERVICE.first_poll)


def _polls(ledger: Ledger, sessions: "Sessions") -> bool:
    lease = ledger.lease()
    session = sessions.get(lease.worker_id) if lease else None
    return session is not None and session.beat.polls_ok > 0
