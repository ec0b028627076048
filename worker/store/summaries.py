"""Summaries: rows that stand for older parts of a conversation, beside the history itself, which is never deleted."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from worker.store.database import Database
from worker.store.tables import SummaryRow


@dataclass(frozen=True, slots=True)
class Covered:
    """What a summary stands for: the history up to a row, and a run's turns up to one; 0 for none."""

    history_id: int = 0
    run_id: int = 0
    turn_id: int = 0


@dataclass(frozen=True, slots=True)
class Files:
    """Paths that tools read and changed, in the order of their first use."""

    read: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()

    def joined(self, later: "Files") -> "Files":
        """These and later ones. What was changed is not listed as read as well."""
        changed = tuple(dict.fromkeys((*self.changed, *later.changed)))
        read = tuple(path for path in dict.fromkeys((*self.read, *later.read)) if path not in changed)
        return Files(read, changed)


@dataclass(frozen=True, slots=True)
class Summary:
    """A text that stands for what it covers."""

    text: str
    covered: Covered = field(default_factory=Covered)
    files: Files = field(default_factory=Files)


class Summaries:
    """The summaries of all chats. ``clock`` gives seconds since the Unix epoch."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    def latest(self, chat_id: int, *, context_after: int) -> Summary | None:
        """The chat's newest summary, unless its context was begun anew since."""
        self._database.bind()
        mine = (SummaryRow.chat_id == chat_id) & (SummaryRow.context_after == context_after)
        row = SummaryRow.select().where(mine).order_by(SummaryRow.id.desc()).first()
        if row is None:
            return None
        files: dict[str, Sequence[str]] = json.loads(row.files)
        return Summary(
            row.text,
            Covered(row.history_id, row.run_id or 0, row.turn_id or 0),
            Files(tuple(files.get("read", ())), tuple(files.get("changed", ()))),
        )

    def add(self, chat_id: int, summary: Summary, *, context_after: int) -> None:
        """Keep a new summary; the former ones stay in the table."""
        covered = summary.covered
        files = json.dumps({"read": summary.files.read, "changed": summary.files.changed}, ensure_ascii=False)
        with self._database.write():
            SummaryRow.insert(
                chat_id=chat_id,
                context_after=context_after,
                history_id=covered.history_id,
                run_id=covered.run_id or None,
                turn_id=covered.turn_id or None,
                text=summary.text,
                files=files,
                created_at=self._clock(),
            ).execute()
