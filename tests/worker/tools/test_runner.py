"""The toolbox: its server, its client, its process."""

import asyncio
import gc
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import ClassVar

import pytest

from tests.worker.support import asynchronous, short_directory, until
from worker.tools.base import Arguments, ErrorClass, Tier, Tool, ToolError, ToolResult, argument
from worker.tools.client import ToolboxClient
from worker.tools.local import LocalToolbox
from worker.tools.registry import TOOLS, by_name
from worker.tools.server import Toolbox
from worker.tools.workplace import Workplace

RSS_LIMIT_KB = 30 * 1024


@dataclass(frozen=True, slots=True)
class EchoArguments(Arguments):
    text: str = argument("What to repeat.")
    times: int = argument("How often.", default=1, ge=1, le=9)

    aliases: ClassVar = {"words": "text"}


@dataclass(frozen=True, slots=True)
class PathArguments(Arguments):
    path: str

    def seconds(self, default: float) -> float:
        return 0.3


def echo(arguments: EchoArguments, workplace: Workplace) -> ToolResult:
    workplace.progress("halfway")
    return ToolResult(ok=True, stdout=arguments.text * arguments.times)


def hang(arguments: PathArguments, workplace: Workplace) -> ToolResult:
    Path(arguments.path).write_text(str(os.getpid()))
    time.sleep(60)
    return ToolResult(ok=True)


def bug(arguments: Arguments, workplace: Workplace) -> ToolResult:
    raise RuntimeError("a bug")


def crash(arguments: Arguments, workplace: Workplace) -> ToolResult:
    os.kill(os.getpid(), signal.SIGKILL)
    return ToolResult(ok=True)


def surrogate(arguments: Arguments, workplace: Workplace) -> ToolResult:
    return ToolResult(ok=True, stdout="\udcff")


def collect(arguments: Arguments, workplace: Workplace) -> ToolResult:
    """Collects garbage beside files of its own, which may have any number that the runner's have."""
    own = [os.open(os.devnull, os.O_RDONLY) for _ in range(200)]
    gc.collect()
    for number in own:
        os.close(number)
    return ToolResult(ok=True)


TEST_TOOLS = by_name(
    [
        Tool("echo", "Repeats.", EchoArguments, echo, Tier.READ),
        Tool("bug", "Breaks.", Arguments, bug, Tier.READ),
        Tool("hang", "Takes its time.", PathArguments, hang, Tier.READ),
        Tool("collect", "Collects garbage.", Arguments, collect, Tier.READ),
        Tool("crash", "Kills itself.", Arguments, crash, Tier.EXEC),
        Tool("surrogate", "Gives what is no text.", Arguments, surrogate, Tier.READ),
    ]
)


@asynccontextmanager
async def toolbox() -> AsyncIterator[ToolboxClient]:
    with short_directory() as directory:
        path, stop = directory / "toolbox.sock", asyncio.Event()
        serving = asyncio.create_task(Toolbox(TEST_TOOLS, Workplace(directory, (directory,))).serve(path, stop))
        await until(path.exists)
        try:
            yield ToolboxClient(str(path), TEST_TOOLS)
        finally:
            stop.set()
            await serving


@asynchronous
async def test_a_call_and_its_result() -> None:
    """A tool runs with its arguments, by either name; ping lists the tools."""
    async with toolbox() as client:
        assert await client.call("echo", {"text": "ab", "times": 2}) == ToolResult(ok=True, stdout="abab")
        assert (await client.call("echo", {"words": "ab"})).stdout == "ab"
        assert (await client.ping())["tools"] == ["bug", "collect", "crash", "echo", "hang", "surrogate"]
        assert next((spec.name, spec.schema["type"]) for spec in client.specs()) == ("echo", "object")


@asynchronous
async def test_progress_comes_before_the_result() -> None:
    """Who wants it is told what a call does while it runs."""
    told: list[str] = []
    async with toolbox() as client:
        assert (await client.call("echo", {"text": "ab"}, told.append)).stdout == "ab"
    assert told == ["halfway"]


@asynchronous
async def test_a_call_keeps_its_files_whatever_garbage_the_runner_has() -> None:
    """A socket in a circle of objects, which the call inherits, closes no file of the call's."""
    async with toolbox() as client:
        garbage: list[object] = [socket.socket() for _ in range(20)]
        garbage.append(garbage)
        gc.disable()
        try:
            del garbage
            assert await client.call("collect", {}) == ToolResult(ok=True)
        finally:
            gc.enable()


@asynchronous
async def test_arguments_are_checked_strictly() -> None:
    """A wrong type, an unknown and a missing argument, one out of range or twice: refused, before anything runs."""
    wrong: list[dict[str, object]] = [
        {"text": 1},
        {"text": "a", "times": "2"},
        {"text": "a", "times": 10},
        {"text": "a", "words": "b"},
        {"text": "a", "colour": "red"},
        {},
    ]
    async with toolbox() as client:
        for arguments in wrong:
            with pytest.raises(ToolError) as caught:
                await client.call("echo", arguments)
            assert (caught.value.code, caught.value.error_class) == ("bad_arguments", ErrorClass.VALIDATION)
        schema = client.schema("echo")
        assert (schema["required"], schema["additionalProperties"]) == (["text"], False)


