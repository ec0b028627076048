"""How the candidates are made to fit."""

from collections.abc import Sequence
from typing import Protocol

from worker.models.base import Message


class ContextCompressor(Protocol):
    """Makes a conversation smaller."""

    def compress(self, messages: Sequence[Message]) -> list[Message]:
        """The messages to show, oldest first."""


class LastMessages:
    """Keeps the last ``limit`` messages."""

    def __init__(self, limit: int) -> None:
        self._limit = limit

    def compress(self, messages: Sequence[Message]) -> list[Message]:
        """The last messages."""
        return list(messages[max(0, len(messages) - self._limit) :])
