"""A message whose text follows what happens: sent once, then edited, never more often than the chat service likes."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from worker.commander.base import Ambiguous, Commander, CommanderError, RateLimited, Rejected
from worker.store import Fenced

#: Telegram takes about one message a second in one chat.
INTERVAL_SECONDS: Final = 1.0
PAUSE_AFTER_ERROR_SECONDS: Final = 3.0

logger = logging.getLogger(__name__)


class LiveMessage:
    """Shows what ``render`` gives, at most once in ``interval`` seconds; an empty text is not shown.

    ``message_id`` is the message to go on with; ``created`` is told the id of a new one, and ``shown`` is called each
    time the chat has taken a text. Nothing here is worth a run: what fails is tried again or left, and the latest
    text is all that counts.
    """

    def __init__(
        self,
        *,
        commander: Commander,
        chat_id: int,
        render: Callable[[], str],
        created: Callable[[int], None],
        shown: Callable[[], None],
        message_id: int | None = None,
        delay: float = 0.0,
        interval: float = INTERVAL_SECONDS,
    ) -> None:
        self._commander = commander
        self._chat_id = chat_id
        self._render = render
        self._created = created
        self._shown = shown
        self._message_id = message_id
        self._delay = delay
        self._interval = interval
        self._news = asyncio.Event()
        self._calling = asyncio.Lock()
        self._last = ""
        self._task = asyncio.create_task(self._run())

    def changed(self) -> None:
        """There may be something new to show."""
        self._news.set()

    async def close(self, *, grace: float) -> None:
        """Show nothing more. A call under way has ``grace`` seconds to end, so that its message is known."""
        with suppress(TimeoutError):
            async with asyncio.timeout(grace), self._calling:
                self._task.cancel()
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        await asyncio.sleep(self._delay)
        while True:
            await self._news.wait()
            self._news.clear()
            text = self._render()
            if not text or text == self._last:
                continue
            try:
                async with self._calling:
                    await self._show(text)
                pause = self._interval
            except RateLimited as limit:
                pause = max(limit.retry_after, self._interval)
            except (Rejected, Fenced) as error:
                logger.info("chat %d is shown no more: %s", self._chat_id, error)
                return
            except Ambiguous as error:
                if self._message_id is None:  # another one might stand beside it
                    logger.info("chat %d may have been shown something: %s", self._chat_id, error)
                    return
                pause = PAUSE_AFTER_ERROR_SECONDS
            except CommanderError:
                pause = PAUSE_AFTER_ERROR_SECONDS
            if text != self._last:
                self._news.set()
            await asyncio.sleep(pause)

    async def _show(self, text: str) -> None:
        message_id = await self._commander.show(self._chat_id, text, self._message_id)
        self._last = text
        if self._message_id is None:
            self._message_id = message_id
            self._created(message_id)
        self._shown()
