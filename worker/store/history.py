"""Conversations, as the model sees them."""

from collections.abc import Callable
from typing import Final

from worker.models.base import Message, Speaker
from worker.store.database import Database
from worker.store.tables import ChatRow, HistoryRow

#: What the worker itself told in place of an answer. To the model it is part of what was said on this side.
NOTICE: Final = "notice"
SPEAKERS: Final = {
    Speaker.USER.value: Speaker.USER,
    Speaker.ASSISTANT.value: Speaker.ASSISTANT,
    NOTICE: Speaker.ASSISTANT,
}


class History:
    """What was said in each chat. ``clock`` gives seconds since the Unix epoch."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    def recent(self, chat_id: int, limit: int) -> list[Message]:
        """The last ``limit`` messages of a chat's context, oldest first.

        Roles that a later revision added are left out.
        """
        self._database.bind()
        chat = ChatRow.get_or_none(ChatRow.chat_id == chat_id)
        in_context = HistoryRow.id > (chat.context_after if chat else 0)
        rows = (
            HistoryRow.select()
            .where(HistoryRow.chat_id == chat_id, in_context, HistoryRow.role.in_(list(SPEAKERS)))
            .order_by(HistoryRow.id.desc())
            .limit(limit)
        )
        return [Message(SPEAKERS[row.role], row.text) for row in reversed(list(rows))]

    def add(self, chat_id: int, *messages: Message) -> None:
        """Append messages to a chat."""
        for message in messages:
            self._add(chat_id, message.role, message.text)

    def add_notice(self, chat_id: int, text: str) -> None:
        """Append what the worker told the chat in place of an answer."""
        self._add(chat_id, NOTICE, text)

    def start_anew(self, chat_id: int) -> None:
        """From now on nothing that was said before is part of the chat's context. It stays in the table."""
        with self._database.write():
            last = HistoryRow.select(HistoryRow.id).where(HistoryRow.chat_id == chat_id)
            newest = last.order_by(HistoryRow.id.desc()).limit(1).scalar() or 0
            row = {"chat_id": chat_id, "context_after": newest, "updated_at": self._clock()}
            ChatRow.insert(**row).on_conflict(
                conflict_target=[ChatRow.chat_id],
                update={"context_after": newest, "updated_at": row["updated_at"]},
            ).execute()

    def _add(self, chat_id: int, role: str, text: str) -> None:
        with self._database.write():
            HistoryRow.insert(chat_id=chat_id, role=role, text=text, created_at=self._clock()).execute()
