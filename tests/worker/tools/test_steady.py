"""A toolbox that ends, hangs or is full: the call in hand fails as a result, the next one finds the next toolbox."""

import asyncio
import json
from pathlib import Path

import pytest

from tests.worker.support import asynchronous, short_directory, until
from worker.tools import wire
from worker.tools.base import Arguments, Tier, Tool, ToolError, ToolResult
from worker.tools.client import ToolboxClient
from worker.tools.registry import by_name
from worker.tools.server import Toolbox
from worker.tools.space import FreeSpace
from worker.tools.steady import SteadyToolbox
from worker.tools.workplace import Workplace

BEGUN = wire.line({"begun": True})
OK = wire.line({"ok": True, "result": wire.plain(ToolResult(ok=True, stdout="done"))})
FULL = wire.line({"ok": False, "code": "toolbox_full", "reason": "no process", "error_class": "tool_exec"})


def nothing(arguments: Arguments, workplace: Workplace) -> ToolResult:
    return ToolResult(ok=True, stdout="done")


TOOLS = by_name(
    (Tool("look", "Looks.", Arguments, nothing, Tier.READ), Tool("do", "Does.", Arguments, nothing, Tier.WRITE))
)

OPERATIONS = by_name([Tool("tidy", "Tidies.", Arguments, nothing, Tier.WRITE)])


class Moody:
    """A toolbox that meets each call with the next of its ``moods``.

    They are an answer, "hang up" in mid-call, "end" before it has begun, and "hang".
    """

    def __init__(self, path: Path, *moods: bytes | str) -> None:
        self._path = path
        self._moods = list(moods)
        self.calls = 0
        self.hung = asyncio.Event()
        self.server: asyncio.Server | None = None

    async def start(self) -> None:
        self.server = await asyncio.start_unix_server(self._answer, self._path)

    async def replaced(self, *moods: bytes | str) -> "Moody":
        """Another one at the same socket."""
        self._path.unlink()
        following = Moody(self._path, *moods)
        await following.start()
        return following

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = json.loads(await reader.readline())
        if request["op"] == "ping":
            if self.hung.is_set():
                await asyncio.sleep(60)
            writer.write(wire.line({"ok": True, "result": {}}))
        else:
            self.calls += 1
            mood = self._moods.pop(0)
            if mood == "hang":
                self.hung.set()
                await reader.read()
                self.hung.clear()
            elif isinstance(mood, bytes):
                writer.write(BEGUN + mood)
            elif mood == "hang up":
                writer.write(BEGUN)
        writer.close()


def steady(
    path: Path, told: list[str], *, patience: float = 2.0, ping_every: float = 0.05, longest: float = 30.0
) -> SteadyToolbox:
    async def tell(reason: str) -> None:
        told.append(reason)

    return SteadyToolbox(
        ToolboxClient(str(path), TOOLS),
        tell,
        tools=TOOLS,
        timeout_seconds=longest / 2,
        slack=longest / 2,
        patience=patience,
        ping_every=ping_every,
        ping_seconds=0.05,
    )


@asynchronous
async def test_a_call_waits_for_the_toolbox() -> None:
    """There is none at first; the call is made as soon as there is one, and fails when none comes."""
    with short_directory() as directory:
        path, told = directory / "s", list[str]()
        toolbox, moody = steady(path, told), Moody(path, OK)
        call = asyncio.create_task(toolbox.call("do", {}))
        await asyncio.sleep(0.1)
        await moody.start()
        assert (await call).stdout == "done"
        with pytest.raises(ToolError) as caught:
            await steady(directory / "none", told, patience=0.1).call("do", {})
        assert (caught.value.code, told) == ("toolbox_unavailable", [])


@asynchronous
async def test_a_toolbox_that_ends_in_a_call_fails_that_call_alone() -> None:
    """It is not made again by itself, as nobody knows how far it came."""
    with short_directory() as directory:
        moody = Moody(directory / "s", "hang up", OK)
        await moody.start()
        toolbox = steady(directory / "s", [])
        with pytest.raises(ToolError) as caught:
            await toolbox.call("do", {})
        assert (caught.value.code, moody.calls) == ("toolbox_ended", 1)
        assert (await toolbox.call("do", {})).ok


@asynchronous
async def test_a_toolbox_that_does_not_answer_is_told_and_given_up() -> None:
    """Neither the call nor the questions beside it are answered."""
    with short_directory() as directory:
        moody, told = Moody(directory / "s", "hang", OK), list[str]()
        await moody.start()
        toolbox = steady(directory / "s", told)
        with pytest.raises(ToolError) as caught:
            await toolbox.call("do", {})
        assert (caught.value.code, told) == ("toolbox_ended", ["it does not answer"])
        await until(lambda: not moody.hung.is_set())
        call = asyncio.create_task(toolbox.call("do", {}))
        await asyncio.sleep(0.15)
        assert moody.calls == 1
        following = await moody.replaced(OK)
        assert (await call).ok
        assert (moody.calls, following.calls) == (1, 1)


@asynchronous
async def test_nothing_is_sent_to_a_toolbox_that_is_of_no_use() -> None:
    """When no other one comes in time the call fails; the next call finds out anew."""
    with short_directory() as directory:
        moody, told = Moody(directory / "s", "hang", OK), list[str]()
        await moody.start()
        toolbox = steady(directory / "s", told, patience=0.1)
        for code in ("toolbox_ended", "toolbox_unavailable"):
            with pytest.raises(ToolError) as caught:
                await toolbox.call("do", {})
            assert caught.value.code == code
        assert moody.calls == 1
        await until(lambda: not moody.hung.is_set())
        assert (await toolbox.call("do", {})).ok


