"""The updates that this worker, or one before it, has submitted: who is to be told, and what came of each."""

from collections.abc import Callable
from dataclasses import dataclass

from worker.store.database import Database
from worker.store.tables import DevelopmentRow


@dataclass(frozen=True, slots=True)
class Development:
    """One submission. ``attempt`` counts from 0; a later one repairs the update before it, ``repairs``.

    ``task_id`` is the inbox row whose run has made it; None when a person staged it. ``watched`` is set until the
    gates have spoken. ``evidence`` says why they did not let it through. ``message_id`` shows how far it is.
    """

    id: int
    tx_id: str
    chat_id: int
    task_id: int | None
    attempt: int
    repairs: str
    title: str
    patch_sha256: str
    status: str
    evidence: str
    watched: bool
    message_id: int | None
    created_at: float


class Developments:
    """All submissions. ``clock`` gives seconds since the Unix epoch."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    def add(
        self,
        *,
        tx_id: str,
        chat_id: int,
        task_id: int | None,
        attempt: int,
        repairs: str,
        title: str,
        patch_sha256: str,
        status: str,
        evidence: str,
    ) -> Development:
        """Store a submission; one with evidence against it is over already."""
        now = self._clock()
        with self._database.write():
            return _development(
                DevelopmentRow.create(
                    tx_id=tx_id,
                    chat_id=chat_id,
                    task_id=task_id,
                    attempt=attempt,
                    repairs=repairs,
                    title=title,
                    patch_sha256=patch_sha256,
                    status=status,
                    evidence=evidence,
                    watched=not evidence,
                    created_at=now,
                    updated_at=now,
                )
            )

    def get(self, development_id: int) -> Development | None:
        """One of them."""
        return self._latest(DevelopmentRow.id == development_id)

    def watched(self) -> list[Development]:
        """Those that are at the gates, oldest first."""
        self._database.bind()
        return [_development(row) for row in DevelopmentRow.select().where(DevelopmentRow.watched).order_by("id")]

    def of_task(self, task_id: int) -> Development | None:
        """The latest one that the run of this inbox row has made."""
        return self._latest(DevelopmentRow.task_id == task_id)

    def of_chat(self, chat_id: int) -> Development | None:
        """The chat's latest one."""
        return self._latest(DevelopmentRow.chat_id == chat_id)

    def open_with(self, chat_id: int, patch_sha256: str) -> Development | None:
        """The chat's latest one of just this patch that the gates have not turned down."""
        same = (DevelopmentRow.chat_id == chat_id) & (DevelopmentRow.patch_sha256 == patch_sha256)
        return self._latest(same & (DevelopmentRow.evidence == ""))

    def last_failure(self) -> Development | None:
        """The latest one that the gates have turned down, whoever wanted it."""
        return self._latest(DevelopmentRow.evidence != "")

    def shown(self, development_id: int, message_id: int) -> None:
        """From now on this message shows how far it is."""
        self._set(development_id, message_id=message_id)

    def ended(self, development_id: int, *, status: str, evidence: str) -> None:
        """The gates have spoken."""
        self._set(development_id, status=status, evidence=evidence, watched=False)

    def _latest(self, which: object) -> Development | None:
        self._database.bind()
        row = DevelopmentRow.select().where(which).order_by(DevelopmentRow.id.desc()).first()
        return None if row is None else _development(row)

    def _set(self, development_id: int, **columns: object) -> None:
        with self._database.write():
            changed = DevelopmentRow.update(updated_at=self._clock(), **columns)
            changed.where(DevelopmentRow.id == development_id).execute()


def _development(row: DevelopmentRow) -> Development:
    return Development(
        id=row.id,
        tx_id=row.tx_id,
        chat_id=row.chat_id,
        task_id=row.task_id,
        attempt=row.attempt,
        repairs=row.repairs,
        title=row.title,
        patch_sha256=row.patch_sha256,
        status=row.status,
        evidence=row.evidence,
        watched=row.watched,
        message_id=row.message_id,
        created_at=row.created_at,
    )
