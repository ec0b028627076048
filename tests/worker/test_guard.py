"""The guard: tiers decide, the owner is asked by a button, and every decision is an event."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from supervisor.contract import (
    Grant,
    GrantOrder,
    Grants,
    Press,
    Pressed,
    Redactor,
    Revocation,
    ToolboxOpened,
    ToolboxOrder,
)
from tests.worker.fakes import OWNER
from tests.worker.support import asynchronous, open_store, short_directory, until
from worker.agent.asks import NOT_YOURS, Answer, Asks, Wording, listed, plain
from worker.agent.granting import ALONE_TEXT, USAGE, Granting, RootArguments
from worker.agent.guard import Guard
from worker.agent.scope import CallScope
from worker.commander.base import Button, Rejected
from worker.commander.dummy import DummyCommander
from worker.control import tiers
from worker.control.tiers import Decision, TierPolicy
from worker.models.base import ToolSpec
from worker.scripts import Action, Step
from worker.selfupdate.base import Away, Declined
from worker.store import Store
from worker.tools.base import Arguments, Tier, Tool, ToolError, ToolResult, argument
from worker.tools.calls import OnProgress
from worker.tools.client import ToolboxClient
from worker.tools.registry import by_name
from worker.tools.server import Toolbox
from worker.tools.workplace import Workplace

SCOPE = CallScope(OWNER, "call-1", 7)


class Chat(DummyCommander):
    """A chat whose questions and texts can be looked at."""

    def __init__(self) -> None:
        super().__init__((Step(Action.OK),), (Step(Action.OK),))
        self.questions: list[tuple[str, list[Button]]] = []
        self.shown: dict[int, str] = {}
        self.mute = False

    async def ask(self, chat_id: int, text: str, buttons: Any) -> int:
        if self.mute:
            raise Rejected("the bot was blocked")
        self.questions.append((text, list(buttons)))
        return 100 + len(self.questions)

    async def show(self, chat_id: int, text: str, message_id: int | None = None) -> int:
        assert message_id is not None
        self.shown[message_id] = text
        return message_id

    def press(self, label: str, *, user: int = OWNER, message: int = 101, number: int = 0) -> Press:
        data = next(button.data for button in self.questions[number][1] if button.label == label)
        return Press(data=data, user_id=user, chat_id=OWNER, message_id=message, callback_id="c")


@dataclass(frozen=True, slots=True)
class BashArguments(Arguments):
    command: str = argument("the command")
    network: bool = argument("with the network", False)


def run(arguments: BashArguments, workplace: Workplace) -> ToolResult:
    return ToolResult(ok=True, stdout=f"{arguments.command} network={arguments.network}")


TOOLS = by_name(
    (Tool("bash", "Runs.", BashArguments, run, Tier.EXEC), Tool("read", "Reads.", BashArguments, run, Tier.READ))
)


class Box:
    """A toolbox that notes what it is called with."""

    def __init__(self) -> None:
        self._client = ToolboxClient("none", TOOLS)
        self.calls: list[dict[str, object]] = []

    def specs(self) -> tuple[ToolSpec, ...]:
        return self._client.specs()

    def checked(self, name: str, arguments: Mapping[str, object]) -> dict[str, object]:
        return self._client.checked(name, arguments)

    async def call(
        self, name: str, arguments: Mapping[str, object], on_progress: OnProgress | None = None
    ) -> ToolResult:
        self.calls.append(dict(arguments))
        return ToolResult(ok=True, stdout="offline")


@dataclass
class Desk:
    """The supervisor's side of grants and networks."""

    socket: str = "none"
    orders: list[ToolboxOrder] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)
    granted: list[Grant] = field(default_factory=list)
    refuses: Exception | None = None

    async def open_toolbox(self, order: ToolboxOrder) -> ToolboxOpened:
        self.orders.append(order)
        if self.refuses:
            raise self.refuses
        return ToolboxOpened(toolbox_id="net-1", socket=self.socket)

    async def close_toolbox(self, toolbox_id: str) -> None:
        self.closed.append(toolbox_id)

    async def grants(self) -> Grants:
        if self.refuses:
            raise self.refuses
        return Grants(grants=self.granted, grantable_roots=["/srv"])

    async def grant(self, order: GrantOrder) -> Grant:
        if self.refuses:
            raise self.refuses
        self.granted.append(Grant(number=3, path=order.path, mode=order.mode, ends_at=1.8e9, why=order.why))
        return self.granted[-1]

    async def revoke(self, number: int, revocation: Revocation) -> Grant:
        if self.refuses:
            raise self.refuses
        return self.granted.pop()


