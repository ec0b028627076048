"""Conversations, as the model sees them."""

from collections.abc import Callable
from typing import Final

from peewee import fn

from worker.models.base import Message, Speaker
from worker.store.database import Database
from worker.store.tables import ChatRow, HistoryRow, InboxRow

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
        #: Called after messages were added; they may not be committed yet.
        self.on_added: Callable[[], object] = lambda: None

    def recent(self, chat_id: int, limit: int, *, after: int = 0, up_to: int | None = None) -> list[Message]:
        """The last ``limit`` messages of a chat's context, oldest first; of those rows ``after`` and ``up_to`` others.

        Roles that a later revision added are left out.
        """
        in_context = HistoryRow.id > max(after, self.context_after(chat_id))
        if up_to is not None:
            in_context &= HistoryRow.id <= up_to
        rows = (
            HistoryRow.select()
            .where(HistoryRow.chat_id == chat_id, in_context, HistoryRow.role.in_(list(SPEAKERS)))
            .order_by(HistoryRow.id.desc())
            .limit(limit)
        )
        return [Message(SPEAKERS[row.role], row.text, history_id=row.id) for row in reversed(list(rows))]

    def context_after(self, chat_id: int) -> int:
        """The row after which the chat's context begins; 0 where it was never begun anew."""
        self._database.bind()
        chat = ChatRow.get_or_none(ChatRow.chat_id == chat_id)
        return chat.context_after if chat else 0

    def add(self, chat_id: int, *messages: Message, inbox_id: int | None = None) -> None:
        """Append messages to a chat.

        What belongs to the message ``inbox_id`` stays out of the context when that came before a fresh start.
        """
        for message in messages:
            self._add(chat_id, message.role, message.text, inbox_id)
        self.on_added()

    def add_notice(self, chat_id: int, text: str, *, inbox_id: int | None = None) -> None:
        """Append what the worker told the chat in place of an answer."""
        self._add(chat_id, NOTICE, text, inbox_id)

    def start_anew(self, chat_id: int) -> None:
        """From now on nothing that was said before is part of the chat's context. It stays in the table.

        Nor is the answer to a message that came before, and is still worked on.
        """
        with self._database.write():
            newest = self._newest(chat_id)
            received = InboxRow.select(fn.MAX(InboxRow.id)).scalar() or 0
            begin = {"context_after": newest, "anew_after": received, "updated_at": self._clock()}
            ChatRow.insert(chat_id=chat_id, **begin).on_conflict(
                conflict_target=[ChatRow.chat_id], update=begin
            ).execute()

    def _add(self, chat_id: int, role: str, text: str, inbox_id: int | None) -> None:
        with self._database.write():
            newest = self._newest(chat_id)
            row_id = HistoryRow.insert(chat_id=chat_id, role=role, text=text, created_at=self._clock()).execute()
            if inbox_id is not None:
                # A message from before that is replayed amid the new conversation is part of that one.
                nothing_new = ChatRow.context_after == newest
                earlier = (ChatRow.chat_id == chat_id) & (ChatRow.anew_after >= inbox_id) & nothing_new
                ChatRow.update(context_after=row_id).where(earlier).execute()

    def _newest(self, chat_id: int) -> int:
        rows = HistoryRow.select(HistoryRow.id).where(HistoryRow.chat_id == chat_id)
        return rows.order_by(HistoryRow.id.desc()).limit(1).scalar() or 0
