"""Who may decide, and where they are asked."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from supervisor.ledger import Ledger, Update
from supervisor.localbot.store import OWNER
from supervisor.settings import Settings


@dataclass(frozen=True)
class Audience:
    """The owners of the bot. ``owners`` gives their ids as they are now."""

    ledger: Ledger
    owners: Callable[[], tuple[int, ...]]

    @classmethod
    def of(cls, settings: Settings, ledger: Ledger) -> Self:
        """Those that the settings name, else those that claimed the bot. The terminal's user owns the local bot."""

        def owners() -> tuple[int, ...]:
            allowed = settings.allowed_users
            if settings.uses_local_bot:
                allowed = (OWNER, *(user for user in allowed if user != OWNER))
            return allowed or tuple(ledger.owners())

        return cls(ledger, owners)

    def chat(self, update: Update) -> int | None:
        """Where an update is talked about: the chat it was handed in from when that is an owner's, else the first's.

        None while nobody owns the bot. A private chat has the number of its user.
        """
        owners = self.owners()
        chats = {owner: owner for owner in owners} | self.ledger.owner_chats()
        if update.chat_id is not None and self.private(update.chat_id):
            return update.chat_id
        return chats[owners[0]] if owners else None

    def private(self, chat_id: int) -> bool:
        """Whether it is the chat of an owner."""
        owners = self.owners()
        claimed = {chat for owner, chat in self.ledger.owner_chats().items() if owner in owners}
        return chat_id in {*owners, *claimed}
