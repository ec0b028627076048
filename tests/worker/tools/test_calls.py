"""The processes of calls: made though the container is full, spared by each other, and the first to go."""

import asyncio
import errno
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.worker.support import asynchronous, short_directory, until
from worker.tools import processes
from worker.tools.base import Arguments, Tier, Tool, ToolError, ToolResult
from worker.tools.calls import Calls
from worker.tools.workplace import Workplace


def fine(arguments: Arguments, workplace: Workplace) -> ToolResult:
    return ToolResult(ok=True, stdout="fine")


def hang(arguments: Arguments, workplace: Workplace) -> ToolResult:
    (workplace.workspace / "pid").write_text(str(os.getpid()))
    time.sleep(60)
    return ToolResult(ok=True)


FINE = Tool("fine", "Works.", Arguments, fine, Tier.READ)
HANG = Tool("hang", "Takes its time.", Arguments, hang, Tier.READ)


@asynchronous
async def test_a_full_container_is_emptied_of_what_belongs_to_no_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the call is made, as nothing of it was begun; a call under way is spared; in the end it is told as full."""
    refused: list[int] = []
    spared: list[frozenset[int]] = []
    fork = os.fork

    def fails() -> int:
        if refused and refused.pop():
            raise BlockingIOError(errno.EAGAIN, "no more processes")
        return fork()

    monkeypatch.setattr(os, "fork", fails)
    monkeypatch.setattr(processes, "room", lambda: None)
    calls = Calls(make_room=spared.append)
    asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, calls.reap)
    with short_directory() as directory:
        here, log = Workplace(directory, (directory,)), directory / "pid"
        under_way = asyncio.create_task(calls.run(HANG, Arguments(), here))
        await until(lambda: log.is_file() and log.read_text())
        spare = frozenset({int(log.read_text())})
        refused[:] = [1, 1]
        assert (await calls.run(FINE, Arguments(), here))["stdout"] == "fine"
        assert spared == [spare, spare]
        refused[:] = [1, 1, 1]
        with pytest.raises(ToolError, match="no more processes") as caught:
            await calls.run(FINE, Arguments(), here)
        assert caught.value.code == "toolbox_full"
        under_way.cancel()
        await asyncio.wait({under_way})


@pytest.mark.parametrize(
    ("most", "there", "emptied"), [("512", "500", 1), ("512", "100", 0), ("max", "500", 0), (None, "", 0)]
)
def test_a_call_begins_with_room_for_what_it_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: str | None, there: str, emptied: int
) -> None:
    """A container that is nearly full is emptied first; one without a limit, or whose limit nobody tells, is not."""
    for group in (tmp_path / "one", tmp_path / "other" / "pids"):  # cgroup v2, v1
        group.mkdir(parents=True)
        if most is not None:
            (group / "pids.max").write_text(f"{most}\n")
            (group / "pids.current").write_text(f"{there}\n")
    measure = processes.room
    assert measure(tmp_path / "one") == measure(tmp_path / "other")
    monkeypatch.setattr(processes, "room", lambda: measure(tmp_path / "one"))
    spared: list[frozenset[int]] = []

    @asynchronous
    async def run() -> None:
        calls = Calls(make_room=spared.append)
        asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, calls.reap)
        assert (await calls.run(FINE, Arguments(), Workplace(tmp_path, ())))["ok"]

    run()
    assert len(spared) == emptied


@asynchronous
async def test_a_call_that_could_start_nothing_is_made_again_once_there_is_room(tmp_path: Path) -> None:
    """What a tool in its own process meets is no different from what the runner meets."""
    room = tmp_path / "room"

    def spawn(arguments: Arguments, workplace: Workplace) -> ToolResult:
        if not room.exists():
            raise ToolError("toolbox_full", "no process can be started now")
        return ToolResult(ok=True, stdout="started")

    calls = Calls(make_room=lambda _: room.touch())
    asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, calls.reap)
    result = await calls.run(Tool("spawn", "", Arguments, spawn, Tier.EXEC), Arguments(), Workplace(tmp_path, ()))
    assert result["stdout"] == "started"


def test_what_is_spared_stays_and_all_else_ends() -> None:
    """With everything below it."""
    process = subprocess.Popen(["sh", "-c", "(sleep 60 & wait) & sleep 60 & wait"])
    try:
        asyncio.run(until(lambda: len(processes.descendants(process.pid)) == 3))
        spared = next(pid for pid in processes.descendants(process.pid) if processes.descendants(pid))
        processes.kill_below(process.pid, spare={spared})
        assert set(processes.descendants(process.pid)) == {spared, *processes.descendants(spared)}
        assert len(processes.descendants(spared)) == 1
    finally:
        processes.kill_below(process.pid)
        process.kill()
        process.wait()


@asynchronous
async def test_a_call_ends_before_its_runner_when_memory_runs_out(tmp_path: Path) -> None:
    """So the toolbox outlives what a command does."""

    def score(arguments: Arguments, workplace: Workplace) -> ToolResult:
        return ToolResult(ok=True, stdout=Path("/proc/self/oom_score_adj").read_text())

    calls = Calls()
    asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, calls.reap)
    result = await calls.run(Tool("score", "", Arguments, score, Tier.READ), Arguments(), Workplace(tmp_path, ()))
    assert result["stdout"] == "1000\n"
