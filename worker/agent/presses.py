"""Pressed buttons: each goes to whoever made it, told by how its data begins.

| prefix | made by                                     |
|--------|---------------------------------------------|
| ``w:`` | this worker's questions                     |
| ``s:`` | the supervisor, which wrote the message     |
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from supervisor.contract import Press, Pressed
from worker.commander.base import Commander, CommanderError, Incoming
from worker.vitals import Vitals

EXPIRED: Final = Pressed(text="That button is of no use any more.")
FAILED: Final = Pressed(text="That did not work. Try again.", alert=True)

logger = logging.getLogger(__name__)

#: Does what a button is for. Gives None for one that it does not know (any more): its message loses its buttons then.
PressHandler = Callable[[Press], Awaitable[Pressed | None]]


class Presses:
    """Knows who is told of which press. Presses are settled side by side, so that none holds up the intake."""

    def __init__(self, *, commander: Commander, vitals: Vitals) -> None:
        self._commander = commander
        self._vitals = vitals
        self._handlers: dict[str, PressHandler] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def handle(self, prefix: str, handler: PressHandler) -> None:
        """Have ``handler`` called for buttons whose data begins with ``prefix``, up to its colon."""
        self._handlers[prefix] = handler

    def take(self, update: Incoming) -> None:
        """Settle a press of an owner, in a task of its own."""
        if update.user_id is None or update.message_id is None:
            return
        press = Press(
            data=update.text,
            user_id=update.user_id,
            chat_id=update.chat_id,
            message_id=update.message_id,
            callback_id=update.callback_id,
        )
        task = asyncio.create_task(self._settle(press))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Cut what is under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _settle(self, press: Press) -> None:
        handler = self._handlers.get(press.data.partition(":")[0] + ":")
        try:
            pressed = await handler(press) if handler else None
        except Exception as error:
            logger.exception("unexpected error behind a button")
            self._vitals.internal_error(error)
            pressed = FAILED
        try:
            if pressed is None:
                await self._commander.remove_buttons(press.chat_id, press.message_id)
                pressed = EXPIRED
            await self._commander.answer_press(press.callback_id, pressed.text, alert=pressed.alert)
        except CommanderError as error:  # the waiting sign on the button goes out by itself
            logger.info("a press in chat %d was not answered: %s", press.chat_id, error)
