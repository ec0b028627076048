"""Commands on their way to the supervisor. They are stored, so that a worker that ends does not swallow one."""

from collections.abc import Callable, Collection
from dataclasses import dataclass

from worker.store.database import Database
from worker.store.tables import RelayRow


@dataclass(frozen=True, slots=True)
class Relay:
    """One command of an owner that the supervisor answers."""

    id: int
    chat_id: int
    user_id: int
    name: str
    argument: str


class Relays:
    """The commands of all chats. ``clock`` gives seconds since the Unix epoch."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    def add(self, *, chat_id: int, user_id: int, name: str, argument: str) -> None:
        """Store a command."""
        row = {"chat_id": chat_id, "user_id": user_id, "name": name, "argument": argument}
        with self._database.write():
            RelayRow.insert(**row, created_at=self._clock()).execute()

    def next(self, names: Collection[str], *, among: bool) -> Relay | None:
        """The oldest one that has no answer: among those with these names, or among all others."""
        self._database.bind()
        mine = RelayRow.name.in_(names) if among else RelayRow.name.not_in(names)
        row = RelayRow.select().where(RelayRow.answered_at.is_null(), mine).order_by(RelayRow.id).first()
        return None if row is None else Relay(row.id, row.chat_id, row.user_id, row.name, row.argument)

    def answered(self, relay: Relay) -> None:
        """Its answer is in the outbox, or needs none."""
        with self._database.write():
            RelayRow.update(answered_at=self._clock()).where(RelayRow.id == relay.id).execute()