@asynchronous
async def test_errors_have_codes() -> None:
    """An unknown tool, a tool's bug, one whose process is killed and a toolbox that is away are told apart."""
    async with toolbox() as client:
        for name, code in (("rm", "unknown_tool"), ("crash", "killed")):
            with pytest.raises(ToolError) as caught:
                await client.call(name, {})
            assert caught.value.code == code
        result = await client.call("bug", {})
        assert (result.ok, result.exit_code, result.meta["code"]) == (False, 1, "internal")
        assert result.error_class is ErrorClass.UNKNOWN
        assert (await client.call("surrogate", {})).stdout == "?"
    with pytest.raises(ToolError) as caught:
        await client.ping()
    assert caught.value.code == "toolbox_unavailable"


@asynchronous
async def test_a_call_that_is_given_up_or_too_slow_is_stopped() -> None:
    """Whoever hangs up stops the tool, and so does its time; the toolbox goes on."""
    with short_directory() as directory:
        log = directory / "pid"
        async with toolbox() as client:
            call = asyncio.create_task(client.call("hang", {"path": str(log)}))
            await until(lambda: log.is_file() and log.read_text())
            call.cancel()
            await until(lambda: not Path("/proc", log.read_text()).exists())
            with pytest.raises(ToolError) as caught:
                await client.call("hang", {"path": str(log)})
            assert (caught.value.code, caught.value.error_class) == ("timeout", ErrorClass.TIMEOUT)
            await until(lambda: not Path("/proc", log.read_text()).exists())
            assert (await client.call("echo", {"text": "still here"})).stdout == "still here"


@pytest.mark.parametrize(
    "answer",
    [b"no json\n", b"[]\n", b'{"ok": false}\n', b'{"ok": true, "result": {"ok": "perhaps"}}\n', b'{"progress": 1}\n'],
)
def test_whatever_the_toolbox_answers_is_no_harm(answer: bytes) -> None:
    """What runs in the toolbox may take its socket over: nonsense is told as such."""

    async def nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(answer)
        writer.close()

    @asynchronous
    async def run() -> None:
        with short_directory() as directory:
            path = str(directory / "s")
            async with await asyncio.start_unix_server(nonsense, path):
                with pytest.raises(ToolError) as caught:
                    await ToolboxClient(path, TEST_TOOLS).call("echo", {"text": "a"})
                assert caught.value.code in {"toolbox_ended", "bad_answer"}

    run()


@asynchronous
async def test_alone_the_tools_run_in_a_subprocess() -> None:
    """It starts at the first call, sees no secret, starts again after it was killed, and ends with its starter."""
    local = LocalToolbox(TOOLS, {**os.environ, "OPENAI_API_KEY": "sk-hidden"})
    try:
        with pytest.raises(ToolError):
            await local.call("time", {"zone": "UTC"})
        pids = []
        for _ in range(2):
            assert (await local.call("time", {})).ok
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
    """The living toolboxes below this process, which in a container collects orphans of other tests, too."""
    found = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return [int(pid) for pid in found if b"worker.tools" in _command_line(pid)]


def _command_line(pid: str) -> bytes:
    try:
        return Path("/proc", pid, "cmdline").read_bytes()
    except FileNotFoundError:  # it has ended just now
        return b""


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

    @asynchronous
    async def run() -> None:
        with short_directory() as directory:
            path, stop = directory / "s", asyncio.Event()
            serving = asyncio.create_task(Toolbox(TEST_TOOLS, Workplace(directory, ())).serve(path, stop))
            await until(path.exists)
            reader, writer = await asyncio.open_unix_connection(str(path))
            writer.write(line + b"\n")
            answer = json.loads(await reader.readline())
            writer.close()
            stop.set()
            await serving
        assert (answer["ok"], answer["code"]) == (False, code)

    run()


def test_names_are_used_once() -> None:
    """Two tools of one name stop the start."""
    with pytest.raises(ValueError, match="'time'"):
        by_name([TOOLS["time"], Tool("time", "", Arguments, bug, Tier.READ)])


def test_time_tells_utc() -> None:
    """``time`` tells the present time with its zone."""
    text = TOOLS["time"].run(TOOLS["time"].arguments(), Workplace(Path("/"), ())).stdout
    assert abs(datetime.fromisoformat(text).timestamp() - datetime.now().astimezone().timestamp()) < 5


def eventually(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_the_process_is_small_reaps_orphans_and_ends_on_sigterm() -> None:
    """The toolbox serves from a socket that anyone may connect to, stays under 30 MB, and ends with 0."""
    with short_directory() as directory:
        path = directory / "toolbox.sock"
        environment = {**os.environ, "AUTONOUS_TOOLBOX_SOCKET": str(path)}
        process = subprocess.Popen([sys.executable, "-m", "worker.tools"], env=environment)
        try:
            eventually(lambda: path.exists() and path.stat().st_mode & 0o777 == 0o666)
            assert asyncio.run(ToolboxClient(str(path), TOOLS).call("time", {})).ok
            status = Path(f"/proc/{process.pid}/status").read_text()
            rss = next(line for line in status.splitlines() if line.startswith("VmRSS"))
            assert int(rss.split()[1]) < RSS_LIMIT_KB
            eventually(lambda: not Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text())
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=5) == 0
            assert not path.exists()
        finally:
            process.kill()
            process.wait()


def test_a_bad_setting_stops_the_toolbox() -> None:
    """One line names the value and what is allowed."""
    environment = {**os.environ, "AUTONOUS_TOOL_ALLOWED_ROOTS": "/tmp,here"}
    command = [sys.executable, "-m", "worker.tools"]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert ended.stderr == "toolbox: AUTONOUS_TOOL_ALLOWED_ROOTS=here cannot be used: only absolute paths are\n"
