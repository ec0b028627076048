"""How a prompt is put together."""

from collections.abc import Sequence
from typing import Protocol

from worker.models.base import Message, Speaker


class PromptAssembler(Protocol):
    """Puts the parts of a prompt in order."""

    def assemble(self, system: str, history: Sequence[Message], user: str) -> list[Message]:
        """The messages for the model."""


class PlainAssembler:
    """System prompt, history, the user's message."""

    def assemble(self, system: str, history: Sequence[Message], user: str) -> list[Message]:
        """The three parts, one after the other."""
        return [Message(Speaker.SYSTEM, system), *history, Message(Speaker.USER, user)]
