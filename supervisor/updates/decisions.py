"""What a person may decide about an update, and what each decision means in each of its states.

Every decision may be repeated: what is done already is said to be, and changes nothing.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from supervisor.ledger import Ledger, LostRace, Update
from supervisor.states import Status, may_move

_ATTEMPTS: Final = 5
_APPROVED_ALREADY: Final = (Status.APPROVED, Status.DEPLOYING, Status.DEPLOYED_UNSTABLE, Status.PROMOTED)
_ROLLED_BACK_ALREADY: Final = {
    Status.ROLLED_BACK: "it is rolled back already",
    Status.ROLLBACK_PENDING: "it is being rolled back already",
}

Along = Callable[[], object]
_NOTHING: Final[Along] = lambda: None  # noqa: E731 - a default for all of them


class Refusal(Exception):
    """The decision cannot be taken; the message is one line that says why."""


@dataclass(frozen=True)
class Decided:
    """What came of it. ``already`` when there was nothing left to do."""

    tx_id: str
    status: Status
    message: str
    already: bool = False


class Decisions:
    """Approve, cancel, roll back: on the ledger alone, so that they work whoever asks and whatever runs.

    ``along`` is done with the decision, all or nothing; not at all when there is nothing left to decide.
    """

    def __init__(self, ledger: Ledger, clock: Callable[[], float] = time.time) -> None:
        self._ledger = ledger
        self._clock = clock

    def approve(self, prefix: str, *, by: str, along: Along = _NOTHING) -> Decided:
        """Let a staged update be deployed. Raises Refusal, UnknownUpdate, AmbiguousPrefix."""
        return self._settle(prefix, lambda update: self._approve(update, by, along))

    def cancel(self, prefix: str, *, along: Along = _NOTHING) -> Decided:
        """End an update that was not deployed yet. Raises Refusal, UnknownUpdate, AmbiguousPrefix."""
        return self._settle(prefix, lambda update: self._cancel(update, along))

    def rollback(self, prefix: str, *, along: Along = _NOTHING) -> Decided:
        """Ask for the base of the active update; one that is being deployed on top of it is given up then.

        Raises Refusal, UnknownUpdate, AmbiguousPrefix.
        """
        return self._settle(prefix, lambda update: self._rollback(update, along))

    def to_roll_back(self, prefix: str) -> Update:
        """The update, when going back from it is possible. Raises Refusal, UnknownUpdate, AmbiguousPrefix."""
        update = self._ledger.find(prefix)
        if already := _ROLLED_BACK_ALREADY.get(update.status):
            raise Refusal(f"update {update.tx_id[:8]}: {already}")
        try:
            self._refuse_way_back(update)
        except LostRace as race:
            raise Refusal(str(race)) from None
        return update

    def _settle(self, prefix: str, decide: Callable[[Update], Decided]) -> Decided:
        for _ in range(_ATTEMPTS):
            try:
                return decide(self._ledger.find(prefix))
            except LostRace:
                continue  # it moved on meanwhile: decide again on what it is now
        raise Refusal("the update keeps changing; try again")

    def _approve(self, update: Update, by: str, along: Along) -> Decided:
        if update.status in _APPROVED_ALREADY:
            return Decided(update.tx_id, update.status, f"it is {update.status} already", already=True)
        if update.status is not Status.STAGED:
            raise Refusal(f"update {update.tx_id[:8]} is {update.status}; only a staged one can be approved")
        if update.base_sha != self._ledger.good_sha():
            raise Refusal(f"update {update.tx_id[:8]} was made for another base; submit it again")
        moved = self._ledger.move(
            update.tx_id,
            Status.STAGED,
            Status.APPROVED,
            changes={"approval_by": by, "approval_at": self._clock(), "approval_digest": update.digest},
            payload={"by": by, "digest": update.digest},
            along=along,
        )
        return Decided(moved.tx_id, moved.status, "approved")

    def _cancel(self, update: Update, along: Along) -> Decided:
        if update.status is Status.CANCELLED:
            return Decided(update.tx_id, update.status, "it is cancelled already", already=True)
        if not may_move(update.status, Status.CANCELLED):
            raise Refusal(f"update {update.tx_id[:8]} is {update.status} and cannot be cancelled any more")
        moved = self._ledger.move(update.tx_id, update.status, Status.CANCELLED, along=along)
        return Decided(moved.tx_id, moved.status, "cancelled")

    def _rollback(self, update: Update, along: Along) -> Decided:
        if already := _ROLLED_BACK_ALREADY.get(update.status):
            return Decided(update.tx_id, update.status, already, already=True)
        self._refuse_way_back(update)

        def still_active() -> None:
            if self._ledger.first(Status.DEPLOYED_UNSTABLE) is not None:  # one on top of it began its probation
                raise LostRace(update.tx_id, update.status, update.status)
            along()

        moved = self._ledger.move(
            update.tx_id, update.status, Status.ROLLBACK_PENDING, changes={"blame": "person"}, along=still_active
        )
        return Decided(moved.tx_id, moved.status, "going back")

    def _refuse_way_back(self, update: Update) -> None:
        active = self._active()
        if active is None or update.tx_id != active.tx_id:
            if (now := self._ledger.find(update.tx_id).status) is not update.status:
                raise LostRace(update.tx_id, update.status, now)  # it was the active one a moment ago
            named = f"{active.tx_id[:8]} is" if active else "none is"
            raise Refusal(f"update {update.tx_id[:8]} is {update.status} and not active; {named}")
        if active.status is not update.status:
            raise LostRace(update.tx_id, update.status, active.status)  # it became the active one a moment ago
        if not update.base_sha:
            raise Refusal("this is the first revision; there is nothing before it to go back to")

    def _active(self) -> Update | None:
        """The update whose revision is in service: one in probation, else the promoted one."""
        if unstable := self._ledger.first(Status.DEPLOYED_UNSTABLE):
            return unstable
        sha = self._ledger.good_sha()
        return self._ledger.find(self._ledger.revision(sha).tx_id) if sha else None