@dataclass
class Scene:
    guard: Guard
    chat: Chat
    asks: Asks
    box: Box
    desk: Desk
    store: Store

    async def call(self, name: str = "bash", **arguments: object) -> ToolResult:
        return await self.guard.call(name, arguments, SCOPE)

    def decisions(self) -> list[tuple[str, str]]:
        rows = self.store.database
        found = []
        for name in ("allowed", "asked", "denied"):
            sql = "SELECT json_extract(payload, '$.by'), parent_id FROM events WHERE event_type = ? ORDER BY id"
            row = rows.first(sql, (f"tool_call.{name}",))
            if row is not None:
                assert row[1] == SCOPE.event_id
                found.append((name, row[0] or ""))
        return found


@asynccontextmanager
async def scene(policy: TierPolicy = tiers.DEFAULT, *, seconds: float = 5, alone: bool = False) -> AsyncIterator[Scene]:
    with short_directory() as directory:
        store, chat, box, desk = open_store(directory / "agent.db"), Chat(), Box(), Desk()
        asks = Asks(commander=chat, redact=Redactor(["canary-secret"]), seconds=seconds)
        guard = Guard(
            toolbox=box,
            tools=TOOLS,
            policy=policy,
            asks=asks,
            granting=Granting(desk=None if alone else desk, asks=asks),
            network=None if alone else desk,
            store=store,
            timeout_seconds=30,
        )
        stop, path = asyncio.Event(), directory / "net.sock"
        desk.socket = str(path)
        serving = asyncio.create_task(Toolbox(TOOLS, Workplace(directory, (directory,))).serve(path, stop))
        await until(path.exists)
        try:
            yield Scene(guard, chat, asks, box, desk, store)
        finally:
            stop.set()
            await serving
            store.close()


async def refused(call: Any) -> ToolError:
    with pytest.raises(ToolError) as caught:
        await call
    assert caught.value.error_class == "policy"
    return caught.value


@pytest.mark.parametrize(
    ("policy", "asked", "decision"),
    [
        ("read=allow,write=allow,exec=allow,network=ask", [Tier.EXEC], Decision.ALLOW),
        ("read=allow,write=allow,exec=allow,network=ask", [Tier.EXEC, Tier.NETWORK], Decision.ASK),
        ("exec=ask,network=deny", [Tier.EXEC, Tier.NETWORK], Decision.DENY),
        ("exec=deny,network=ask", [Tier.EXEC, Tier.NETWORK], Decision.DENY),
        ("exec=ask,network=allow", [Tier.EXEC, Tier.NETWORK], Decision.ASK),
        ("exec=allow,exec=deny,exec=allow", [Tier.EXEC], Decision.DENY),
        ("read=allow", [Tier.EXEC], Decision.DENY),
        ("read=allow", [], Decision.DENY),
    ],
)
def test_the_strictest_wins_and_what_is_not_named_is_denied(policy: str, asked: list[Tier], decision: str) -> None:
    """Whatever the order."""
    assert tiers.parse(policy).decide(asked) is decision
    assert tiers.parse(policy).decide(reversed(asked)) is decision


@asynchronous
async def test_what_is_allowed_runs_and_is_an_event() -> None:
    """Nobody is asked."""
    async with scene() as here:
        assert (await here.call(command="ls")).stdout == "offline"
        assert (here.box.calls, here.chat.questions) == ([{"command": "ls"}], [])
        assert here.decisions() == [("allowed", "policy")]


@asynchronous
async def test_what_is_denied_does_not_run() -> None:
    """The model is told which tier it was; bad arguments are told before anything is decided."""
    async with scene(tiers.parse("read=allow")) as here:
        assert "exec" in str(await refused(here.call(command="ls")))
        assert (here.box.calls, here.decisions()) == ([], [("denied", "policy")])
        with pytest.raises(ToolError) as caught:
            await here.call(command=1)
        assert caught.value.code == "bad_arguments"


