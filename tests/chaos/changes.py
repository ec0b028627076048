"""What its owner does in a chaos run: one update after the other, good and bad, approved, cancelled, taken back."""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from tests.support import candidates
from tests.support.checkouts import CHECKOUT
from tests.support.installation import Installation

_GATED = {"created", "building", "testing", "self_checking"}
_ON_ITS_WAY = {"approved", "deploying", "deployed_unstable", "rollback_pending"}
_PATIENCE_SECONDS = 120.0
_LOOK_SECONDS = 0.3


class Changes:
    """Every command may find no supervisor, or have one die under it: then it is given again, as a person would."""

    def __init__(self, installation: Installation, chance: random.Random, say: Callable[[str], None]) -> None:
        self._installation = installation
        self._chance = chance
        self._say = say
        self._number = 0
        self.ends: Counter[str] = Counter()
        self.problems: list[str] = []
        self._over = threading.Event()

    def make(self, over: threading.Event) -> None:
        """Until it is over."""
        self._over = over
        while not over.wait(self._chance.uniform(0.0, 2.0)):
            kind, patch = self._patch()
            tx = self._submit(f"chaos {self._number}: {kind}", patch)
            if tx and self._until_not(tx, _GATED) == "staged":
                self._decide(tx)
            if tx:
                self._end(tx, kind)
                self._look_for_way_back(tx)

    def _patch(self) -> tuple[str, bytes]:
        self._number += 1
        late = round(self._chance.uniform(0.2, 1.5), 3)  # so that no two are the same change
        kinds: list[tuple[int, str, Callable[[], bytes]]] = [
            (6, "good", lambda: candidates.adds_a_module(CHECKOUT, f"chaos_{self._number}")),
            (1, "crashes at its start", lambda: candidates.crashes_at_start(CHECKOUT)),
            (3, "exits in its probation", lambda: candidates.exits_in_service(CHECKOUT, late)),
            (1, "wedges", lambda: candidates.wedges_after_activation(CHECKOUT, late)),
        ]
        ((_, kind, make),) = self._chance.choices(kinds, [weight for weight, *_ in kinds])
        return kind, make()

    def _submit(self, title: str, patch: bytes) -> str:
        """Hand it in until it is in the ledger, which it is once; its tx, or nothing when the time is over."""

        def recorded() -> str:
            self._installation.run("submit", "-", "--force", "--title", title, given=patch)
            found = [update["tx_id"] for update in self._history() if update["title"] == title]
            return str(found[0]) if found else ""

        return self._patiently(recorded) or ""

    def _decide(self, tx: str) -> None:
        if self._chance.random() < 0.1:
            self._command("cancel", tx, until_not={"staged"})
            return
        self._command("approve", tx, until_not={"staged"})
        if self._chance.random() < 0.2:
            time.sleep(self._chance.uniform(0.0, 3.0))  # in the midst of its deploy, or of its probation
            self._installation.run("rollback", tx)
        if self._until_not(tx, _ON_ITS_WAY) == "promoted" and self._chance.random() < 0.4:
            self._command("rollback", tx, until_not={"promoted"})
            self._until_not(tx, _ON_ITS_WAY)

    def _end(self, tx: str, kind: str) -> None:
        status = self._status(tx)
        self.ends[status] += 1
        self._say(f"update {tx[:8]}, {kind}: {status}")

    def _look_for_way_back(self, tx: str) -> None:
        """Before the next change, N-1 stands by; a blow may have fallen on it just now."""
        if not self._patiently(lambda: has_way_back(self._installation)) and not self._over.is_set():
            self.problems.append(f"no N-1 stood by within {_PATIENCE_SECONDS:g} s of update {tx[:8]}")

    def _command(self, command: str, tx: str, *, until_not: set[str]) -> None:
        """Give it until it is done, or somebody else's."""
        unknown = {*until_not, "unknown"}
        self._patiently(lambda: self._installation.run(command, tx).code == 0 or self._status(tx) not in unknown)

    def _until_not(self, tx: str, statuses: set[str]) -> str:
        """Its first status that is none of these; its last one when the time is over."""
        return self._patiently(lambda: status if (status := self._status(tx)) not in statuses else "") or ""

    def _status(self, tx: str) -> str:
        shown = self._installation.run("show", tx, "--json")
        return str(shown.json["status"]) if shown.code == 0 else "unknown"

    def _history(self) -> list[dict[str, Any]]:
        shown = self._installation.run("history", "--json")
        return list(shown.json) if shown.code == 0 else []

    def _patiently(self, look: Callable[[], Any]) -> Any:
        """What it gives once it is something; None when that takes too long, or the run is over before."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not (found := look()):
            if self._over.is_set() or time.monotonic() > deadline:
                return None
            time.sleep(_LOOK_SECONDS)
        return found


def has_way_back(installation: Installation) -> bool:
    """Whether N-1 stands by; as long as nothing was ever promoted there is none."""
    shown = installation.run("status", "--json")
    return shown.code == 0 and (shown.json["previous"] is None or shown.json["standby"] is not None)
