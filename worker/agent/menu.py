"""The menu of commands that the chat service offers."""

import asyncio
import logging
from collections.abc import Mapping
from typing import Final

from worker.commander.base import Commander, CommanderError, RateLimited, Rejected
from worker.control.retry import RetryPolicy

WAITS: Final = RetryPolicy(max_retries=5, base_seconds=2, max_seconds=60)

logger = logging.getLogger(__name__)


class Menu:
    """Publishes ``commands``, once in a process."""

    def __init__(self, commander: Commander, commands: Mapping[str, str]) -> None:
        self._commander = commander
        self._commands = commands
        self._published = False

    async def publish(self) -> None:
        """Try some times: the menu is a convenience."""
        failures = 0
        while not self._published and not WAITS.exhausted(failures):
            try:
                await self._commander.publish_commands(self._commands)
            except Rejected as error:
                logger.warning("the menu of commands is not taken: %s", error)
                return
            except CommanderError as error:
                failures += 1
                at_least = error.retry_after if isinstance(error, RateLimited) else 0.0
                await asyncio.sleep(max(WAITS.wait_seconds(failures), at_least))
            else:
                self._published = True
