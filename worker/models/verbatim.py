"""Answers as their provider gave them.

Some providers want back, with the results of its calls, more of an answer than text and calls: what the model thought,
or a signature of it. That is kept while the process lives. After a restart, or once a message was cut, the plain form
goes in its place, which all of them take.
"""

from typing import Final, Generic, TypeVar

from worker.models.base import Message, ToolCall

T = TypeVar("T")
KEPT: Final = 500


class Verbatim(Generic[T]):
    """The last answers with calls, in a provider's own form."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, ...], tuple[str, tuple[ToolCall, ...], T]] = {}

    def keep(self, text: str, calls: tuple[ToolCall, ...], own: T) -> None:
        """Remember an answer, but for one whose calls could not be read: as it is, it is not taken back."""
        if not calls or any(call.problem for call in calls):
            return
        while len(self._kept) >= KEPT:
            del self._kept[next(iter(self._kept))]
        self._kept[tuple(call.id for call in calls)] = (text, calls, own)

    def of(self, message: Message) -> T | None:
        """The answer that a message was, if it is exactly that."""
        kept = self._kept.get(tuple(call.id for call in message.tool_calls))
        if kept is None or kept[:2] != (message.text, message.tool_calls):
            return None
        return kept[2]
