"""The worker's side of the toolbox.

A call that is cancelled hangs up, and with that the toolbox stops the tool.
"""

import asyncio
import functools
import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from worker.models.base import ToolSpec
from worker.tools import wire
from worker.tools.base import MESSAGE_LIMIT, ErrorClass, Tool, ToolError, ToolResult, find_tool
from worker.tools.calls import OnProgress

_RESULT: Final = TypeAdapter(ToolResult)

#: Which of the toolboxes that follow each other at one socket it is.
Identity = tuple[int, int]


@functools.cache
def _adapter(tool: Tool) -> TypeAdapter[object]:
    return TypeAdapter(tool.arguments)


@functools.cache
def _schema(tool: Tool) -> dict[str, object]:
    return _adapter(tool).json_schema()


class ToolboxClient:
    """Calls tools. ``socket`` is the toolbox's, ``tools`` are the ones it is known to have."""

    def __init__(self, socket: str, tools: Mapping[str, Tool]) -> None:
        self._socket = socket
        self._tools = tools
        self._specs = tuple(ToolSpec(name, tool.description, self.schema(name)) for name, tool in tools.items())

    def identity(self) -> Identity | None:
        """What tells the socket of one toolbox from that of the next; None when there is none."""
        try:
            seen = Path(self._socket).stat()
        except OSError:
            return None
        return seen.st_ino, seen.st_ctime_ns  # the number alone may be given again

    async def ping(self) -> dict[str, object]:
        """The toolbox's version and the names of its tools. Raises ToolError."""
        return await self._ask({"op": "ping"})

    def specs(self) -> tuple[ToolSpec, ...]:
        """The tools, as a model is told of them."""
        return self._specs

    def schema(self, name: str) -> dict[str, object]:
        """The JSON schema of a tool's arguments."""
        return _schema(self._tools[name])

    async def call(
        self, name: str, arguments: Mapping[str, object], on_progress: OnProgress | None = None
    ) -> ToolResult:
        """Check the arguments and run the tool. Raises ToolError, also when the toolbox cannot be reached.

        ``on_progress`` is given the end of the tool's output, again and again while it runs.
        """
        checked = self.checked(name, arguments)
        request = {"op": "call", "tool": name, "arguments": checked, "stream": on_progress is not None}
        try:
            return _RESULT.validate_python(await self._ask(request, on_progress))
        except ValidationError as error:
            raise ToolError("bad_answer", f"the toolbox's answer is no result: {_first(error)}") from error

    def checked(self, name: str, arguments: Mapping[str, object]) -> dict[str, object]:
        """The arguments by their proper names. Raises ToolError when they, or the tool, do not fit."""
        tool = find_tool(self._tools, name)
        named: dict[str, object] = {}
        for given, value in arguments.items():
            proper = tool.arguments.aliases.get(given, given)
            if proper in named:
                raise ToolError("bad_arguments", f"{proper} and its other name are both given", ErrorClass.VALIDATION)
            named[proper] = value
        try:
            _adapter(tool).validate_json(json.dumps(named))
        except ValidationError as error:
            takes = ", ".join(f.name for f in fields(tool.arguments)) or "nothing"
            reason = f"{_first(error)} ({name} takes: {takes})"
            raise ToolError("bad_arguments", reason, ErrorClass.VALIDATION) from error
        return named

    async def close(self) -> None:
        """Nothing to free: each call has its own connection."""

    async def _ask(self, request: dict[str, object], on_progress: OnProgress | None = None) -> dict[str, object]:
        try:
            reader, writer = await asyncio.open_unix_connection(self._socket, limit=MESSAGE_LIMIT)
        except OSError as error:
            raise ToolError("toolbox_unavailable", f"the toolbox cannot be reached: {error}") from error
        begun = False
        try:
            writer.write(wire.line(request))
            while "ok" not in (answer := _answer(await reader.readline(), begun=begun)):
                begun = True
                if "progress" in answer and on_progress is not None:
                    on_progress(str(answer["progress"]))
            if not answer["ok"]:
                raise ToolError(answer["code"], answer["reason"], ErrorClass(answer["error_class"]))
            result: dict[str, object] = answer["result"]
        except ConnectionError as error:
            raise _ended(begun=begun) from error
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ToolError("bad_answer", f"the toolbox gives no answer that can be read: {error}") from error
        finally:
            writer.close()
        return result


def _answer(line: bytes, *, begun: bool) -> dict[str, Any]:
    if not line:
        raise _ended(begun=begun)
    answer: dict[str, Any] = json.loads(line)
    return answer


def _ended(*, begun: bool) -> ToolError:
    if not begun:
        return ToolError("toolbox_unavailable", "the toolbox ended before it began this call")
    reason = (
        "the toolbox ended while this call was under way: it ran out of memory or was ended by something in it. "
        "Another one is being started; what the call has done to files is done"
    )
    return ToolError("toolbox_ended", reason)


def _first(error: ValidationError) -> str:
    """The first thing that is wrong, in one line."""
    first = error.errors(include_url=False)[0]
    where = ".".join(map(str, first["loc"]))
    return f"{where}: {first['msg']}" if where else str(first["msg"])
