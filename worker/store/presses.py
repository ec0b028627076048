"""Pressed buttons on their way to whoever made them: stored, so that a worker that ends does not swallow one."""

from collections.abc import Callable
from typing import Final

from supervisor.contract import Press
from worker.store.database import Database
from worker.store.tables import PressRow

#: Who pressed longer ago has long pressed again, or changed their mind.
WAITING_SECONDS: Final = 600.0


class PressLog:
    """The presses of all chats. ``clock`` gives seconds since the Unix epoch."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    def add(self, press: Press) -> int:
        """Store a press and give its row."""
        with self._database.write():
            return int(PressRow.insert(**press.model_dump(), created_at=self._clock()).execute())

    def waiting(self) -> list[tuple[int, Press]]:
        """The rows and presses of late that have no answer, the oldest first."""
        self._database.bind()
        of_late = PressRow.created_at > self._clock() - WAITING_SECONDS
        rows = PressRow.select().where(PressRow.answered_at.is_null(), of_late).order_by(PressRow.id)
        return [(row.id, _press(row)) for row in rows]

    def answered(self, row_id: int) -> None:
        """Who made the button has spoken, or the chat was told that nothing was done."""
        with self._database.write():
            PressRow.update(answered_at=self._clock()).where(PressRow.id == row_id).execute()


def _press(row: PressRow) -> Press:
    return Press(
        data=row.data,
        user_id=row.user_id,
        chat_id=row.chat_id,
        message_id=row.message_id,
        callback_id=row.callback_id,
    )
