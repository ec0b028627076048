"""How the candidates are made to fit."""

from collections.abc import Sequence
from typing import Protocol

from worker.models.base import Message


class ContextCompressor(Protocol):
    """Makes a conversation smaller."""

    @property
    def max_messages(self) -> int:
        """How many messages are shown at most."""

    def compress(self, messages: Sequence[Message]) -> list[Message]:
        """The messages to show, oldest first."""


class LastMessages:
    """Keeps the last ``max_messages`` messages."""

    def __init__(self, max_messages: int) -> None:
        self.max_messages = max_messages

    def compress(self, messages: Sequence[Message]) -> list[Message]:
        """The last messages."""
        return list(messages[max(0, len(messages) - self.max_messages) :])
