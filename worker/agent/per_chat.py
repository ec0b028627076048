"""Many chats side by side, one thing at a time in each."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Final

from worker.store import Fenced
from worker.vitals import Vitals

PAUSE_AFTER_ERROR_SECONDS: Final = 1.0

logger = logging.getLogger(__name__)


class PerChat:
    """Runs ``work(chat_id)`` in a task of its own for each chat that was woken, never twice at once for one chat.

    ``work`` returns when it finds nothing to do. An unexpected error is counted, and the work is tried again.
    """

    def __init__(self, group: asyncio.TaskGroup, work: Callable[[int], Awaitable[None]], vitals: Vitals) -> None:
        self._group = group
        self._work = work
        self._vitals = vitals
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._woken: set[int] = set()
        self._resting = 0

    @property
    def busy(self) -> int:
        """How many chats are being worked on, the resting ones left out."""
        return len(self._tasks) - self._resting

    def wake(self, chat_id: int) -> None:
        """There may be something to do in this chat."""
        self._woken.add(chat_id)
        if chat_id not in self._tasks:
            task = self._group.create_task(self._run(chat_id))
            self._tasks[chat_id] = task
            task.add_done_callback(lambda task: self._ended(chat_id, task))

    @contextmanager
    def resting(self) -> Iterator[None]:
        """The chat's work waits inside, and can be given up there at no loss."""
        self._resting += 1
        self._vitals.busy_changed()
        try:
            yield
        finally:
            self._resting -= 1

    async def rest(self, seconds: float) -> None:
        """Wait."""
        with self.resting():
            await asyncio.sleep(seconds)

    async def close(self) -> None:
        """Cut all work and wait until it has ended."""
        tasks = list(self._tasks.values())
        self._woken.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, chat_id: int) -> None:
        while chat_id in self._woken:
            self._woken.discard(chat_id)
            try:
                await self._work(chat_id)
            except Fenced:
                raise
            except Exception as error:
                logger.exception("unexpected error in chat %d", chat_id)
                self._vitals.internal_error(error)
                self._woken.add(chat_id)
                await self.rest(PAUSE_AFTER_ERROR_SECONDS)

    def _ended(self, chat_id: int, task: asyncio.Task[None]) -> None:
        del self._tasks[chat_id]
        self._vitals.busy_changed()
        woken_at_the_last_moment = chat_id in self._woken and not task.cancelled() and task.exception() is None
        if woken_at_the_last_moment:
            self.wake(chat_id)
