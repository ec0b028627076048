"""The clock of a probation: it stands still while something outside is away, and outlives the supervisor."""

from typing import Self

from supervisor.ledger import Ledger, Update
from supervisor.timing import Clocks


class WindowClock:
    """How much of its window an update has left. Each stop, start and restart is written into the ledger."""

    def __init__(
        self, ledger: Ledger, clocks: Clocks, *, tx_id: str, window: float, left: float, running: bool
    ) -> None:
        self._ledger = ledger
        self._clocks = clocks
        self._tx_id = tx_id
        self._window = window
        self._left = left
        self._since = clocks.monotonic() if running else None

    @classmethod
    def of(cls, update: Update, ledger: Ledger, clocks: Clocks, window: float) -> Self:
        """The clock as it stands, begun with the end of the deploy.

        The wall clock is believed for the time between two supervisors alone, and neither way beyond the window.
        """
        noted = ledger.probation(update.tx_id)
        left, since = noted or (window, update.deploy_finished_at or clocks.wall())
        spent = 0.0 if since is None else max(0.0, clocks.wall() - since)
        left = min(window, max(0.0, left - spent))
        clock = cls(ledger, clocks, tx_id=update.tx_id, window=window, left=left, running=since is not None)
        clock._note()
        return clock

    @property
    def ends(self) -> float:
        """When the window ends if nothing stops it, on the monotonic clock; never while it stands still."""
        return float("inf") if self._since is None else self._since + self._left

    def run(self, *, running: bool) -> None:
        """Go on, or stand still."""
        now = self._clocks.monotonic()
        if running == (self._since is not None):
            return
        if self._since is not None:
            self._left = max(0.0, self._left - (now - self._since))
        self._since = now if running else None
        self._note()

    def restart(self) -> None:
        """The whole window again."""
        self._left = self._window
        self._since = self._clocks.monotonic()
        self._note()

    def _note(self) -> None:
        since = None if self._since is None else self._clocks.wall()
        self._ledger.set_probation(self._tx_id, self._left, since)
