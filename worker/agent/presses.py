"""Pressed buttons: each goes to whoever made it, told by how its data begins.

| prefix | made by                                     |
|--------|---------------------------------------------|
| ``w:`` | this worker's questions                     |
| ``s:`` | the supervisor, which wrote the message     |
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

from supervisor.contract import Press, Pressed
from worker.commander.base import Commander, CommanderError, Incoming
from worker.store import Store
from worker.store.errors import is_store_failure
from worker.vitals import Vitals

EXPIRED: Final = Pressed(text="That button is of no use any more.")
FAILED: Final = Pressed(text="That did not work. Try again.", alert=True)

logger = logging.getLogger(__name__)

#: Does what a button is for. Gives None for one that it does not know (any more): its message loses its buttons then.
PressHandler = Callable[[Press], Awaitable[Pressed | None]]


class Presses:
    """Knows who is told of which press. Presses are settled side by side, so that none holds up the intake."""

    def __init__(self, *, commander: Commander, store: Store, vitals: Vitals) -> None:
        self._commander = commander
        self._store = store
        self._vitals = vitals
        self._handlers: dict[str, PressHandler] = {}
        self._kept: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def handle(self, prefix: str, handler: PressHandler, *, kept: bool = False) -> None:
        """Have ``handler`` called for buttons whose data begins with ``prefix``, up to its colon.

        A ``kept`` press that a worker does not come to the end of is told to the handler of the next one.
        """
        self._handlers[prefix] = handler
        if kept:
            self._kept.add(prefix)

    def take(self, update: Incoming) -> Callable[[], None]:
        """Store a press of an owner; gives what settles it, in a task of its own, once that is safe."""
        if update.user_id is None or update.message_id is None:
            return lambda: None
        press = Press(
            data=update.text,
            user_id=update.user_id,
            chat_id=update.chat_id,
            message_id=update.message_id,
            callback_id=update.callback_id,
        )
        row_id = self._store.presses.add(press) if _prefix(press) in self._kept else None
        return partial(self._begin, press, row_id)

    def go_on(self) -> None:
        """Settle what a predecessor left."""
        for row_id, press in self._store.presses.waiting():
            self._begin(press, row_id)

    async def close(self) -> None:
        """Cut what is under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _begin(self, press: Press, row_id: int | None) -> None:
        task = asyncio.create_task(self._settle(press, row_id))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _settle(self, press: Press, row_id: int | None) -> None:
        pressed = await self._handled(press)
        if row_id is not None:
            self._answered(row_id)
        try:
            if pressed is None:
                await self._commander.remove_buttons(press.chat_id, press.message_id)
                pressed = EXPIRED
            await self._commander.answer_press(press.callback_id, pressed.text, alert=pressed.alert)
        except CommanderError as error:  # the waiting sign on the button goes out by itself
            logger.info("a press in chat %d was not answered: %s", press.chat_id, error)

    def _answered(self, row_id: int) -> None:
        try:
            self._store.presses.answered(row_id)
        except Exception as error:  # the next worker tells of it once more, which does no harm
            if not is_store_failure(error):
                raise
            logger.warning("that a press was answered could not be recorded: %s", error)

    async def _handled(self, press: Press) -> Pressed | None:
        """What its handler says. A press that is told a second time does nothing a second time."""
        handler = self._handlers.get(_prefix(press))
        try:
            return await handler(press) if handler else None
        except Exception as error:
            logger.exception("unexpected error behind a button")
            self._vitals.internal_error(error)
            return FAILED


def _prefix(press: Press) -> str:
    return press.data.partition(":")[0] + ":"
