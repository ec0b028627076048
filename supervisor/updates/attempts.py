"""How often a step of an update was begun by a supervisor that then died in it.

A step in which one supervisor after the other dies is given up: to go on with it would end the next one, too.
"""

from typing import Final

from supervisor.ledger import Ledger, Update

#: So many supervisors may die in one step of an update.
MOST_DEATHS: Final = 8


class TooManyDeaths(Exception):
    """The step is not begun again; the message is one line that says why."""


class Attempts:
    """Counts in the ledger, once for each step that this process works on."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._begun: set[tuple[str, str]] = set()

    def begin(self, update: Update) -> None:
        """Work on the update's present step begins, or goes on. Raises TooManyDeaths."""
        step = (update.tx_id, f"{update.status} begun")
        if step in self._begun:
            return
        self._begun.add(step)
        if self._ledger.attempted(*step) > MOST_DEATHS:
            raise TooManyDeaths(f"{MOST_DEATHS} supervisors died one after the other while it was {update.status}")

    def again(self, update: Update) -> bool:
        """Whether the present step may begin once more, because of what came from outside of it."""
        return self._ledger.attempted(update.tx_id, f"{update.status} again") <= MOST_DEATHS

    def end(self) -> None:
        """Nothing of what was begun here counts: this supervisor ends in order."""
        for step in self._begun:
            self._ledger.unattempted(*step)
        self._begun.clear()
