"""How the worker is doing, as its beats tell it."""

import asyncio
import time
from collections.abc import Callable


class Vitals:
    """Counters, and the two wake-up calls: for the one who follows the role, and for the one who beats.

    ``monotonic`` gives seconds.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.polls_ok = 0
        self.poll_error = ""
        self.internal_errors = 0
        self.model_error = ""
        self.look = asyncio.Event()
        self.beat_now = asyncio.Event()
        self._monotonic = monotonic
        self._progressed = monotonic()

    def poll_succeeded(self, *, first: bool) -> None:
        """A poll came back, perhaps the first one since the worker became active."""
        if first or self.poll_error:
            self.beat_now.set()
        self.polls_ok += 1
        self.poll_error = ""

    def poll_failed(self, error: str) -> None:
        """A poll failed."""
        if not self.poll_error:
            self.beat_now.set()
        self.poll_error = error

    def run_ended(self, model_error: str) -> None:
        """A run came to its end; with an error when it was the model's."""
        if bool(model_error) != bool(self.model_error):
            self.beat_now.set()
        self.model_error = model_error

    def internal_error(self) -> None:
        """Something happened that nobody foresaw."""
        self.internal_errors += 1
        self.beat_now.set()

    def busy_changed(self) -> None:
        """Some work began to wait, or ended."""
        self.look.set()

    def progressed(self) -> None:
        """The work in hand made a step."""
        self._progressed = self._monotonic()

    def progressed_seconds_ago(self) -> float:
        """The age of the last step."""
        return self._monotonic() - self._progressed
