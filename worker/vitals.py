"""How the worker is doing, as its beats tell it."""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from worker.store.errors import is_out_of_our_hands

#: What happened longer ago says nothing of how the worker is doing.
REMEMBERED_SECONDS: Final = 600.0


class Vitals:
    """Counters, and the two wake-up calls: for the one who follows the role, and for the one who beats.

    ``monotonic`` gives seconds.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.polls_ok = 0
        self.poll_error = ""
        self.model_error = ""
        self.look = asyncio.Event()
        self.beat_now = asyncio.Event()
        self._monotonic = monotonic
        self._internal_errors: deque[float] = deque()
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

    def internal_error(self, error: Exception) -> None:
        """Something happened that nobody foresaw. A disk that is full or broken is no fault of this revision."""
        if not is_out_of_our_hands(error):
            self._internal_errors.append(self._monotonic())
            self.beat_now.set()

    @property
    def internal_errors(self) -> int:
        """How many there were of late."""
        while self._internal_errors and self._internal_errors[0] < self._monotonic() - REMEMBERED_SECONDS:
            self._internal_errors.popleft()
        return len(self._internal_errors)

    def busy_changed(self) -> None:
        """Some work began to wait, or ended."""
        self.look.set()

    def progressed(self) -> None:
        """The work in hand made a step."""
        self._progressed = self._monotonic()

    def progressed_seconds_ago(self) -> float:
        """The age of the last step."""
        return self._monotonic() - self._progressed
