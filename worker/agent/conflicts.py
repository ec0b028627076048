"""Somebody else polls the same bot: how long to keep away, and when to tell the owners."""

import logging
import math
from typing import Final

from worker.agent.owners import Owners
from worker.control.retry import RetryPolicy

#: A hand-over or a restart elsewhere is over by then.
ALERT_AFTER_SECONDS: Final = 30.0
#: Two pollers take turns, so a poll that comes back in between says nothing.
QUIET_SECONDS: Final = 90.0
WAITS: Final = RetryPolicy(max_retries=0, base_seconds=1, max_seconds=30)
ALERT_TEXT: Final = (
    "Another program polls this bot with the same token, so your messages reach either it or me. "
    "Stop the other one, or give it a bot of its own."
)

logger = logging.getLogger(__name__)


class Conflicts:
    """Follows the conflicts. The owners are told once, until there was none for a while."""

    def __init__(self, owners: Owners) -> None:
        self._owners = owners
        self._in_a_row = 0
        self._since = self._last = -math.inf
        self._told = False

    def again(self, now: float) -> list[tuple[int, str]]:
        """One more at ``now`` seconds of a monotonic clock; gives the chats to be told, and what."""
        if now - self._last > QUIET_SECONDS:
            self._since, self._told = now, False
        self._last = now
        self._in_a_row += 1
        if self._told or now - self._since < ALERT_AFTER_SECONDS:
            return []
        self._told = True
        logger.error("another program has polled this bot for %.0f s", now - self._since)
        return [(owner, ALERT_TEXT) for owner in sorted(self._owners.ids)]

    def over(self) -> None:
        """A poll came back."""
        self._in_a_row = 0

    @property
    def wait_seconds(self) -> float:
        """How long to keep away now."""
        return WAITS.wait_seconds(self._in_a_row)
