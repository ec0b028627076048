"""What the bot's users wrote while no worker ran, and what the owner is to be told."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from supervisor.ledger.models import KeptRecord, Notice
from supervisor.ledger.store import Store


@dataclass(frozen=True, slots=True)
class NewKept:
    """An update of the Bot API, as JSON. ``commanded`` when it is for the supervisor itself to answer."""

    update_id: int
    raw: str = field(repr=False)
    commanded: bool = False


@dataclass(frozen=True, slots=True)
class KeptUpdate:
    """One that was kept, by the ledger's own id. ``answered`` once the supervisor has obeyed what it commanded."""

    id: int
    update_id: int
    raw: str = field(repr=False)
    commanded: bool
    answered: bool


_COLUMNS = (KeptRecord.id, KeptRecord.update_id, KeptRecord.body, KeptRecord.commanded, KeptRecord.answered)


class Kept(Store):
    """Updates and notices that wait for their reader. A ``source`` is one bot."""

    def keep(self, source: str, updates: Sequence[NewKept]) -> None:
        """Store updates as they are, each of them once. They are on the disk when this returns."""
        with self._writing_durably("keep"):
            now = self._clock()
            for new in updates:
                row = {"source": source, "update_id": new.update_id, "body": new.raw, "kept_at": now}
                row |= {"commanded": new.commanded, "answered": False}
                self._run(KeptRecord.insert(row).on_conflict_ignore())

    def kept(self, source: str) -> list[KeptUpdate]:
        """All that were kept of a bot, in the order in which they came."""
        query = KeptRecord.select(*_COLUMNS).where(KeptRecord.source == source).order_by(KeptRecord.id)
        return [KeptUpdate(*row) for row in self._rows(query.tuples())]

    def keeps_any(self) -> bool:
        """Whether anything is kept, of whatever bot."""
        return self._one(KeptRecord.select(KeptRecord.id).limit(1)) is not None

    def kept_answered(self, kept_id: int) -> None:
        """What it commanded was obeyed."""
        with self._writing("kept.answered"):
            self._run(KeptRecord.update(answered=True).where(KeptRecord.id == kept_id))

    def taken(self, source: str, ids: Collection[int]) -> None:
        """A worker has stored these: delete them."""
        with self._writing("kept.taken"):
            self._run(KeptRecord.delete().where((KeptRecord.source == source) & KeptRecord.id.in_(list(ids))))

    # -- notices

    def add_notice(self, key: str, text: str) -> bool:
        """Have the owner told, once for each key. Returns False, and changes nothing, for a key that is known."""
        with self._writing("notice"):
            if self._one(Notice.select(Notice.key).where(Notice.key == key)) is not None:
                return False
            row = {"key": key, "text": self._redact(text), "made_at": self._clock()}
            self._run(Notice.insert(row))
            return True

    def notices(self) -> list[tuple[str, str]]:
        """The key and the text of what the owner was not told yet, oldest first."""
        query = Notice.select(Notice.key, Notice.text).where(Notice.told_at.is_null()).order_by(Notice.made_at)
        return [(key, text) for key, text in self._rows(query.tuples())]

    def notice_told(self, key: str) -> None:
        """The owner was told."""
        with self._writing("notice.told"):
            self._run(Notice.update(told_at=self._clock()).where(Notice.key == key))