@asynchronous
async def test_an_allowed_network_call_runs_in_a_toolbox_of_its_own() -> None:
    """The owner sees every word of it; the toolbox is closed afterwards, and the supervisor knows the call's hash."""
    async with scene() as here:
        call = asyncio.create_task(here.call(command="curl x\u202e\ncanary-secret", network=True))
        await until(lambda: here.chat.questions)
        text, buttons = here.chat.questions[0]
        assert "curl x\\u202e\n" in text
        assert "network: true" in text
        assert "canary-secret" not in text
        assert all(len(button.data.encode()) <= 64 for button in buttons)
        assert await here.asks.press(here.chat.press("Allow")) == Pressed(text="Allowed.")
        assert (await call).stdout.endswith("network=False")
        assert (here.box.calls, here.desk.closed) == ([], ["net-1"])
        assert (len(here.desk.orders[0].call_sha256), here.desk.orders[0].chat_id) == (64, OWNER)
        assert here.chat.shown[101].endswith("Allowed.")
        assert here.decisions() == [("allowed", "owner"), ("asked", "")]


@asynchronous
async def test_a_no_a_silence_and_a_chat_that_cannot_be_asked_deny() -> None:
    """Each says so below the question, and in its event."""
    async with scene() as here:
        call = asyncio.create_task(here.call(command="a", network=True))
        await until(lambda: here.chat.questions)
        assert await here.asks.press(here.chat.press("Deny")) == Pressed(text="Denied.")
        assert "said no" in str(await refused(call))
        assert ("denied", "owner") in here.decisions()
    async with scene(seconds=0.05) as here:
        assert "in time" in str(await refused(here.call(command="a", network=True)))
        assert ("denied", "timed_out") in here.decisions()
        assert "Nobody answered in time" in here.chat.shown[101]
    async with scene() as here:
        here.chat.mute = True
        assert "could not be asked" in str(await refused(here.call(command="a", network=True)))
        assert ("denied", "unanswerable") in here.decisions()
    async with scene() as here:
        assert "too long" in str(await refused(here.call(command="a" * 5000, network=True)))
        assert here.chat.questions == []
        assert ("denied", "length") in here.decisions()


@asynchronous
async def test_a_question_is_answered_once_by_whom_it_was_put_to() -> None:
    """Another user, another message, the same press again, and one after the end are worth nothing."""
    async with scene() as here:
        call = asyncio.create_task(here.call(command="a", network=True))
        await until(lambda: here.chat.questions)
        assert await here.asks.press(here.chat.press("Allow", user=666)) == NOT_YOURS
        assert await here.asks.press(here.chat.press("Allow", message=55)) == NOT_YOURS
        assert not call.done()
        assert await here.asks.press(here.chat.press("Deny")) == Pressed(text="Denied.")
        assert await here.asks.press(here.chat.press("Allow")) is None
        await refused(call)
        assert await here.asks.press(here.chat.press("Allow")) is None


@asynchronous
async def test_a_worker_that_is_told_to_stop_shows_that_it_was_interrupted() -> None:
    """The call is denied, and the buttons go."""
    async with scene() as here:
        call = asyncio.create_task(here.call(command="a", network=True))
        await until(lambda: here.chat.questions)
        await asyncio.sleep(0.01)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        assert ("denied", "interrupted") in here.decisions()
        assert here.chat.shown[101].endswith("I was interrupted.")


@asynchronous
async def test_without_a_supervisor_a_network_call_runs_where_all_do() -> None:
    """It is asked for all the same, and said at the start that offline is not enforced there."""
    async with scene(alone=True) as here:
        call = asyncio.create_task(here.call(command="a", network=True))
        await until(lambda: here.chat.questions)
        await here.asks.press(here.chat.press("Allow"))
        assert (await call).stdout == "offline"


@asynchronous
async def test_no_network_is_a_result() -> None:
    """What the supervisor refuses is told to the model."""
    async with scene(tiers.parse("exec=allow,network=allow")) as here:
        here.desk.refuses = Declined("too_many", "2 calls have the network already")
        with pytest.raises(ToolError, match="2 calls have the network") as caught:
            await here.call(command="a", network=True)
        assert caught.value.code == "no_network"


