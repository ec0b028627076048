"""What a tool is, what it takes and what it gives."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, ClassVar, Final

from worker.tools.workplace import Workplace


class Tier(StrEnum):
    """What a call risks. The policy allows, asks for or denies whole tiers."""

    READ = "read"
    WRITE = "write"
    EXEC = "exec"
    NETWORK = "network"


class ErrorClass(StrEnum):
    """What went wrong with a call, as events say it."""

    VALIDATION = "validation"
    POLICY = "policy"
    TIMEOUT = "timeout"
    TOOL_EXEC = "tool_exec"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Arguments:
    """Base of every tool's arguments: plain data classes, which the worker's client checks strictly with pydantic.

    A field's metadata holds pydantic's keywords (``description``, ``ge``, ``validation_alias``, ...), see ``argument``.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid", "strict": True}

    #: Other names under which arguments are taken.
    aliases: ClassVar[dict[str, str]] = {}

    def seconds(self, default: float) -> float:
        """How long the call may take."""
        return default


def argument(description: str, default: Any = ..., **more: object) -> Any:
    """A field of arguments: what the model is told of it, and what pydantic is to check beside the type."""
    metadata = {"description": description, **more}
    return field(metadata=metadata) if default is ... else field(default=default, metadata=metadata)


@dataclass(frozen=True, slots=True)
class ToolResult:
    """The one envelope of all tools: what the model is given for a call, whatever came of it.

    ``exit_code`` is None when nothing ran. ``truncated_lines`` and ``truncated_bytes`` say which limit cut the output;
    ``next_page_cursor`` gets the next page. ``meta`` holds what else is worth knowing, as JSON; of a failure also
    ``code``, one word, and ``error_class``.
    """

    ok: bool
    exit_code: int | None = 0
    stdout: str = ""
    stderr: str = ""
    truncated_lines: bool = False
    truncated_bytes: bool = False
    next_page_cursor: str | None = None
    meta: dict[str, object] = field(default_factory=dict)

    @property
    def error_class(self) -> ErrorClass | None:
        """What kind of failure it is; None of a success."""
        if self.ok:
            return None
        said = self.meta.get("error_class")
        return next((known for known in ErrorClass if known == said), ErrorClass.UNKNOWN)


class ToolError(Exception):
    """A tool could not do what it was asked; the message is for the model. ``code`` is one word."""

    def __init__(self, code: str, message: str, error_class: ErrorClass = ErrorClass.TOOL_EXEC) -> None:
        super().__init__(message)
        self.code = code
        self.error_class = error_class

    def result(self, exit_code: int | None = None) -> ToolResult:
        """The envelope that tells it."""
        meta: dict[str, object] = {"code": self.code, "error_class": self.error_class.value}
        return ToolResult(ok=False, exit_code=exit_code, stderr=str(self), meta=meta)


@dataclass(frozen=True, slots=True)
class Tool:
    """One tool: what the model is told of it, what it takes and risks, and what it does.

    ``run`` works in a process of its own that may be killed at any time; it gives a result, or raises ToolError. A tool
    that keeps the time by itself has ``grace_seconds`` more to end what it has started and to tell what it has so far.
    """

    name: str
    description: str
    arguments: type[Arguments]
    run: Callable[[Any, Workplace], ToolResult]
    tier: Tier
    grace_seconds: float = 0.0


def find_tool(tools: Mapping[str, Tool], name: str) -> Tool:
    """The tool of that name. Raises ToolError."""
    tool = tools.get(name)
    if tool is None:
        reason = f"there is no tool {name!r}: there are {', '.join(sorted(tools))}"
        raise ToolError("unknown_tool", reason, ErrorClass.VALIDATION)
    return tool


#: No message between the worker and the toolbox is longer, in bytes.
MESSAGE_LIMIT: Final = 16 * 1024 * 1024

#: Where the toolbox of a container serves.
DEFAULT_SOCKET: Final = "/run/toolbox/toolbox.sock"

#: The option that ties a toolbox to the process that started it.
UNTIL_INPUT_ENDS: Final = "--until-input-ends"
