"""Each call runs in a process of its own, a fork of the runner: it may hang, grow or be killed, the runner stays.

The process writes lines of JSON to a pipe: ``{"progress": text}`` any number of times, then ``{"result": {…}}``.
"""

import asyncio
import gc
import json
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, NoReturn

from worker.tools import processes, wire
from worker.tools.base import MESSAGE_LIMIT, Arguments, ErrorClass, Tool, ToolError, ToolResult
from worker.tools.workplace import Workplace

_FULL: Final = "toolbox_full"
#: How long a call that is stopped may take to end what it has started.
STOP_SECONDS: Final = 4.0
#: The number of the pipe in the call's process, the first after the standard ones.
_PIPE: Final = 3
#: How often a call that no process could be started for is tried, and how long each time what ended is waited for.
_TRIES: Final = 3
_ROOM_SECONDS: Final = 0.1
#: With room for fewer processes no call is begun before what belongs to none has been ended.
_LEAST_ROOM: Final = 32
#: How long an answer waits for the end of the process that gave it.
_EXIT_SECONDS: Final = 1.0
_HANDLED: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)

#: Ends all processes but those of the calls under way, and what is below them.
MakeRoom = Callable[[frozenset[int]], None]
#: Is given the end of a call's output so far.
OnProgress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class _Process:
    """A call's process: the pipe to read its lines from, and how it ended, once it has."""

    pid: int
    output: int
    end: "asyncio.Future[int]"

    def signal(self, signum: int) -> None:
        """Send a signal, unless it has ended: its number may be another's then."""
        if not self.end.done():
            os.kill(self.pid, signum)


class Calls:
    """The calls under way. Its owner calls ``reap`` whenever a child has ended.

    With ``adopts`` every child is collected, orphans too, as process 1 of a container has to; and what belongs to no
    call under way is ended, by ``make_room``, when there are too many processes to start another.
    """

    def __init__(self, *, adopts: bool = False, make_room: MakeRoom | None = None) -> None:
        self._adopts = adopts
        self._make_room = make_room or (_end_all_but if adopts else None)
        self._ends: dict[int, asyncio.Future[int]] = {}

    def reap(self) -> None:
        """Collect ended processes."""
        for whom in (-1,) if self._adopts else tuple(self._ends):
            with suppress(ChildProcessError):
                while (ended := os.waitpid(whom, os.WNOHANG)) != (0, 0):
                    pid, status = ended
                    end = self._ends.pop(pid, None)
                    if end is not None:
                        end.set_result(os.waitstatus_to_exitcode(status))

    async def close(self) -> None:
        """Stop all calls under way."""
        for pid in self._ends:
            os.kill(pid, signal.SIGTERM)
        if self._ends:
            await asyncio.wait(self._ends.values(), timeout=STOP_SECONDS)

    async def run(
        self, tool: Tool, arguments: Arguments, workplace: Workplace, on_progress: OnProgress | None = None
    ) -> dict[str, object]:
        """The envelope of one call. Raises ToolError when the call comes to none; cancelled, it stops the call."""
        if self._make_room is not None and (room := processes.room()) is not None and room < _LEAST_ROOM:
            await self._empty(self._make_room)  # or the call begins, and what it starts cannot
        for _ in range(_TRIES - 1):
            try:
                return await self._run(tool, arguments, workplace, on_progress)
            except ToolError as error:
                if error.code != _FULL or self._make_room is None:
                    raise
            await self._empty(self._make_room)  # nothing of the call was begun
        return await self._run(tool, arguments, workplace, on_progress)

    async def _empty(self, make_room: MakeRoom) -> None:
        make_room(frozenset(self._ends))
        await asyncio.sleep(_ROOM_SECONDS)
        self.reap()

    async def _run(
        self, tool: Tool, arguments: Arguments, workplace: Workplace, on_progress: OnProgress | None
    ) -> dict[str, object]:
        process = self._start(tool, arguments, workplace, streams=on_progress is not None)
        seconds = arguments.seconds(workplace.timeout_seconds)
        try:
            async with asyncio.timeout(seconds + tool.grace_seconds):
                result = await _result(process.output, on_progress)
        except BaseException as error:
            await _stop(process)
            if isinstance(error, TimeoutError):
                reason = f"stopped after {seconds:g} s without a result: ask for less, or for a smaller part"
                raise ToolError("timeout", reason, ErrorClass.TIMEOUT) from None
            raise
        if result is None:
            code = await process.end
            how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
            raise ToolError("killed", f"the process of this call {how} before it had a result")
        # What the call has left below it is collected with it: until then it takes room from the next one.
        await asyncio.wait({process.end}, timeout=_EXIT_SECONDS)
        if not result["ok"] and result["meta"].get("code") == _FULL:
            raise ToolError(_FULL, result["stderr"])
        return result

    def _start(self, tool: Tool, arguments: Arguments, workplace: Workplace, *, streams: bool) -> _Process:
        output, pipe = os.pipe()
        # Until the new process has its own handlers, a signal to it would look like one to the runner.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _HANDLED)
        try:
            pid = os.fork()
            if pid == 0:
                _work(tool, arguments, workplace, pipe, streams=streams)
            end = self._ends[pid] = asyncio.get_running_loop().create_future()
        except OSError as error:
            os.close(output)
            raise ToolError(_FULL, f"no process can be started now: {error.strerror}") from error
        finally:
            os.close(pipe)
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return _Process(pid, output, end)


