"""Which past messages are candidates for the context."""

from typing import Protocol

from worker.context.summary import as_message
from worker.models.base import Message
from worker.store.history import History
from worker.store.summaries import Summaries


class ContextProvider(Protocol):
    """Finds past messages."""

    def recent(self, chat_id: int) -> list[Message]:
        """Candidates for a chat's context, oldest first."""


class RecentHistory:
    """The chat's last ``window`` messages, after the summary of those before them where there is one."""

    def __init__(self, history: History, window: int, summaries: Summaries | None = None) -> None:
        self._history = history
        self._window = window
        self._summaries = summaries

    def recent(self, chat_id: int) -> list[Message]:
        """The chat's last messages, oldest first."""
        context_after = self._history.context_after(chat_id)
        summary = self._summaries.latest(chat_id, context_after=context_after) if self._summaries else None
        if summary is None:
            return self._history.recent(chat_id, self._window)
        later = self._history.recent(chat_id, self._window, after=summary.covered.history_id)
        return [as_message(summary), *later]
