"""The toolbox: its server, its client, its process."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pytest

from tests.worker.support import asynchronous, short_directory, until
from worker.tools.base import Arguments, Tool, ToolError
from worker.tools.client import ToolboxClient
from worker.tools.local import LocalToolbox
from worker.tools.registry import TOOLS
from worker.tools.server import Toolbox, reap

RSS_LIMIT_KB = 30 * 1024


@dataclass(frozen=True, slots=True)
class EchoArguments(Arguments):
    text: str
    times: int = 1


async def echo(arguments: EchoArguments) -> dict[str, object]:
    return {"text": arguments.text * arguments.times}


hanging: list[str] = []


async def hang(arguments: Arguments) -> dict[str, object]:
    hanging.append("begun")
    try:
        await asyncio.sleep(60)
    finally:
        hanging.append("cancelled")
    return {}


async def bug(arguments: Arguments) -> dict[str, object]:
    raise RuntimeError("a bug")


TEST_TOOLS = {
    "echo": Tool("echo", "Repeats.", EchoArguments, echo),
    "bug": Tool("bug", "Breaks.", Arguments, bug),
    "hang": Tool("hang", "Takes its time.", Arguments, hang),
}


@asynccontextmanager
async def toolbox() -> AsyncIterator[ToolboxClient]:
    with short_directory() as directory:
        path, stop = directory / "toolbox.sock", asyncio.Event()
        serving = asyncio.create_task(Toolbox(TEST_TOOLS).serve(path, stop))
        await until(path.exists)
        try:
            yield ToolboxClient(str(path), TEST_TOOLS)
        finally:
            stop.set()
            await serving


@asynchronous
async def test_a_call_and_its_result() -> None:
    """A tool runs with its arguments; ping lists the tools."""
    async with toolbox() as client:
        assert await client.call("echo", {"text": "ab", "times": 2}) == {"text": "abab"}
        assert (await client.ping())["tools"] == ["bug", "echo", "hang"]
        assert next((spec.name, spec.schema["type"]) for spec in client.specs()) == ("echo", "object")


@asynchronous
async def test_arguments_are_checked_strictly() -> None:
    """A wrong type, an unknown and a missing argument are refused, before anything runs."""
    async with toolbox() as client:
        for arguments in ({"text": 1}, {"text": "a", "times": "2"}, {"text": "a", "colour": "red"}, {}):
            with pytest.raises(ToolError) as caught:
                await client.call("echo", arguments)
            assert caught.value.code == "bad_arguments"
        assert client.schema("echo")["required"] == ["text"]


@asynchronous
async def test_errors_have_codes() -> None:
    """An unknown tool, a tool's bug and a toolbox that is away are told apart."""
    async with toolbox() as client:
        for name, code in (("rm", "unknown_tool"), ("bug", "internal")):
            with pytest.raises(ToolError) as caught:
                await client.call(name, {})
            assert caught.value.code == code
    with pytest.raises(ToolError) as caught:
        await client.ping()
    assert caught.value.code == "toolbox_unavailable"


@asynchronous
async def test_a_call_that_is_given_up_stops_the_tool() -> None:
    """Whoever is cancelled while it waits for a tool hangs up, and the tool is cancelled; the toolbox goes on."""
    async with toolbox() as client:
        hanging.clear()
        call = asyncio.create_task(client.call("hang", {}))
        await until(lambda: hanging == ["begun"])
        call.cancel()
        await until(lambda: hanging == ["begun", "cancelled"])
        assert await client.call("echo", {"text": "still here"}) == {"text": "still here"}


@asynchronous
async def test_alone_the_tools_run_in_a_subprocess() -> None:
    """It starts at the first call, sees no secret, starts again after it was killed, and ends with its starter."""
    local = LocalToolbox(TOOLS, {**os.environ, "OPENAI_API_KEY": "sk-hidden"})
    try:
        with pytest.raises(ToolError):
            await local.call("time", {"zone": "UTC"})
        pids = []
        for _ in range(2):
            assert "utc" in await local.call("time", {})
            (pid,) = children()
            pids.append(pid)
            environment = await asyncio.to_thread(Path(f"/proc/{pid}/environ").read_text)
            assert "PATH=" in environment
            assert "OPENAI" not in environment
            os.kill(pid, signal.SIGKILL)
            await until(lambda: not children())
        assert len(set(pids)) == 2
        await local.call("time", {})
    finally:
        await local.close()
    assert children() == []


def children() -> list[int]:
    return [int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"not json", "bad_request"),
        (b'{"op": "dance"}', "bad_request"),
        (b'{"op": "call", "tool": "echo", "arguments": []}', "bad_request"),
        (b'{"op": "call", "tool": "rm", "arguments": {}}', "unknown_tool"),
        (b'{"op": "call", "tool": "echo", "arguments": {"colour": 1}}', "bad_arguments"),
    ],
)
def test_bad_requests_are_answered(line: bytes, code: str) -> None:
    """Whatever is sent, the toolbox answers with a code."""
    answer = asyncio.run(Toolbox(TEST_TOOLS).answer(line))
    assert (answer["ok"], answer["code"]) == (False, code)


def test_time_tells_utc() -> None:
    """The one tool there is tells the present time with its zone."""
    answer = asyncio.run(Toolbox(TOOLS).answer(b'{"op": "call", "tool": "time", "arguments": {}}'))
    text = json.loads(json.dumps(answer))["result"]["utc"]
    assert abs(datetime.fromisoformat(text).timestamp() - datetime.now().astimezone().timestamp()) < 5


def test_orphans_are_reaped() -> None:
    """An ended child that nobody waits for is collected; with no child at all nothing happens."""
    child = os.posix_spawn(sys.executable, [sys.executable, "-S", "-c", ""], {})
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    reap()
    with pytest.raises(ChildProcessError):
        os.waitpid(child, os.WNOHANG)
    reap()


def test_the_process_is_small_and_ends_on_sigterm() -> None:
    """The toolbox serves from a socket that anyone may connect to, stays under 30 MB, and ends with 0."""
    with short_directory() as directory:
        path = directory / "toolbox.sock"
        environment = {**os.environ, "AUTONOUS_TOOLBOX_SOCKET": str(path)}
        process = subprocess.Popen([sys.executable, "-m", "worker.tools"], env=environment)
        try:
            deadline = time.monotonic() + 5
            while not (path.exists() and path.stat().st_mode & 0o777 == 0o666):
                assert time.monotonic() < deadline
                time.sleep(0.01)
            assert "utc" in asyncio.run(ToolboxClient(str(path), TOOLS).call("time", {}))
            status = Path(f"/proc/{process.pid}/status").read_text()
            rss = next(line for line in status.splitlines() if line.startswith("VmRSS"))
            assert int(rss.split()[1]) < RSS_LIMIT_KB
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=5) == 0
            assert not path.exists()
        finally:
            process.kill()
            process.wait()