def _end_all_but(calls: frozenset[int]) -> None:
    processes.kill_below(os.getpid(), spare=calls)


async def _result(output: int, on_progress: OnProgress | None) -> dict[str, Any] | None:
    """The result from the pipe, None when the pipe ends without one."""
    reader = asyncio.StreamReader(limit=MESSAGE_LIMIT)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(output, "rb", buffering=0)
    )
    try:
        while line := await reader.readline():
            message = json.loads(line)
            if "result" in message:
                result: dict[str, Any] = message["result"]
                return result
            if on_progress is not None:
                on_progress(message["progress"])
        return None
    finally:
        transport.close()


async def _stop(process: _Process) -> None:
    """End a call: it gets a moment to end what it has started, and then nothing below it stays."""
    process.signal(signal.SIGTERM)
    await asyncio.wait({process.end}, timeout=STOP_SECONDS)
    if not process.end.done():
        processes.kill_below(process.pid)
        process.signal(signal.SIGKILL)  # and never waited for: one that hangs in the kernel does not hear even that


def _work(tool: Tool, arguments: Arguments, workplace: Workplace, pipe: int, *, streams: bool) -> NoReturn:
    """The whole life of a call's process."""
    code = 1
    try:
        gc.freeze()  # else a collection closes the runner's descriptors by their numbers, which are others' here
        processes.end_first_when_memory_runs_out()
        signal.set_wakeup_fd(-1)
        for signum in _HANDLED:
            signal.signal(signum, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _HANDLED)
        os.dup2(pipe, _PIPE)
        _close_all_above(_PIPE)  # sockets and pipes of the runner
        if streams:
            workplace = replace(workplace, progress=lambda tail: _write({"progress": tail}))
        _write({"result": wire.plain(perform(tool, arguments, workplace))})
        code = 0
    finally:
        os._exit(code)


def _close_all_above(last: int) -> None:
    for entry in list(Path("/proc/self/fd").iterdir()):
        if int(entry.name) > last:
            with suppress(OSError):
                os.close(int(entry.name))


def _write(message: dict[str, object]) -> None:
    data = memoryview(wire.line(message))
    while data:
        data = data[os.write(_PIPE, data) :]


def perform(tool: Tool, arguments: Arguments, workplace: Workplace) -> ToolResult:
    """Run a tool in this process; what it raises is a result, too."""
    try:
        return tool.run(arguments, workplace)
    except ToolError as error:
        return error.result(exit_code=1)
    except Exception as error:  # a tool's bug is a result, and must not look like a crash
        reason = f"the tool has a bug: {type(error).__name__}: {error}"
        return ToolError("internal", reason, ErrorClass.UNKNOWN).result(exit_code=1)
