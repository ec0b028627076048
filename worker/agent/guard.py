"""The guard before every call of the toolbox: the owner's policy decides, and every decision is an event.

Words of a model, a file or a tool's output decide nothing here.
"""

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Mapping, Sequence
from typing import Final, Protocol

from supervisor.contract import EventType, ToolboxOpened, ToolboxOrder
from worker.agent.asks import LONGEST_QUESTION, Answer, Asks, Wording, listed, plain
from worker.agent.granting import Granting
from worker.agent.scope import CallScope
from worker.control.tiers import Decision, TierPolicy
from worker.models.base import ToolSpec
from worker.selfupdate.base import SupervisorError
from worker.store import Store
from worker.tools.base import ErrorClass, Tier, Tool, ToolError, ToolResult, find_tool
from worker.tools.calls import OnProgress
from worker.tools.client import ToolboxClient
from worker.tools.steady import SteadyToolbox, longest_seconds, nobody_is_told

CLOSE_SECONDS: Final = 5.0
NETWORK: Final = "network"


class Toolbox(Protocol):
    """Where tools run."""

    def specs(self) -> Sequence[ToolSpec]:
        """The tools there are."""

    def checked(self, name: str, arguments: Mapping[str, object]) -> dict[str, object]:
        """The arguments by their proper names. Raises ToolError when they, or the tool, do not fit."""

    async def call(
        self, name: str, arguments: Mapping[str, object], on_progress: OnProgress | None = None
    ) -> ToolResult:
        """Run a tool; cancelled, it stops the tool. Raises ToolError."""


class NetworkDesk(Protocol):
    """Who opens toolboxes with a network. Both methods raise SupervisorError."""

    async def open_toolbox(self, order: ToolboxOrder) -> ToolboxOpened:
        """One for a single call."""

    async def close_toolbox(self, toolbox_id: str) -> None:
        """That call has ended."""