# -- grants


@asynchronous
async def test_the_commands_for_grants() -> None:
    """Given, listed, taken back; what is not understood is told in a line."""
    async with scene() as here:
        commands = Granting(desk=here.desk, asks=here.asks).commands()
        for words in ("", "/srv/x", "/srv/x rw", "/srv/x wr 2", "/srv/x rw two", "/srv/x rw nan"):
            assert await commands["grant"](OWNER, words) == USAGE
        told = await commands["grant"](OWNER, "/srv/with a blank ro 1.5")
        assert told.startswith("Granted: /srv/with a blank, to read, until ")
        assert "/revoke_3" in told
        assert "/srv/with a blank" in await commands["grants"](OWNER, "")
        assert "number" in await commands["revoke"](OWNER, "it")
        assert (await commands["revoke"](OWNER, "3")).startswith("Revoked: /srv/with a blank.")
        here.desk.refuses = Declined("not_grantable", "/etc is never granted: /etc is the system's")
        with pytest.raises(Declined, match="/etc is never granted"):
            await commands["grant"](OWNER, "/etc ro 1")
        alone = Granting(desk=None, asks=here.asks).commands()
        assert [await alone["grant"](OWNER, "/srv ro 1"), await alone["grants"](OWNER, "")] == [ALONE_TEXT] * 2


@asynchronous
async def test_the_model_may_ask_for_a_directory() -> None:
    """The owner sees path, access, time and reason; only their yes grants it."""
    async with scene() as here:
        granting = Granting(desk=here.desk, asks=here.asks)
        (tool,) = granting.tools()
        attempt: Any = type("Attempt", (), {"task": type("Task", (), {"chat_id": OWNER})})
        wanted = RootArguments(path="/srv/x", mode="rw", hours=2.0, why="to build it")
        for label, granted in (("Deny", 0), ("Grant", 1)):
            number = len(here.chat.questions)
            asking = asyncio.ensure_future(tool.run(wanted, attempt))
            await until(lambda number=number: len(here.chat.questions) > number)  # type: ignore[misc]
            text = here.chat.questions[-1][0]
            assert all(words in text for words in ("/srv/x", "to read and write", "hours: 2", "to build it"))
            await here.asks.press(here.chat.press(label, message=101 + number, number=number))
            if granted:
                assert (await asking).meta["grant"] == 3
            else:
                assert (await refused(asking)).code == "not_granted"
            assert len(here.desk.granted) == granted
        here.desk.refuses = Away("ConnectError: no such file")
        asking = asyncio.ensure_future(tool.run(wanted, attempt))
        await until(lambda: len(here.chat.questions) == 3)
        await here.asks.press(here.chat.press("Grant", message=103, number=2))
        with pytest.raises(ToolError, match="the supervisor does not answer just now"):
            await asking
        assert Granting(desk=None, asks=here.asks).tools() == ()


@asynchronous
async def test_the_use_of_a_grant_is_an_event() -> None:
    """By the words of the call."""
    async with scene() as here:
        here.desk.granted.append(Grant(number=3, path="/srv/x", mode="ro", ends_at=1.8e9))
        await here.call(command="ls /srv/x/y")
        await here.call(command="ls /srv")
        row = here.store.database.first("SELECT COUNT(*), MAX(payload) FROM events WHERE event_type = 'grant.used'")
        assert row is not None
        assert row[0] == 1
        assert '"path":"/srv/x"' in row[1]


def test_nothing_hides_in_a_question() -> None:
    """Characters that are not seen or that reorder are spelled out, and no line of a value looks like a field."""
    assert listed([("why", "x\npath: /srv"), ("hours", "2")]) == "why:\n│ x\n│ path: /srv\nhours: 2"
    assert plain("a\tb\nc\u200bd\u202ee\x1bf\x00") == "a\tb\nc\\u200bd\\u202ee\\u001bf\\u0000"


@asynchronous
async def test_a_question_that_is_too_long_is_not_put() -> None:
    """Half of it could not be judged."""
    asks = Asks(commander=Chat(), redact=Redactor([]))
    assert await asks.ask(OWNER, Wording("x" * 4000, "a", "b", "c", "d")) is Answer.UNANSWERABLE
