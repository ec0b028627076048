"""What came in. Every update gets a row, also those that are not served."""

from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass, replace
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
    DONE = "done"  # answered, or stopped by its author
    DEAD = "dead"  # given up; the user was told


#: Still to be worked on. A row in progress that nobody works on is what a dead worker left behind.
OPEN: Final = (InboxStatus.QUEUED, InboxStatus.IN_PROGRESS, InboxStatus.FAILED)


#: One look into the index for each status: together they would have to be sorted, however many there are.
_OLDEST: Final = "SELECT * FROM (SELECT id FROM inbox WHERE status = ? AND chat_id = ? ORDER BY id LIMIT 1) AS one"
_OLDEST_OPEN: Final = (
    "SELECT id, update_id, text, attempts, preview_message_id, kind, not_before FROM inbox WHERE id = "  # noqa: S608 - ours
    f"(SELECT MIN(id) FROM ({' UNION ALL '.join([_OLDEST] * len(OPEN))}) AS oldest)"
)

#: No table is indexed for it, so it looks at the latest rows alone.
_UNANSWERED: Final = """
SELECT id, chat_id, text, created_at FROM inbox
WHERE kind = 'command' AND error = '' AND created_at >= ? AND id > (SELECT MAX(id) FROM inbox) - 100 AND NOT EXISTS (
    SELECT 1 FROM outbox WHERE outbox.inbox_id = inbox.id AND outbox.id > (SELECT MAX(id) FROM outbox) - 1000
)
ORDER BY id
"""


@dataclass(frozen=True, slots=True)
class Task:
    """One message that was claimed. ``attempts`` counts the claims, this one included.

    ``preview_message_id`` is the message in which an earlier attempt showed how far it was. ``kind`` says what it asks
    for.
    """

    id: int
    update_id: int
    chat_id: int
    text: str
    attempts: int
    preview_message_id: int | None = None
    kind: str = "message"


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One message that was given up. ``died_at`` is in seconds since the Unix epoch."""

    id: int
    text: str
    error: str
    attempts: int
    died_at: float


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
        found = self._next(chat_id)
        return None if found is None else max(0.0, found[1] - self._clock())

    def claim(self, chat_id: int) -> Task | None:
        """Claim the chat's oldest open message: its next one can only be claimed when this one is over."""
        with self._database.write():
            found = self._next(chat_id)
            if found is None:
                return None
            task = replace(found[0], attempts=found[0].attempts + 1)
            self._set(task.id, InboxStatus.IN_PROGRESS, locked_at=self._clock(), attempts=task.attempts)
            return task

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

    def stopped(self, task: Task, reason: str) -> None:
        """Its author wants no answer any more."""
        with self._database.write():
            self._set(task.id, InboxStatus.DONE, locked_at=None, error=reason)

    def spoilt(self, row_id: int, error: str) -> None:
        """A command came to nothing; it is not tried again."""
        with self._database.write():
            self._set(row_id, InboxStatus.DONE, error=error)

    def dead(self, task: Task, error: str) -> None:
        """No attempt is left."""
        with self._database.write():
            self._set(task.id, InboxStatus.DEAD, locked_at=None, error=error)

    def previewed(self, task: Task, message_id: int) -> None:
        """The message in which the chat sees how far the run is; the answer will take its place."""
        with self._database.write():
            InboxRow.update(preview_message_id=message_id).where(InboxRow.id == task.id).execute()

    def in_hand(self, chat_id: int) -> int | None:
        """The row of the message that is being worked on, or waits for its next attempt; None when there is none."""
        return self._first(chat_id, InboxStatus.IN_PROGRESS) or self._first(chat_id, InboxStatus.FAILED)

    def oldest_open(self, chat_id: int, *, up_to: int) -> Task | None:
        """The chat's message whose turn it is, unless it came after the row ``up_to``."""
        found = self._next(chat_id)
        return found[0] if found is not None and found[0].id <= up_to else None

    def last_id(self) -> int:
        """The row of the latest update, 0 when there is none."""
        self._database.bind()
        return int(InboxRow.select(fn.MAX(InboxRow.id)).scalar() or 0)

    def waiting(self, chat_id: int) -> int:
        """How many messages of a chat wait for their first attempt."""
        self._database.bind()
        mine = (InboxRow.chat_id == chat_id) & (InboxRow.status == InboxStatus.QUEUED)
        return int(InboxRow.select().where(mine).count())

    def dead_letters(self, chat_id: int, *, limit: int) -> list[DeadLetter]:
        """A chat's messages that were given up, the latest first."""
        self._database.bind()
        mine = (InboxRow.chat_id == chat_id) & (InboxRow.status == InboxStatus.DEAD)
        rows = InboxRow.select().where(mine).order_by(InboxRow.id.desc()).limit(limit)
        return [DeadLetter(row.id, row.text, row.error, row.attempts, row.updated_at) for row in rows]

    def unanswered_commands(self, since: float) -> list[tuple[int, int, str, float]]:
        """The latest commands that nothing in the outbox answers: row, chat, text and when it came, oldest first."""
        with closing(self._database.cursor(_UNANSWERED, (since,))) as cursor:
            rows: list[tuple[int, int, str, float]] = cursor.fetchall()
            return rows

    def replay(self, chat_id: int, row_id: int) -> bool:
        """Queue a chat's dead message again, with all its attempts; False when it is not dead."""
        mine = (InboxRow.id == row_id) & (InboxRow.chat_id == chat_id)
        with self._database.write():
            return bool(self._replay(mine))

    def replay_dead(self, *, dead_for_seconds: float, at_most: int) -> list[tuple[int, int]]:
        """Queue again whatever has been dead for so long and was replayed less than ``at_most`` times.

        Gives the chats and the rows.
        """
        long_dead = (InboxRow.updated_at <= self._clock() - dead_for_seconds) & (InboxRow.replays < at_most)
        dead = (InboxRow.status == InboxStatus.DEAD) & long_dead
        self._database.bind()
        due = [(row.chat_id, row.id) for row in InboxRow.select(InboxRow.id, InboxRow.chat_id).where(dead)]
        if due:
            with self._database.write():
                self._replay(InboxRow.id.in_([row_id for _, row_id in due]))
        return due

    def _replay(self, which: object) -> int:
        changes = {
            "status": InboxStatus.QUEUED,
            "attempts": 0,
            "not_before": None,
            "error": "",
            "replays": InboxRow.replays + 1,
            "updated_at": self._clock(),
        }
        dead = InboxRow.status == InboxStatus.DEAD
        return int(InboxRow.update(**changes).where(which, dead).execute())

    def _next(self, chat_id: int) -> tuple[Task, float] | None:
        """The chat's oldest open message, and when it may be claimed, in seconds since the Unix epoch."""
        which = tuple(value for status in OPEN for value in (status.value, chat_id))
        row = self._database.first(_OLDEST_OPEN, which)
        if row is None:
            return None
        row_id, update_id, text, attempts, preview, kind, not_before = row
        return Task(row_id, update_id, chat_id, text, attempts, preview, kind), not_before or 0.0

    def _first(self, chat_id: int, status: InboxStatus) -> int | None:
        self._database.bind()
        mine = (InboxRow.status == status) & (InboxRow.chat_id == chat_id)
        row = InboxRow.select(InboxRow.id).where(mine).order_by(InboxRow.id).first()
        return None if row is None else int(row.id)

    def _set(self, row_id: int, status: InboxStatus, **columns: object) -> None:
        changes = {"status": status, "updated_at": self._clock(), **columns}
        InboxRow.update(**changes).where(InboxRow.id == row_id).execute()
