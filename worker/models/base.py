"""What the agent knows of a model: messages in, a completion out, whoever provides it."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class Speaker(StrEnum):
    """Who says a message."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"


@dataclass(frozen=True, slots=True)
class Message:
    """One message, in no provider's format."""

    role: Speaker
    text: str


@dataclass(frozen=True, slots=True)
class ToolCall:
    """The model asks for a tool. ``arguments`` is a JSON object, as yet unchecked."""

    id: str
    name: str
    arguments: dict[str, object]


@dataclass(frozen=True, slots=True)
class CompletionResponse:
    """What the model answered, and what it cost in tokens, as the provider counted them."""

    text: str
    input_tokens: int
    output_tokens: int
    tool_calls: tuple[ToolCall, ...] = ()


class ModelProvider(Protocol):
    """A model."""

    @property
    def provider(self) -> str:
        """The provider's name, as in ``AUTONOUS_MODEL_PROVIDER``."""

    @property
    def model_name(self) -> str:
        """The model's name, as its provider knows it."""

    async def complete(self, messages: Sequence[Message]) -> CompletionResponse:
        """One completion. Raises ModelError."""

    async def close(self) -> None:
        """Free the connections."""


class ModelError(Exception):
    """A model call failed. ``error_class`` is the word that events carry.

    ModelError
    ├── ProviderApiError   the provider could not be reached or refused
    └── ValidationError    the provider answered with something that is no answer
    """

    error_class = "model"

    def __init__(self, message: str, error_class: str | None = None) -> None:
        super().__init__(message)
        if error_class is not None:
            self.error_class = error_class


class ProviderApiError(ModelError):
    """The provider could not be reached, took too long or answered with an error."""

    error_class = "provider_api"


class ValidationError(ModelError):
    """The answer is empty or malformed."""

    error_class = "validation"
