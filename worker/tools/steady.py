"""A toolbox that may end at any time: the call in hand fails as a result, and the next one waits for the next toolbox.

The supervisor starts another one when a toolbox has died. That one lives and does not answer is noticed here, by asking
it beside each call, and told to the supervisor.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from copy import copy
from dataclasses import dataclass
from typing import Final

from worker.models.base import ToolSpec
from worker.tools.base import ErrorClass, Tool, ToolError, ToolResult, find_tool
from worker.tools.calls import OnProgress
from worker.tools.client import Identity, ToolboxClient

#: How long a call waits for a toolbox to begin in.
PATIENCE_SECONDS: Final = 30.0
LOOK_SECONDS: Final = 0.05
PING_EVERY_SECONDS: Final = 3.0
PING_SECONDS: Final = 5.0
#: How long after its time a call may still give its answer.
SLACK_SECONDS: Final = 10.0
#: So many unanswered questions in a row are no coincidence on a busy machine.
UNANSWERED: Final = 2
#: Nothing was begun: the same call can be made again.
_NOT_BEGUN: Final = ("toolbox_unavailable", "toolbox_full")

logger = logging.getLogger(__name__)

#: Tells whoever makes toolboxes, in a line, that this one is of no use.
Report = Callable[[str], Awaitable[None]]


@dataclass
class _Verdict:
    """Which toolbox was told to be of no use. All who call at one socket share it, so that it is told once."""

    useless: Identity | None = None


class SteadyToolbox:
    """Calls tools in whichever toolbox is at the socket."""

    def __init__(
        self,
        client: ToolboxClient,
        report: Report,
        *,
        tools: Mapping[str, Tool],
        timeout_seconds: float,
        slack: float = SLACK_SECONDS,
        patience: float = PATIENCE_SECONDS,
        ping_every: float = PING_EVERY_SECONDS,
        ping_seconds: float = PING_SECONDS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._report = report
        self._tools = tools
        self._timeout_seconds = timeout_seconds
        self._slack = slack
        self._patience = patience
        self._ping_every = ping_every
        self._ping_seconds = ping_seconds
        self._monotonic = monotonic
        self._verdict = _Verdict()

    def beside(self, client: ToolboxClient, tools: Mapping[str, Tool]) -> "SteadyToolbox":
        """Calls others of the same toolbox's tools, and knows what this one knows of it."""
        other = copy(self)
        other._client, other._tools = client, tools
        return other

    def specs(self) -> tuple[ToolSpec, ...]:
        """The tools, as a model is told of them."""
        return self._client.specs()

    def checked(self, name: str, arguments: Mapping[str, object]) -> dict[str, object]:
        """The arguments by their proper names. Raises ToolError when they, or the tool, do not fit."""
        return self._client.checked(name, arguments)

    async def call(
        self, name: str, arguments: Mapping[str, object], on_progress: OnProgress | None = None
    ) -> ToolResult:
        """Run a tool, as soon as there is a toolbox. Raises ToolError."""
        checked = self.checked(name, arguments)
        seconds = longest_seconds(find_tool(self._tools, name), checked, self._timeout_seconds) + self._slack
        until = self._monotonic() + self._patience
        while True:
            seen = await self._next_one(until)
            try:
                return await self._watched(name, checked, on_progress, seconds, seen)
            except ToolError as error:
                if error.code not in _NOT_BEGUN or self._monotonic() >= until:
                    raise
                if error.code == "toolbox_full":
                    await self._tell(str(error), seen)
            await asyncio.sleep(LOOK_SECONDS)

    async def close(self) -> None:
        """Free what the client holds."""
        await self._client.close()

    async def _watched(
        self,
        name: str,
        arguments: Mapping[str, object],
        on_progress: OnProgress | None,
        seconds: float,
        seen: Identity | None,
    ) -> ToolResult:
        """One call, as long as the toolbox answers beside it, and for ``seconds``."""
        call = asyncio.create_task(self._client.call(name, arguments, on_progress))
        silence = asyncio.create_task(self._silence())
        try:
            await asyncio.wait({call, silence}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if call.done():
                return call.result()
        finally:
            for task in (call, silence):
                task.cancel()
            await asyncio.gather(call, silence, return_exceptions=True)
        await self._tell("it does not answer", seen)
        reason = (
            "the toolbox stopped answering while this call was under way, and another one is being started. "
            "Nobody knows how far the call came: look before you repeat it"
        )
        raise ToolError("toolbox_ended", reason, ErrorClass.TOOL_EXEC)

    async def _silence(self) -> None:
        """Returns when the toolbox has left several questions unanswered. That it is gone, the call itself notices."""
        unanswered = 0
        while unanswered < UNANSWERED:
            await asyncio.sleep(self._ping_every)
            try:
                async with asyncio.timeout(self._ping_seconds):
                    with suppress(ToolError):
                        await self._client.ping()
                unanswered = 0
            except TimeoutError:
                unanswered += 1

    async def _next_one(self, until: float) -> Identity | None:
        """Which toolbox is at the socket, None when none is; of one that was told to be of no use, the next."""
        while (seen := self._client.identity()) is not None and seen == self._verdict.useless:
            if self._monotonic() >= until:
                self._verdict.useless = None  # whoever was told may have missed it: the next call finds out again
                reason = "the toolbox is of no use, and no other one has come in its place yet: try again later"
                raise ToolError("toolbox_unavailable", reason)
            await asyncio.sleep(LOOK_SECONDS)
        return seen

    async def _tell(self, reason: str, seen: Identity | None) -> None:
        """Once for each toolbox, however many calls have met it, and not of one that is gone already."""
        if seen is None or seen == self._verdict.useless or seen != self._client.identity():
            return
        self._verdict.useless = seen
        logger.warning("the toolbox is of no use: %s", reason)
        await self._report(reason)


def longest_seconds(tool: Tool, arguments: Mapping[str, object], default: float) -> float:
    """How long a call may take, when it is not asked for with a time of its own."""
    return tool.arguments(**arguments).seconds(default) + tool.grace_seconds


async def nobody_is_told(reason: str) -> None:
    """A Report where nobody makes toolboxes anew."""
    logger.debug("nobody is told that %s", reason)
