"""The worker's side of the toolbox.

A call that is cancelled hangs up, and with that the toolbox stops the tool.
"""

import asyncio
import json
from collections.abc import Mapping

from pydantic import TypeAdapter, ValidationError

from worker.models.base import ToolSpec
from worker.tools.base import MESSAGE_LIMIT, Tool, ToolError


class ToolboxClient:
    """Calls tools. ``socket`` is the toolbox's, ``tools`` are the ones it is known to have."""

    def __init__(self, socket: str, tools: Mapping[str, Tool]) -> None:
        self._socket = socket
        self._adapters = {name: TypeAdapter(tool.arguments) for name, tool in tools.items()}
        self._specs = tuple(ToolSpec(name, tool.description, self.schema(name)) for name, tool in tools.items())

    async def ping(self) -> dict[str, object]:
        """The toolbox's version and the names of its tools. Raises ToolError."""
        return await self._ask({"op": "ping"})

    def specs(self) -> tuple[ToolSpec, ...]:
        """The tools, as a model is told of them."""
        return self._specs

    def schema(self, name: str) -> dict[str, object]:
        """The JSON schema of a tool's arguments."""
        return self._adapters[name].json_schema()

    async def call(self, name: str, arguments: Mapping[str, object]) -> dict[str, object]:
        """Check the arguments and run the tool. Raises ToolError, also when the toolbox cannot be reached."""
        self.check(name, arguments)
        return await self._ask({"op": "call", "tool": name, "arguments": dict(arguments)})

    def check(self, name: str, arguments: Mapping[str, object]) -> None:
        """Whether there is such a tool, and takes such arguments. Raises ToolError when not."""
        adapter = self._adapters.get(name)
        if adapter is None:
            raise ToolError("unknown_tool", f"there is no tool {name!r}, only {', '.join(sorted(self._adapters))}")
        try:
            adapter.validate_json(json.dumps(arguments))
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(map(str, first["loc"]))
            raise ToolError("bad_arguments", f"{where}: {first['msg']}") from error

    async def close(self) -> None:
        """Nothing to free: each call has its own connection."""

    async def _ask(self, request: dict[str, object]) -> dict[str, object]:
        try:
            reader, writer = await asyncio.open_unix_connection(self._socket, limit=MESSAGE_LIMIT)
            try:
                writer.write(json.dumps(request, separators=(",", ":")).encode() + b"\n")
                answer = json.loads(await reader.readline())
            finally:
                writer.close()
        except (OSError, ValueError) as error:
            raise ToolError("toolbox_unavailable", f"the toolbox does not answer: {error}") from error
        if not answer["ok"]:
            raise ToolError(answer["code"], answer["reason"])
        result: dict[str, object] = answer["result"]
        return result
