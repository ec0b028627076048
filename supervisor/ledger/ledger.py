"""The ledger: the supervisor's own database, which no worker ever sees."""

from supervisor.contract.events import EventType
from supervisor.ledger.cards import Cards
from supervisor.ledger.grants import Grants
from supervisor.ledger.kept import Kept
from supervisor.ledger.models import Fact, Owner
from supervisor.ledger.retention import Retention
from supervisor.ledger.workers import Workers


class Ledger(Cards, Workers, Grants, Kept, Retention):
    """Updates, workers, the lease, grants, owners and small facts, with an append-only log of events.

    Opening it makes the file or migrates it. Raises NewerLedger, or LedgerUnusable.
    """

    def owners(self) -> list[int]:
        """Numeric Telegram ids of the users that own the bot, in the order in which they claimed it."""
        query = Owner.select(Owner.user_id).order_by(Owner.claimed_at, Owner.user_id)
        return [user_id for (user_id,) in self._rows(query.tuples())]

    def owner_chats(self) -> dict[int, int]:
        """The chat in which each owner claimed the bot, in that order."""
        query = Owner.select(Owner.user_id, Owner.chat_id).order_by(Owner.claimed_at, Owner.user_id)
        return dict(self._rows(query.tuples()))

    def add_owner(self, user_id: int, chat_id: int, *, parent_id: int | None = None) -> bool:
        """Record an owner, with ``owner.claimed``. Returns False, and changes nothing, for one who is known."""
        with self._writing("owner"):
            if self._one(Owner.select(Owner.user_id).where(Owner.user_id == user_id)) is not None:
                return False
            now = self._clock()
            self._run(Owner.insert(user_id=user_id, chat_id=chat_id, claimed_at=now))
            told = self._encode({}, {"user_id": user_id, "chat_id": chat_id})
            self._log(EventType.OWNER_CLAIMED, told, parent_id, now)
            return True

    def fact(self, key: str) -> str | None:
        """What was remembered under this name."""
        row = self._one(Fact.select(Fact.value).where(Fact.key == key).tuples())
        return None if row is None else row[0]

    def set_fact(self, key: str, value: str) -> None:
        """Remember a value under a name, instead of what was there. It is stored as it is: no secrets."""
        row = {"value": value, "updated_at": self._clock()}
        with self._writing("fact"):
            self._run(Fact.insert(key=key, **row).on_conflict(conflict_target=[Fact.key], update=row))
