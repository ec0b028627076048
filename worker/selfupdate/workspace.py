"""The working copies of the worker's own source, through the toolbox: only bytes come from there."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from worker.tools.base import ErrorClass, ToolError, ToolResult


class Operations(Protocol):
    """What the toolbox does for the worker itself."""

    async def call(self, name: str, arguments: Mapping[str, object]) -> ToolResult:
        """Run an operation. Raises ToolError."""


@dataclass(frozen=True, slots=True)
class Copy:
    """A working copy: where it is in the toolbox, and how it came to be; ``state`` as ``checkout`` gives it."""

    path: str
    state: str
    changed: bool


class Workspace:
    """The copies of all chats. ``sha`` is the revision that runs here."""

    def __init__(self, operations: Operations, sha: str) -> None:
        self._operations = operations
        self._sha = sha

    async def check_out(self, chat_id: int, *, fresh: bool) -> Copy:
        """See that the chat has a copy of this revision, without what was done in it if ``fresh``. Raises ToolError."""
        arguments: dict[str, object] = {"chat_id": chat_id, "base": self._sha, "fresh": fresh}
        result = _succeeded(await self._operations.call("checkout", arguments))
        return Copy(result.stdout, str(result.meta.get("state")), result.meta.get("changed") is True)

    async def patch(self, chat_id: int) -> str:
        """What the chat's copy has become, as a git patch on this revision. Raises ToolError."""
        return _succeeded(await self._operations.call("diff", {"chat_id": chat_id})).stdout


def _succeeded(result: ToolResult) -> ToolResult:
    if not result.ok:
        error_class = result.error_class or ErrorClass.UNKNOWN
        raise ToolError(str(result.meta.get("code", "failed")), result.stderr, error_class)
    return result
