"""A chat service in a script: for tests and for a first try without any network."""

import asyncio
import logging
import time
from typing import Final

from worker.commander.base import (
    Ambiguous,
    CommanderError,
    Conflict,
    Incoming,
    RateLimited,
    Rejected,
    Unreachable,
    UpdateKind,
)
from worker.scripts import Action, Step, endless

OWNER: Final = 1
CHAT: Final = 1

logger = logging.getLogger(__name__)


class DummyCommander:
    """Each poll takes one step of ``polls``, each message sent one of ``sends``."""

    source = "dummy"
    owners = frozenset({OWNER})

    def __init__(self, polls: tuple[Step, ...], sends: tuple[Step, ...]) -> None:
        self._polls = endless(polls)
        self._sends = endless(sends)
        self._last_update = 0
        self._last_message = 0

    async def poll(self, offset: int | None, *, at_once: bool) -> list[Incoming]:  # noqa: ARG002 - never waits
        """What the next step of the script says."""
        step = await self._take(next(self._polls))
        if step.action is not Action.MSG:
            return []
        self._last_update = max(self._last_update + 1, offset or 1)
        return [
            Incoming(self._last_update, UpdateKind.MESSAGE, CHAT, OWNER, True, step.text, time.time()),
        ]

    async def drop_pending(self) -> None:
        """Nothing waits here."""

    def parts(self, text: str) -> list[str]:
        """Everything fits."""
        return [text]

    async def send(self, chat_id: int, text: str) -> int:
        """Take one step of the script for sending."""
        await self._take(next(self._sends))
        self._last_message += 1
        logger.info("message %d to chat %d: %d characters", self._last_message, chat_id, len(text))
        return self._last_message

    async def show_working(self, chat_id: int) -> None:
        """Nobody watches."""

    async def close(self) -> None:
        """Nothing to free."""

    async def _take(self, step: Step) -> Step:
        if step.action is Action.SLEEP:
            await asyncio.sleep(step.seconds)
        if step.action is Action.ERR:
            raise _error(step.text)
        return step


def _error(name: str) -> CommanderError:
    message = f"scripted error of class {name}"
    match name:
        case "ambiguous":
            return Ambiguous(message)
        case "rejected":
            return Rejected(message)
        case "conflict":
            return Conflict(message)
        case "rate_limited":
            return RateLimited(0)
        case _:
            return Unreachable(message)
