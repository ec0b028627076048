"""What the chat sees of a run while it is under way: the sign of typing, and the answer as it grows."""

import asyncio
import logging
import string
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Final

from supervisor.contract import Redactor
from worker.agent.live import INTERVAL_SECONDS, LiveMessage
from worker.agent.observer import RunObserver
from worker.commander.base import Commander, CommanderError, RateLimited
from worker.store import Store, Task

#: A run that is over by then is answered with one message and no edit.
DELAY_SECONDS: Final = 1.0
SHOW_WORKING_SECONDS: Final = 4.0
#: The end of the text is shown; in UTF-16 units it is twice as long at most, which one message holds.
LONGEST_PREVIEW: Final = 2000
#: What is shown of the output of a tool that is at work.
OUTPUT_LINES: Final = 8
WIDEST_OUTPUT: Final = 100
ASCII_SIGNS: Final = string.ascii_letters + string.digits + string.punctuation
#: How long the end of a run waits for a call under way: only then it is known which message the answer replaces.
GRACE_SECONDS: Final = 2.0
CUT_GRACE_SECONDS: Final = 0.2

logger = logging.getLogger(__name__)


class Previews:
    """Opens a preview for each run. ``delay`` and ``interval`` are in seconds."""

    def __init__(
        self,
        *,
        commander: Commander,
        store: Store,
        redact: Redactor,
        delay: float = DELAY_SECONDS,
        interval: float = INTERVAL_SECONDS,
    ) -> None:
        self._commander = commander
        self._store = store
        self._redact = redact
        self._delay = delay
        self._interval = interval

    @asynccontextmanager
    async def of(self, task: Task) -> AsyncIterator[RunObserver]:
        """Show a run while it is under way. What was shown is left for the answer to take its place."""
        typing = _Typing(self._commander, task.chat_id)
        preview = Preview(self._redact)
        live = LiveMessage(
            commander=self._commander,
            chat_id=task.chat_id,
            render=preview.text,
            created=partial(self._store.inbox.previewed, task),
            shown=typing.again,  # a new message ends the sign
            message_id=task.preview_message_id,
            delay=self._delay,
            interval=self._interval,
        )
        preview.watched_by(live)
        grace = GRACE_SECONDS
        try:
            yield preview
        except asyncio.CancelledError:
            grace = CUT_GRACE_SECONDS
            raise
        finally:
            await live.close(grace=grace)
            await typing.close()


class Preview:
    """The text that a run has so far; a RunObserver."""

    def __init__(self, redact: Redactor) -> None:
        self._redact = redact
        self._pieces: list[str] = []
        self._tool = ""
        self._output = ""
        self._live: LiveMessage | None = None

    def watched_by(self, live: LiveMessage) -> None:
        """Tell this message whenever there is something new."""
        self._live = live

    def text_delta(self, text: str) -> None:
        """The model wrote some more."""
        self._pieces.append(text)
        self._changed()

    def tool_started(self, name: str, arguments: Mapping[str, object]) -> None:  # noqa: ARG002 - may be long, and private
        """A tool was called."""
        self._tool, self._output = name, ""
        self._pieces.append("\n\n")
        self._changed()

    def tool_output(self, name: str, tail: str) -> None:  # noqa: ARG002 - it is the one that was started
        """The tool has put something out."""
        self._output = tail
        self._changed()

    def tool_finished(self, name: str, ok: bool) -> None:  # noqa: ARG002 - the model will say
        """The tool gave its result, or failed."""
        self._tool = self._output = ""
        self._changed()

    def limit_reached(self, limit_type: str, value: float, threshold: float) -> None:
        """The answer will say it."""

    def text(self) -> str:
        """What to show now: whole words only, as half a secret is not yet known to be one."""
        written = self._redact("".join(self._pieces))
        shown = written.rstrip(ASCII_SIGNS).strip()  # keys are ASCII; other scripts may do without spaces for long
        if len(shown) > LONGEST_PREVIEW:
            shown = "… " + shown[-LONGEST_PREVIEW:]
        doing = f"⚙ {self._tool} …\n{self._last_lines()}".rstrip() if self._tool else ""
        return "\n\n".join(filter(None, (shown, doing)))

    def _last_lines(self) -> str:
        """The end of what the tool has put out: whole lines, for the same reason."""
        whole = self._redact(self._output).rpartition("\n")[0]
        return "\n".join(line[:WIDEST_OUTPUT] for line in whole.splitlines()[-OUTPUT_LINES:])

    def _changed(self) -> None:
        if self._live is not None:
            self._live.changed()


class _Typing:
    """Shows the sign of typing until it is closed."""

    def __init__(self, commander: Commander, chat_id: int) -> None:
        self._commander = commander
        self._chat_id = chat_id
        self._again = asyncio.Event()
        self._task = asyncio.create_task(self._run())

    def again(self) -> None:
        """Show it at once."""
        self._again.set()

    async def close(self) -> None:
        """Let it go out."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            self._again.clear()
            try:
                await self._commander.show_working(self._chat_id)
            except RateLimited as limit:
                await asyncio.sleep(limit.retry_after)
            except CommanderError as error:
                logger.debug("chat %d does not see the sign of typing: %s", self._chat_id, error)
            with suppress(TimeoutError):
                async with asyncio.timeout(SHOW_WORKING_SECONDS):
                    await self._again.wait()
