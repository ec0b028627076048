"""What goes out. An answer is stored here before it is sent, so that it survives the worker that made it."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from worker.store.database import Database
from worker.store.tables import InboxRow, OutboxRow


class OutboxStatus(StrEnum):
    """How far an answer got."""

    PENDING = "pending"
    SENT = "sent"
    AMBIGUOUS = "ambiguous"  # a part of it was sent, and nobody can say whether it arrived
    REJECTED = "rejected"  # the chat does not take it


class ReplyKind(StrEnum):
    """Why an answer is sent."""

    ANSWER = "answer"  # the agent's words
    NOTICE = "notice"  # the worker's own
    DOUBT = "doubt"  # tells that an answer may be missing; better twice than not at all


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer. It may be sent in several parts; ``parts_sent`` of them are out.

    ``replaces`` is the message that showed how far the run was, whose place the first part takes.
    """

    id: int
    chat_id: int
    event_id: int | None
    kind: str
    text: str
    parts_sent: int
    error: str
    replaces: int | None = None


class Outbox:
    """The answers of all chats. ``clock`` gives seconds since the Unix epoch."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    def add(
        self,
        chat_id: int,
        text: str,
        *,
        kind: ReplyKind = ReplyKind.NOTICE,
        inbox_id: int | None = None,
        event_id: int | None = None,
    ) -> None:
        """Store an answer. ``event_id`` is the parent of the event that will say that it was sent.

        An answer to the message ``inbox_id`` takes the place of what was shown of its run.
        """
        now = self._clock()
        with self._database.write():
            OutboxRow.insert(
                replaces_message_id=self._take_preview(inbox_id),
                chat_id=chat_id,
                inbox_id=inbox_id,
                event_id=event_id,
                kind=kind,
                text=text,
                status=OutboxStatus.PENDING,
                created_at=now,
                updated_at=now,
            ).execute()

    def next(self, chat_id: int) -> Reply | None:
        """The chat's oldest answer that is not out."""
        self._database.bind()
        mine = (OutboxRow.chat_id == chat_id) & (OutboxRow.status == OutboxStatus.PENDING)
        row = OutboxRow.select().where(mine).order_by(OutboxRow.id).first()
        if row is None:
            return None
        return Reply(
            row.id,
            row.chat_id,
            row.event_id,
            row.kind,
            row.text,
            row.parts_sent,
            row.error,
            replaces=row.replaces_message_id,
        )

    def pending_chats(self) -> list[int]:
        """The chats that wait for an answer to be sent."""
        self._database.bind()
        waiting = OutboxRow.status == OutboxStatus.PENDING
        return [row.chat_id for row in OutboxRow.select(OutboxRow.chat_id).where(waiting).distinct()]

    def part_sent(self, reply: Reply, parts_sent: int, *, message_id: int | None, error: str = "") -> None:
        """One more part is out. ``error`` says why it is not known whether that one arrived."""
        changes: dict[str, object] = {"parts_sent": parts_sent, "message_id": message_id}
        if error:
            changes["error"] = error
        self._set(reply, **changes)

    def settle(self, reply: Reply, status: OutboxStatus, error: str = "") -> None:
        """Nothing more will be sent of this answer."""
        self._set(reply, status=status, **({"error": error} if error else {}))

    def send_again(self, chat_id: int, reply_id: int) -> bool:
        """Send once more what may not have arrived; False when there is no such answer in doubt."""
        mine = (OutboxRow.id == reply_id) & (OutboxRow.chat_id == chat_id)
        in_doubt = OutboxRow.status == OutboxStatus.AMBIGUOUS
        with self._database.write():
            again = OutboxRow.update(
                status=OutboxStatus.PENDING, parts_sent=0, error="", replaces_message_id=None, updated_at=self._clock()
            )
            return bool(again.where(mine, in_doubt).execute())

    def _take_preview(self, inbox_id: int | None) -> int | None:
        """The message that shows the run of an inbox row, which only the first answer can have."""
        row = None if inbox_id is None else InboxRow.get_or_none(InboxRow.id == inbox_id)
        if row is None or row.preview_message_id is None:
            return None
        InboxRow.update(preview_message_id=None).where(InboxRow.id == inbox_id).execute()
        return int(row.preview_message_id)

    def _set(self, reply: Reply, **columns: object) -> None:
        with self._database.write():
            OutboxRow.update(updated_at=self._clock(), **columns).where(OutboxRow.id == reply.id).execute()