@asynchronous
async def test_two_calls_that_meet_one_toolbox_tell_of_it_once() -> None:
    """Or the toolbox in its place would be replaced, too."""
    with short_directory() as directory:
        moody, told = Moody(directory / "s", "hang", "hang"), list[str]()
        await moody.start()
        toolbox = steady(directory / "s", told)
        calls = await asyncio.gather(toolbox.call("do", {}), toolbox.call("do", {}), return_exceptions=True)
        assert [call.code for call in calls if isinstance(call, ToolError)] == ["toolbox_ended"] * 2
        assert told == ["it does not answer"]


@asynchronous
async def test_a_toolbox_that_ends_before_it_begins_a_call_is_not_its_end() -> None:
    """The call was not begun, so the next toolbox is given it."""
    with short_directory() as directory:
        moody = Moody(directory / "s", "end", OK)
        await moody.start()
        assert (await steady(directory / "s", []).call("do", {})).ok
        assert moody.calls == 2


@asynchronous
async def test_a_call_that_overstays_is_given_up_whatever_it_says() -> None:
    """Whoever sits at the socket cannot hold a run for ever."""
    with short_directory() as directory:
        moody, told = Moody(directory / "s", "hang"), list[str]()
        await moody.start()
        with pytest.raises(ToolError) as caught:
            await steady(directory / "s", told, ping_every=60, longest=0.2).call("do", {})
        assert (caught.value.code, told) == ("toolbox_ended", ["it does not answer"])


@asynchronous
async def test_a_full_toolbox_is_told_once_and_the_call_made_in_the_next() -> None:
    """Nothing was begun, so it may be tried again."""
    with short_directory() as directory:
        moody, told = Moody(directory / "s", FULL), list[str]()
        await moody.start()
        call = asyncio.create_task(steady(directory / "s", told).call("do", {}))
        await until(lambda: told)
        following = await moody.replaced(OK)
        assert (await call).ok
        assert (moody.calls, following.calls, len(told)) == (1, 1, 1)


@asynchronous
async def test_a_drained_toolbox_finishes_what_it_has_in_hand() -> None:
    """It lets nobody in any more, answers the call under way, and ends."""

    def slow(arguments: Arguments, workplace: Workplace) -> ToolResult:
        import time

        time.sleep(0.4)
        return ToolResult(ok=True, stdout="finished")

    with short_directory() as directory:
        path, stop, drain = directory / "s", asyncio.Event(), asyncio.Event()
        tools = by_name([Tool("slow", "Slow.", Arguments, slow, Tier.READ)])
        serving = asyncio.create_task(Toolbox(tools, Workplace(directory, (directory,))).serve(path, stop, drain))
        await until(path.exists)
        client = ToolboxClient(str(path), tools)
        call = asyncio.create_task(client.call("slow", {}))
        await asyncio.sleep(0.15)
        drain.set()
        await asyncio.sleep(0.05)
        with pytest.raises(ToolError) as caught:
            await client.call("slow", {})
        assert caught.value.code == "toolbox_unavailable"
        assert (await call).stdout == "finished"
        await serving


async def result() -> str:
    return "done"


@asynchronous
async def test_below_the_floor_nothing_that_writes_is_run(tmp_path: Path) -> None:
    """Reading goes on; the reason names the setting. A call that leads below the floor is stopped."""
    floor = FreeSpace(Workplace(tmp_path, (tmp_path,), min_free_bytes=2**60))
    assert await floor.guard(TOOLS["look"], result()) == "done"
    with pytest.raises(ToolError, match="AUTONOUS_MIN_FREE_BYTES") as caught:
        await floor.guard(TOOLS["do"], result())
    assert caught.value.code == "no_space"

    roomy = FreeSpace(Workplace(tmp_path, (tmp_path,), min_free_bytes=1))
    assert await roomy.guard(TOOLS["do"], result()) == "done"
    shortages = iter(["", "only 1 MiB are free"])
    roomy._short = lambda: next(shortages)  # type: ignore[method-assign]
    cut = asyncio.Event()

    async def fills() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            cut.set()

    with pytest.raises(ToolError, match="stopped: only 1 MiB"):
        await roomy.guard(TOOLS["do"], fills())
    assert cut.is_set()


@asynchronous
async def test_what_is_called_beside_shares_the_verdict() -> None:
    """The worker's own operations find out that the toolbox is of no use: it is told once, and waited for by both."""
    with short_directory() as directory:
        moody, told = Moody(directory / "s", "hang", OK), list[str]()
        await moody.start()
        toolbox = steady(directory / "s", told)
        operations = toolbox.beside(ToolboxClient(str(directory / "s"), OPERATIONS), OPERATIONS)
        with pytest.raises(ToolError) as caught:
            await operations.call("tidy", {})
        assert caught.value.code == "toolbox_ended"
        call = asyncio.create_task(toolbox.call("do", {}))
        await asyncio.sleep(0.1)
        assert (moody.calls, told) == (1, ["it does not answer"])
        following = await moody.replaced(OK)
        assert (await call).ok
        assert following.calls == 1
