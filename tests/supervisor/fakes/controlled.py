"""A supervisor as its command line sees it: it remembers what it was asked, and answers what it is told to."""

from dataclasses import dataclass, field
from typing import Any

from supervisor.ledger import Ledger, NewUpdate, Origin
from supervisor.updates.decisions import Decisions


@dataclass
class FakeControlled:
    """Decides on a real ledger where there is one. ``fails`` is raised by whatever is asked next."""

    ledger: Ledger | None = None
    fails: Exception | None = None
    asked: list[tuple[str, Any]] = field(default_factory=list)

    def status(self) -> dict[str, Any]:
        """Something with the shape of a status."""
        self._note("status", None)
        return {"running": True, "active": None, "standby": None, "previous": None, "pending": []}

    def hand_in(self, submission: dict[str, Any]) -> dict[str, Any]:
        """Take any patch that begins like one."""
        self._note("submit", submission)
        patch = bytes.fromhex(submission["patch_hex"])
        if not patch.startswith(b"diff"):
            return {"tx_id": "0" * 8, "status": "refused", "code": "not_a_patch", "reason": "it holds no patch"}
        tx_id = "1" * 8
        if self.ledger is not None:
            base = self.ledger.good_revision()
            new = NewUpdate(origin=Origin.CLI, patch=patch, title=submission["title"], base_sha=base.sha)
            tx_id = self.ledger.create(new).tx_id
        return {"tx_id": tx_id, "status": "created", "code": "", "reason": ""}

    def decide(self, decision: str, tx: str, by: str) -> dict[str, Any]:
        """As the real one does it."""
        self._note(decision, (tx, by))
        if self.ledger is None:
            return {"tx_id": tx, "status": "approved", "message": "approved", "already": False}
        decisions = Decisions(self.ledger)
        decided = decisions.approve(tx, by=by) if decision == "approve" else getattr(decisions, decision)(tx)
        return {
            "tx_id": decided.tx_id,
            "status": decided.status,
            "message": decided.message,
            "already": decided.already,
        }

    def take_down(self) -> None:
        """Only remembered."""
        self._note("down", None)

    def upgrade(self, deps_image_id: str) -> dict[str, Any]:
        """Only remembered."""
        self._note("upgrade", deps_image_id)
        return {"tx_id": "", "status": "unchanged", "code": "", "reason": "", "conflicts": []}

    def reload(self, environment: dict[str, str]) -> None:
        """Only remembered."""
        self._note("reload", environment)

    def _note(self, what: str, about: Any) -> None:
        self.asked.append((what, about))
        if (failure := self.fails) is not None:
            self.fails = None
            raise failure
