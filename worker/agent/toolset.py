"""What the model can call: the toolbox's tools, and the worker's own, which know who asks."""

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from pydantic import TypeAdapter, ValidationError

from worker.agent.journal import Attempt
from worker.agent.scope import CallScope
from worker.models.base import ToolSpec
from worker.tools.base import Arguments, ErrorClass, ToolError, ToolResult


class Toolbox(Protocol):
    """Where tools run."""

    def specs(self) -> Sequence[ToolSpec]:
        """The tools there are."""

    async def call(self, name: str, arguments: Mapping[str, object], scope: CallScope) -> ToolResult:
        """Run a tool, if it may run; cancelled, it stops the tool. Raises ToolError."""


@dataclass(frozen=True, slots=True)
class OwnTool:
    """A tool of the worker itself. ``run`` is given its arguments and the run that asks; it may raise ToolError."""

    name: str
    description: str
    arguments: type[Arguments]
    run: Callable[[Any, Attempt], Awaitable[ToolResult]]


class Toolset:
    """All of them under one roof."""

    def __init__(self, toolbox: Toolbox, own: Sequence[OwnTool] = ()) -> None:
        self._toolbox = toolbox
        self._own = {tool.name: (tool, TypeAdapter(tool.arguments)) for tool in own}
        self._own_specs = tuple(
            ToolSpec(tool.name, tool.description, adapter.json_schema()) for tool, adapter in self._own.values()
        )

    def specs(self) -> Sequence[ToolSpec]:
        """The tools there are."""
        return (*self._toolbox.specs(), *self._own_specs)

    async def call(self, name: str, arguments: Mapping[str, object], attempt: Attempt, scope: CallScope) -> ToolResult:
        """Run a tool; cancelled, it stops the tool. Raises ToolError."""
        if name not in self._own:
            return await self._toolbox.call(name, arguments, scope)
        tool, adapter = self._own[name]
        try:
            checked = adapter.validate_json(json.dumps(arguments))
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(map(str, first["loc"]))
            raise ToolError("bad_arguments", f"{where}: {first['msg']}", ErrorClass.VALIDATION) from error
        return await tool.run(checked, attempt)
