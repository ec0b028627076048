"""The toolbox's server: one JSON object a line, one answer for each, over a Unix socket.

    {"op": "ping"}                                        -> {"ok": true, "result": {"version": …, "tools": […]}}
    {"op": "call", "tool": "time", "arguments": {…}}      -> {"ok": true, "result": {…}}
                                                          or {"ok": false, "code": …, "reason": …}

Calls on one connection are answered in order; different connections are served side by side. When the one who asked
hangs up, what runs for it is cancelled.
"""

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from worker import __version__
from worker.tools.base import MESSAGE_LIMIT, Tool, ToolError


class Toolbox:
    """Serves ``tools``."""

    def __init__(self, tools: Mapping[str, Tool]) -> None:
        self._tools = tools

    async def serve(self, path: Path, stop: asyncio.Event) -> None:
        """Listen on a Unix socket at ``path`` until ``stop`` is set. Raises OSError when it cannot be made."""
        with _listener(path) as listener:
            server = await asyncio.start_unix_server(self._converse, sock=listener, limit=MESSAGE_LIMIT)
            await stop.wait()
            server.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        coming = asyncio.create_task(_read_line(reader))
        with suppress(ConnectionError):
            while line := await coming:
                # The next line is waited for meanwhile: its end tells that nobody wants the answer any more.
                coming = asyncio.create_task(_read_line(reader))
                answer = await self._answer_unless_gone(line, coming)
                if answer is None:
                    break
                writer.write(json.dumps(answer, separators=(",", ":")).encode() + b"\n")
                await writer.drain()
        coming.cancel()
        writer.close()

    async def _answer_unless_gone(self, line: bytes, coming: asyncio.Task[bytes]) -> dict[str, object] | None:
        answer = asyncio.create_task(self.answer(line))
        await asyncio.wait({answer, coming}, return_when=asyncio.FIRST_COMPLETED)
        if not answer.done() and not coming.result():
            answer.cancel()
            await asyncio.wait({answer})
            return None
        return await answer

    async def answer(self, line: bytes) -> dict[str, object]:
        """The answer to one request."""
        try:
            return {"ok": True, "result": await self._result(line)}
        except ToolError as error:
            return {"ok": False, "code": error.code, "reason": str(error)}
        except Exception as error:  # a tool's bug is an answer too, and must not end the toolbox
            return {"ok": False, "code": "internal", "reason": f"{type(error).__name__}: {error}"}

    async def _result(self, line: bytes) -> dict[str, object]:
        try:
            request = json.loads(line)
        except ValueError as error:
            raise ToolError("bad_request", f"not a JSON object: {error}") from error
        match request:
            case {"op": "ping"}:
                return {"version": __version__, "tools": sorted(self._tools)}
            case {"op": "call", "tool": str(name), "arguments": dict(arguments)}:
                return await self._call(name, arguments)
            case _:
                raise ToolError("bad_request", 'op must be "ping", or "call" with a tool and its arguments')

    async def _call(self, name: str, arguments: dict[str, object]) -> dict[str, object]:
        tool = self._tools.get(name)
        if tool is None:
            raise ToolError("unknown_tool", f"there is no tool {name!r}, only {', '.join(sorted(self._tools))}")
        try:
            checked = tool.arguments(**arguments)
        except TypeError as error:
            raise ToolError("bad_arguments", str(error)) from error
        return await tool.run(checked)


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


async def _read_line(reader: asyncio.StreamReader) -> bytes:
    """The next line, nothing at the end or when the line is too long."""
    try:
        return await reader.readline()
    except (ValueError, ConnectionError):
        return b""


def reap() -> None:
    """Collect ended processes, as process 1 of a container has to for every orphan."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            pass


async def run(path: Path, tools: Mapping[str, Tool], *, until_input_ends: bool = False) -> int:
    """Serve until SIGTERM or SIGINT, or until the standard input ends; gives the exit code."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    if until_input_ends:
        loop.add_reader(sys.stdin, stop.set)  # nothing is ever written there
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_signal_handler(signal.SIGINT, stop.set)
    loop.add_signal_handler(signal.SIGCHLD, reap)
    try:
        await Toolbox(tools).serve(path, stop)
    except OSError as error:
        sys.stderr.write(f"toolbox: AUTONOUS_TOOLBOX_SOCKET={path} cannot be served: {error}\n")
        return 2
    return 0
