"""Conversations, as the model sees them."""

from collections.abc import Callable

from worker.models.base import Message, Speaker
from worker.store.database import Database
from worker.store.tables import HistoryRow


class History:
    """What was said in each chat. ``clock`` gives seconds since the Unix epoch."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    def recent(self, chat_id: int, limit: int) -> list[Message]:
        """The last ``limit`` messages of a chat, oldest first; roles that a later revision added are left out."""
        self._database.bind()
        rows = (
            HistoryRow.select()
            .where(HistoryRow.chat_id == chat_id, HistoryRow.role.in_(list(Speaker)))
            .order_by(HistoryRow.id.desc())
            .limit(limit)
        )
        return [Message(Speaker(row.role), row.text) for row in reversed(list(rows))]

    def add(self, chat_id: int, *messages: Message) -> None:
        """Append messages to a chat."""
        now = self._clock()
        with self._database.write():
            for message in messages:
                HistoryRow.insert(chat_id=chat_id, role=message.role, text=message.text, created_at=now).execute()
