"""Which past messages are candidates for the context."""

from typing import Protocol

from worker.models.base import Message
from worker.store.history import History


class ContextProvider(Protocol):
    """Finds past messages."""

    def recent(self, chat_id: int) -> list[Message]:
        """Candidates for a chat's context, oldest first."""


class RecentHistory:
    """The chat's last ``window`` messages."""

    def __init__(self, history: History, window: int) -> None:
        self._history = history
        self._window = window

    def recent(self, chat_id: int) -> list[Message]:
        """The chat's last messages, oldest first."""
        return self._history.recent(chat_id, self._window)
