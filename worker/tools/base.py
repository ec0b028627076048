"""What a tool is."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Final


@dataclass(frozen=True, slots=True)
class Arguments:
    """Base of every tool's arguments: plain data classes, which the worker's client checks strictly with pydantic."""

    __pydantic_config__: ClassVar = {"extra": "forbid", "strict": True}


@dataclass(frozen=True, slots=True)
class Tool:
    """One tool: what the model is told of it, what it takes, and what it does.

    ``run`` gives a result that JSON can hold, or raises ToolError.
    """

    name: str
    description: str
    arguments: type[Arguments]
    run: Callable[[Any], Awaitable[dict[str, object]]]


class ToolError(Exception):
    """A tool could not do what it was asked; the message is for the model. ``code`` is one word."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


#: No message between the worker and the toolbox is longer, in bytes.
MESSAGE_LIMIT: Final = 16 * 1024 * 1024

#: Where the toolbox of a container serves.
DEFAULT_SOCKET: Final = "/run/toolbox/toolbox.sock"

#: The option that ties a toolbox to the process that started it.
UNTIL_INPUT_ENDS: Final = "--until-input-ends"
