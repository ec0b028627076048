"""A chat service in a script: for tests and for a first try without any network."""

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from typing import Final

from worker.commander.base import (
    Ambiguous,
    Button,
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

    def parse(self, raw: str) -> Incoming | None:  # noqa: ARG002 - nobody else polls here
        """There is none."""
        return None

    async def drop_pending(self) -> None:
        """Nothing waits here."""

    def parts(self, text: str, *, formatted: bool) -> list[str]:  # noqa: ARG002 - nothing is formatted here
        """Everything fits."""
        return [text]

    async def send(self, chat_id: int, text: str, *, formatted: bool = False, replaces: int | None = None) -> int:  # noqa: ARG002
        """Take one step of the script for sending."""
        await self._take(next(self._sends))
        message_id = replaces or self._new_message()
        logger.info("message %d to chat %d: %d characters", message_id, chat_id, len(text))
        return message_id

    async def show(self, chat_id: int, text: str, message_id: int | None = None) -> int:  # noqa: ARG002
        """What is shown for the time being takes no step."""
        return message_id or self._new_message()

    async def ask(self, chat_id: int, text: str, buttons: Sequence[Button]) -> int:  # noqa: ARG002
        """Nobody can press anything here."""
        raise Rejected("there is nobody to press a button")

    async def remove_buttons(self, chat_id: int, message_id: int) -> None:
        """There are none."""

    async def answer_press(self, callback_id: str, text: str, *, alert: bool = False) -> None:
        """Nobody presses."""

    async def show_working(self, chat_id: int) -> None:
        """Nobody watches."""

    async def publish_commands(self, commands: Mapping[str, str]) -> None:
        """There is no menu."""

    async def close(self) -> None:
        """Nothing to free."""

    def _new_message(self) -> int:
        self._last_message += 1
        return self._last_message

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
