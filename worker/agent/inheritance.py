"""What the supervisor took in while no worker ran: stored here like what was polled, and before the first poll."""

import logging
import time
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from supervisor.contract import KeptUpdate
from worker.commander.base import Incoming
from worker.selfupdate.base import Away

#: Between two questions to a supervisor that is away.
ASK_AGAIN_SECONDS: Final = 1.0

logger = logging.getLogger(__name__)


class Keeper(Protocol):
    """The supervisor, as the one who kept updates."""

    async def kept(self) -> list[KeptUpdate]:
        """All of them, oldest first. Raises Away."""

    async def taken(self, ids: Sequence[int]) -> None:
        """These are stored and may be deleted. Raises Away."""


class Inheritance:
    """Asks once each time that the worker becomes active, and until an answer came.

    ``store`` is given the updates, and the ids of those that are answered already; it may be given them again.
    """

    def __init__(
        self,
        *,
        keeper: Keeper | None,
        parse: Callable[[str], Incoming | None],
        store: Callable[[list[Incoming], frozenset[int]], None],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._keeper = keeper
        self._parse = parse
        self._store = store
        self._monotonic = monotonic
        self._due = False
        self._not_before = 0.0

    def expect(self) -> None:
        """The worker has become active: there may be something."""
        self._due, self._not_before = True, 0.0

    async def take(self) -> None:
        """Store what there is, when that was not done yet; a supervisor that is away is asked another time."""
        if not self._due or self._keeper is None or self._monotonic() < self._not_before:
            return
        try:
            kept = await self._keeper.kept()
            if kept:
                self._store_all(kept)
                await self._keeper.taken([update.id for update in kept])
                logger.info("took over %d updates that came while no worker ran", len(kept))
            self._due = False
        except Away as error:
            logger.warning("cannot ask for what came while no worker ran: %s", error)
            self._not_before = self._monotonic() + ASK_AGAIN_SECONDS

    def _store_all(self, kept: list[KeptUpdate]) -> None:
        updates, answered = [], set()
        for update in kept:
            incoming = self._parse(update.raw)
            if incoming is None:
                logger.warning("an update that was kept cannot be read, and is left out")
                continue
            updates.append(incoming)
            if update.answered:
                answered.add(incoming.update_id)
        self._store(updates, frozenset(answered))
