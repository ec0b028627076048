"""What the agent knows of a model: messages in, a completion out, whoever provides it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Protocol


class Speaker(StrEnum):
    """Who says a message."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


@dataclass(frozen=True, slots=True)
class ToolCall:
    """The model asks for a tool. ``arguments`` is a JSON object, not yet checked against the tool's schema.

    ``problem`` says why the arguments could not be read at all; they are empty then, and the tool is not called.
    """

    id: str
    name: str
    arguments: dict[str, object]
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Message:
    """One message, in no provider's format.

    The assistant's may ask for tools; a tool's carries a result, for the call with the id ``tool_call_id``.
    ``history_id`` is the row of the history that it comes from, 0 for none. One that is ``pinned`` stands for others,
    which are not shown themselves, and is kept when the rest is cut.
    """

    role: Speaker
    text: str
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""
    history_id: int = field(default=0, compare=False)
    pinned: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A tool that the model may ask for. ``schema`` is the JSON schema of its arguments."""

    name: str
    description: str
    schema: Mapping[str, object]


class Stop(StrEnum):
    """Why an answer ends where it does."""

    END = "end"
    TOOL_CALLS = "tool_calls"
    LENGTH = "length"  # the provider's limit on one answer
    REFUSAL = "refusal"  # the model, or a filter of its provider


@dataclass(frozen=True, slots=True)
class CompletionResponse:
    """What the model answered, and what it cost in tokens, as the provider counted them.

    ``cached_tokens`` are those of the input that the provider had kept, ``written_tokens`` those that it now keeps at a
    price of their own. ``estimated`` is set when the provider counted nothing, and the tokens are a guess from the
    number of characters. ``spoken_by`` is ``provider:model`` where another model than the first of a chain answered.
    """

    text: str
    input_tokens: int
    output_tokens: int
    tool_calls: tuple[ToolCall, ...] = ()
    cached_tokens: int = 0
    estimated: bool = False
    stop: Stop = field(default=Stop.END, compare=False)
    spoken_by: str = ""
    written_tokens: int = field(default=0, compare=False)

    @property
    def tokens(self) -> int:
        """Tokens in both directions."""
        return self.input_tokens + self.output_tokens

    def after(self, earlier: "CompletionResponse") -> "CompletionResponse":
        """The same answer, with the tokens of an earlier one counted in."""
        return replace(
            self,
            input_tokens=earlier.input_tokens + self.input_tokens,
            output_tokens=earlier.output_tokens + self.output_tokens,
            cached_tokens=earlier.cached_tokens + self.cached_tokens,
            written_tokens=earlier.written_tokens + self.written_tokens,
            estimated=earlier.estimated or self.estimated,
        )


#: Is given each piece of the answer's text as it comes.
OnText = Callable[[str], None]


class ModelProvider(Protocol):
    """A model."""

    @property
    def provider(self) -> str:
        """The provider's name, as in ``AUTONOUS_MODEL_PROVIDER``."""

    @property
    def model_name(self) -> str:
        """The model's name, as its provider knows it."""

    async def complete(
        self, messages: Sequence[Message], tools: Sequence[ToolSpec] = (), on_text: OnText | None = None
    ) -> CompletionResponse:
        """One completion. Raises ModelError."""

    async def close(self) -> None:
        """Free the connections."""


class ModelError(Exception):
    """A model call failed. ``error_class`` is the word that events carry.

    ModelError
    ├── ProviderApiError   the provider could not be reached or refused
    │   ├── RateLimited       too many calls, or nothing left of a quota
    │   └── ContextOverflow   the messages are more than the model takes
    └── ValidationError    the provider answered with something that is no answer
    """

    error_class = "unknown"

    def __init__(self, message: str, error_class: str | None = None) -> None:
        super().__init__(message)
        if error_class is not None:
            self.error_class = error_class


class ProviderApiError(ModelError):
    """The provider could not be reached, took too long or answered with an error."""

    error_class = "provider_api"


class RateLimited(ProviderApiError):
    """Too many calls. ``retry_after`` is the wait in seconds that the provider asks for, None where it names none."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class ContextOverflow(ProviderApiError):
    """The messages are more than the model takes at once."""


class ValidationError(ModelError):
    """The answer is empty or malformed."""

    error_class = "validation"


def estimated_tokens(text: str) -> int:
    """Roughly how many tokens a text has: a quarter of its characters, rounded up."""
    return -(-len(text) // 4)
