"""What came in. Every update gets a row, also those that are not served."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, cast

from peewee import fn

from worker.commander.base import Incoming
from worker.store.database import Database
from worker.store.tables import InboxRow

#: The Bot API starts its numbers anew after a week without updates. From then on the old offset would hide
#: everything, so it is forgotten a day before.
OFFSET_LIFETIME_SECONDS: Final = 6 * 86_400


class InboxStatus(StrEnum):
    """Where an update is."""

    QUEUED = "queued"
    IN_PROGRESS = "in_progress"
    FAILED = "failed"  # the last attempt failed, the next one comes at not_before
    DONE = "done"
    DEAD = "dead"  # given up; the user was told


#: Still to be worked on. A row in progress that nobody works on is what a dead worker left behind.
OPEN: Final = (InboxStatus.QUEUED, InboxStatus.IN_PROGRESS, InboxStatus.FAILED)


@dataclass(frozen=True, slots=True)
class Task:
    """One message that was claimed. ``attempts`` counts the claims, this one included."""

    id: int
    update_id: int
    chat_id: int
    text: str
    attempts: int


class Inbox:
    """The updates of all sources. ``clock`` gives seconds since the Unix epoch."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    def offset(self, source: str) -> int | None:
        """The first update id to ask for, None when the source should decide."""
        self._database.bind()
        recent = InboxRow.created_at > self._clock() - OFFSET_LIFETIME_SECONDS
        last = InboxRow.select(fn.MAX(InboxRow.update_id)).where(InboxRow.source == source, recent).scalar()
        return None if last is None else last + 1

    def is_new(self, source: str) -> bool:
        """Whether nothing ever came from this source."""
        self._database.bind()
        return not InboxRow.select().where(InboxRow.source == source).exists()

    def add(self, source: str, update: Incoming, *, kind: str, text: str, status: InboxStatus) -> int | None:
        """Store an update and give the row's id, None when it was stored before."""
        now = self._clock()
        with self._database.write():
            known = (InboxRow.source == source) & (InboxRow.update_id == update.update_id)
            if InboxRow.select().where(known).exists():
                return None
            return int(
                InboxRow.insert(
                    source=source,
                    update_id=update.update_id,
                    kind=kind,
                    chat_id=update.chat_id,
                    user_id=update.user_id,
                    text=text,
                    message_date=update.date,
                    status=status,
                    created_at=now,
                    updated_at=now,
                ).execute()
            )

    def open_chats(self) -> list[int]:
        """The chats that have something to be worked on."""
        self._database.bind()
        rows = InboxRow.select(InboxRow.chat_id).where(InboxRow.status.in_(OPEN)).distinct()
        return [row.chat_id for row in rows]

    def counts(self) -> dict[str, int]:
        """How many updates are in each status."""
        self._database.bind()
        rows = InboxRow.select(InboxRow.status, fn.COUNT(InboxRow.id)).group_by(InboxRow.status).tuples()
        return dict(cast("Iterable[tuple[str, int]]", rows))

    def due_in(self, chat_id: int) -> float | None:
        """Seconds until the chat's next message may be claimed, None when there is none."""
        self._database.bind()
        row = self._next(chat_id)
        return None if row is None else max(0.0, (row.not_before or 0.0) - self._clock())

    def claim(self, chat_id: int) -> Task | None:
        """Claim the chat's oldest open message: its next one can only be claimed when this one is over."""
        with self._database.write():
            row = self._next(chat_id)
            if row is None:
                return None
            self._set(row.id, InboxStatus.IN_PROGRESS, locked_at=self._clock(), attempts=row.attempts + 1)
            return Task(row.id, row.update_id, row.chat_id, row.text, row.attempts + 1)

    def give_back(self, task: Task) -> None:
        """Undo a claim whose run was cut in an orderly way; it does not count as an attempt."""
        with self._database.write():
            self._set(task.id, InboxStatus.QUEUED, locked_at=None, attempts=task.attempts - 1)

    def done(self, task: Task) -> None:
        """The answer is in the outbox."""
        with self._database.write():
            self._set(task.id, InboxStatus.DONE, locked_at=None, error="")

    def failed(self, task: Task, error: str, *, wait_seconds: float) -> None:
        """The attempt failed, and the next one may start after the wait."""
        with self._database.write():
            self._set(
                task.id,
                InboxStatus.FAILED,
                locked_at=None,
                error=error,
                not_before=self._clock() + wait_seconds,
            )

    def dead(self, task: Task, error: str) -> None:
        """No attempt is left."""
        with self._database.write():
            self._set(task.id, InboxStatus.DEAD, locked_at=None, error=error)

    def _next(self, chat_id: int) -> InboxRow | None:
        mine = (InboxRow.chat_id == chat_id) & InboxRow.status.in_(OPEN)
        row: InboxRow | None = InboxRow.select().where(mine).order_by(InboxRow.id).first()
        return row

    def _set(self, row_id: int, status: InboxStatus, **columns: object) -> None:
        changes = {"status": status, "updated_at": self._clock(), **columns}
        InboxRow.update(**changes).where(InboxRow.id == row_id).execute()
