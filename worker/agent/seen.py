"""The sign that a message was seen, for those who write while a run is under way."""

import asyncio
from typing import Final

from worker.agent.live import LiveMessage
from worker.commander.base import Commander
from worker.store import Store

#: A message that has its turn by then needs no sign.
DELAY_SECONDS: Final = 1.0
LOOK_SECONDS: Final = 1.0


class Seen:
    """One sign for each run: it tells the place of the latest message in line.

    ``delay`` and ``look``, how often to look for a change, are in seconds.
    """

    def __init__(
        self, *, commander: Commander, store: Store, delay: float = DELAY_SECONDS, look: float = LOOK_SECONDS
    ) -> None:
        self._commander = commander
        self._store = store
        self._delay = delay
        self._look = look
        self._new: set[int] = set()
        self._tasks: dict[int, asyncio.Task[None]] = {}

    def queued(self, chat_id: int) -> None:
        """A message was put in line."""
        self._new.add(chat_id)
        if chat_id not in self._tasks:
            task = asyncio.create_task(self._follow(chat_id))
            self._tasks[chat_id] = task
            task.add_done_callback(lambda _: self._tasks.pop(chat_id, None))

    def drop(self) -> None:
        """Show nothing more."""
        self._new.clear()
        for task in self._tasks.values():
            task.cancel()

    async def _follow(self, chat_id: int) -> None:
        inbox = self._store.inbox
        while chat_id in self._new:
            await asyncio.sleep(self._delay)
            self._new.discard(chat_id)
            run = inbox.in_hand(chat_id)
            if run is None or not inbox.waiting(chat_id):
                continue
            live = LiveMessage(
                commander=self._commander,
                chat_id=chat_id,
                render=lambda: _sign(inbox.waiting(chat_id)),
                created=lambda _: None,
                shown=lambda: self._new.discard(chat_id),
                interval=self._look,
            )
            try:
                while inbox.in_hand(chat_id) == run:
                    live.changed()
                    await asyncio.sleep(self._look)
            finally:
                await live.close(grace=0.0)


def _sign(waiting: int) -> str:
    if not waiting:
        return ""
    place = "yours is next" if waiting == 1 else f"yours is number {waiting} in line"
    return f"Seen: {place}. /stop ends what I am doing now."
