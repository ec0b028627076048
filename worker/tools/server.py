"""The toolbox's server: one JSON object a line, one answer for each, over a Unix socket.

    {"op": "ping"}                                        -> {"ok": true, "result": {"version": …, "tools": […]}}
    {"op": "call", "tool": "time", "arguments": {…}}      -> {"ok": true, "result": {…}}, the envelope of all tools

A request that comes to no envelope is answered ``{"ok": false, "code": …, "reason": …, "error_class": …}``. With
``"stream": true`` in a call, lines ``{"progress": "…"}`` may come before the answer: the end of the output so far.
Before anything of a call is begun, ``{"begun": true}`` is sent: who has not seen it can make the call again.

Calls on one connection are answered in order; different connections are served side by side. When the one who asked
hangs up, what runs for it is cancelled.
"""

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from worker import __version__
from worker.tools import processes, wire
from worker.tools.base import MESSAGE_LIMIT, ErrorClass, Tool, ToolError, find_tool
from worker.tools.calls import Calls, OnProgress
from worker.tools.space import FreeSpace
from worker.tools.workplace import Workplace

#: Sends a line ahead of the answer.
Say = Callable[[Mapping[str, object]], None]


class Toolbox:
    """Serves ``tools`` in a ``workplace``. With ``adopts`` every ended child of this process is collected."""

    def __init__(self, tools: Mapping[str, Tool], workplace: Workplace, *, adopts: bool = False) -> None:
        self._tools = tools
        self._workplace = workplace
        self._calls = Calls(adopts=adopts)
        self._space = FreeSpace(workplace)
        self._at_rest = asyncio.Event()
        self._at_rest.set()
        self._answering = 0

    async def serve(self, path: Path, stop: asyncio.Event, drain: asyncio.Event | None = None) -> None:
        """Listen on a Unix socket at ``path`` until ``stop`` is set. Raises OSError when it cannot be made.

        Once ``drain`` is set nobody is let in any more, and it ends when the calls in hand have their answers.
        """
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGCHLD, self._calls.reap)
        try:
            with _listener(path) as listener:
                server = await asyncio.start_unix_server(self._converse, sock=listener, limit=MESSAGE_LIMIT)
                await _either(stop, drain or stop)
                server.close()
                await _either(stop, self._at_rest)
                await self._calls.close()
        finally:
            loop.remove_signal_handler(signal.SIGCHLD)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        coming = asyncio.create_task(_read_line(reader))
        with suppress(ConnectionError):
            while line := await coming:
                # The next line is waited for meanwhile: its end tells that nobody wants the answer any more.
                coming = asyncio.create_task(_read_line(reader))
                with self._in_hand():
                    answer = await self._answer_unless_gone(line, coming, writer)
                    if answer is None:
                        break
                    writer.write(wire.line(answer))
                    await writer.drain()
        coming.cancel()
        writer.close()

    @contextmanager
    def _in_hand(self) -> Iterator[None]:
        self._answering += 1
        self._at_rest.clear()
        try:
            yield
        finally:
            self._answering -= 1
            if not self._answering:
                self._at_rest.set()

    async def _answer_unless_gone(
        self, line: bytes, coming: asyncio.Task[bytes], writer: asyncio.StreamWriter
    ) -> dict[str, object] | None:
        answer = asyncio.create_task(self._answer(line, lambda message: writer.write(wire.line(message))))
        await asyncio.wait({answer, coming}, return_when=asyncio.FIRST_COMPLETED)
        if not answer.done() and not coming.result():
            answer.cancel()
            await asyncio.wait({answer})
            return None
        return await answer

    async def _answer(self, line: bytes, say: Say) -> dict[str, object]:
        try:
            return {"ok": True, "result": await self._result(line, say)}
        except ToolError as error:
            return {"ok": False, "code": error.code, "reason": str(error), "error_class": error.error_class}
        except Exception as error:  # nothing that is asked may end the toolbox
            reason = f"{type(error).__name__}: {error}"
            return {"ok": False, "code": "internal", "reason": reason, "error_class": ErrorClass.UNKNOWN}

    async def _result(self, line: bytes, say: Say) -> dict[str, object]:
        try:
            request = json.loads(line)
        except ValueError as error:
            raise ToolError("bad_request", f"not a JSON object: {error}", ErrorClass.VALIDATION) from error
        match request:
            case {"op": "ping"}:
                return {"version": __version__, "tools": sorted(self._tools)}
            case {"op": "call", "tool": str(name), "arguments": dict(arguments)}:
                return await self._call(name, arguments, say, streams=request.get("stream") is True)
            case _:
                reason = 'op must be "ping", or "call" with a tool and its arguments'
                raise ToolError("bad_request", reason, ErrorClass.VALIDATION)

    async def _call(self, name: str, arguments: dict[str, object], say: Say, *, streams: bool) -> dict[str, object]:
        tool = find_tool(self._tools, name)
        try:
            checked = tool.arguments(**arguments)
        except TypeError as error:
            raise ToolError("bad_arguments", str(error), ErrorClass.VALIDATION) from error
        say({"begun": True})
        on_progress: OnProgress | None = (lambda tail: say({"progress": tail})) if streams else None
        return await self._space.guard(tool, self._calls.run(tool, checked, self._workplace, on_progress))


@contextmanager
def _listener(path: Path) -> Iterator[socket.socket]:
    """A Unix socket at ``path``. Who reaches its directory may connect: the worker may be another user."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    try:
        listener.bind(str(path))
        path.chmod(0o666)
        yield listener
    finally:
        listener.close()
        path.unlink(missing_ok=True)


async def _either(one: asyncio.Event, other: asyncio.Event) -> None:
    """Until one of them is set."""
    waits = [asyncio.create_task(event.wait()) for event in (one, other)]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()


async def _read_line(reader: asyncio.StreamReader) -> bytes:
    """The next line, nothing at the end or when the line is too long."""
    try:
        return await reader.readline()
    except (ValueError, ConnectionError):
        return b""


async def run(path: Path, tools: Mapping[str, Tool], workplace: Workplace, *, until_input_ends: bool = False) -> int:
    """Serve until SIGTERM or SIGINT, or until the standard input ends; gives the exit code.

    On SIGUSR1 the calls in hand are finished first.
    """
    processes.adopt_orphans()
    stop, drain = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    if until_input_ends:
        loop.add_reader(sys.stdin, stop.set)  # nothing is ever written there
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_signal_handler(signal.SIGINT, stop.set)
    loop.add_signal_handler(signal.SIGUSR1, drain.set)
    try:
        await Toolbox(tools, workplace, adopts=True).serve(path, stop, drain)
    except OSError as error:
        sys.stderr.write(f"toolbox: AUTONOUS_TOOLBOX_SOCKET={path} cannot be served: {error}\n")
        return 2
    finally:
        processes.kill_below(os.getpid())
    return 0