class Guard:
    """Lets calls through to the toolbox. ``network`` is None where tools run as the worker's own user."""

    def __init__(
        self,
        *,
        toolbox: Toolbox,
        tools: Mapping[str, Tool],
        policy: TierPolicy,
        asks: Asks,
        granting: Granting,
        network: NetworkDesk | None,
        store: Store,
        timeout_seconds: float,
    ) -> None:
        self._toolbox = toolbox
        self._tools = tools
        self._policy = policy
        self._asks = asks
        self._granting = granting
        self._network = network
        self._store = store
        self._timeout_seconds = timeout_seconds

    def specs(self) -> Sequence[ToolSpec]:
        """The tools there are."""
        return self._toolbox.specs()

    async def call(self, name: str, arguments: Mapping[str, object], scope: CallScope) -> ToolResult:
        """Run a tool, if it may run. Raises ToolError."""
        checked = self._toolbox.checked(name, arguments)
        online = checked.pop(NETWORK, False) is True
        tiers = [find_tool(self._tools, name).tier, *([Tier.NETWORK] if online else [])]
        await self._admit(name, arguments, tiers, scope)
        for grant in await self._granting.used_by(json.dumps(checked, ensure_ascii=False)):
            self._record(EventType.GRANT_USED, name, scope, number=grant.number, path=grant.path, mode=grant.mode)
        if online and self._network is not None:
            return await self._call_online(self._network, name, arguments, checked, scope)
        return await self._toolbox.call(name, checked, scope.on_output)

    # -- the decision

    async def _admit(self, name: str, arguments: Mapping[str, object], tiers: Sequence[Tier], scope: CallScope) -> None:
        """Record what is decided. Raises ToolError when it is no."""
        told = {"tiers": [str(tier) for tier in tiers]}
        match self._policy.decide(tiers):
            case Decision.ALLOW:
                self._record(EventType.TOOL_CALL_ALLOWED, name, scope, by="policy", **told)
            case Decision.ASK:
                await self._ask(name, arguments, tiers, scope)
            case _:
                self._record(EventType.TOOL_CALL_DENIED, name, scope, by="policy", **told)
                reason = f"the owner's policy denies calls of the tier {' and '.join(tiers)}: find another way"
                raise ToolError("denied", reason, ErrorClass.POLICY)

    async def _ask(self, name: str, arguments: Mapping[str, object], tiers: Sequence[Tier], scope: CallScope) -> None:
        told = {"tiers": [str(tier) for tier in tiers]}
        wording = _question(name, arguments, tiers, self._asks.seconds)
        if len(wording.text) > LONGEST_QUESTION:
            self._record(EventType.TOOL_CALL_DENIED, name, scope, by="length", **told)
            reason = "the owner is shown every word of such a call, and this one is too long for that: make it short"
            raise ToolError("denied", reason, ErrorClass.POLICY)
        self._record(EventType.TOOL_CALL_ASKED, name, scope, **told)
        answer = Answer.INTERRUPTED
        try:
            answer = await self._asks.ask(scope.chat_id, wording)
        finally:
            event = EventType.TOOL_CALL_ALLOWED if answer is Answer.YES else EventType.TOOL_CALL_DENIED
            by = "owner" if answer in (Answer.YES, Answer.NO) else str(answer)
            self._record(event, name, scope, by=by, **told)
        if answer is not Answer.YES:
            reason = {
                Answer.NO: "the owner said no to this call: go on without it, or ask in your answer",
                Answer.TIMED_OUT: "the owner did not answer in time, so it was not made: go on without it",
            }.get(answer, "the owner could not be asked, so it was not made")
            raise ToolError("denied", reason, ErrorClass.POLICY)

    # -- with a network

    async def _call_online(
        self,
        desk: NetworkDesk,
        name: str,
        arguments: Mapping[str, object],
        checked: Mapping[str, object],
        scope: CallScope,
    ) -> ToolResult:
        """In a toolbox of its own, which has a network and ends with the call."""
        call = json.dumps({"tool": name, "arguments": dict(arguments)}, sort_keys=True, separators=(",", ":"))
        seconds = longest_seconds(find_tool(self._tools, name), checked, self._timeout_seconds)
        order = ToolboxOrder(
            call_sha256=hashlib.sha256(call.encode()).hexdigest(), chat_id=scope.chat_id, timeout_seconds=seconds
        )
        try:
            opened = await desk.open_toolbox(order)
        except SupervisorError as error:
            raise ToolError("no_network", f"no toolbox with a network was opened: {error}") from error
        try:
            toolbox = SteadyToolbox(
                ToolboxClient(opened.socket, self._tools),
                nobody_is_told,
                tools=self._tools,
                timeout_seconds=self._timeout_seconds,
            )
            return await toolbox.call(name, checked, scope.on_output)
        finally:
            await _even_if_cancelled(_closed(desk, opened.toolbox_id))

    def _record(self, event: EventType, name: str, scope: CallScope, **more: object) -> None:
        payload = {"tool_call_id": scope.tool_call_id, "tool_name": name, "chat_id": scope.chat_id, **more}
        self._store.events.append(event, payload, parent_id=scope.event_id)


def _question(name: str, arguments: Mapping[str, object], tiers: Sequence[Tier], seconds: float) -> Wording:
    """The exact call, every word of it."""
    fields = [(key, plain(value if isinstance(value, str) else json.dumps(value))) for key, value in arguments.items()]
    what = "with the network" if Tier.NETWORK in tiers else f"which is of the tier {tiers[0]}"
    return Wording(
        text=f"May I call {name}, {what}?\n\n{listed(fields)}\n\nNo answer within {seconds:g} s is a no.",
        yes="Allow",
        no="Deny",
        said_yes="Allowed.",
        said_no="Denied.",
    )


async def _closed(desk: NetworkDesk, toolbox_id: str) -> None:
    try:
        async with asyncio.timeout(CLOSE_SECONDS):
            await desk.close_toolbox(toolbox_id)
    except (SupervisorError, TimeoutError):
        return  # the supervisor removes it when its time is over


async def _even_if_cancelled(work: Awaitable[None]) -> None:
    """See something through: the cancellation is obeyed afterwards."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await task
        raise
