"""Dead letters: messages that used up all their attempts, and how they come back."""

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from supervisor.contract import EventType
from worker.store import Store

LISTED: Final = 10
SHOWN_CHARACTERS: Final = 80
#: After so many returns by themselves only a person can bring a message back.
AUTOMATIC_REPLAYS: Final = 3

logger = logging.getLogger(__name__)


class DeadLetters:
    """The messages of all chats that were given up.

    ``cooldown_seconds`` is the age at which they come back by themselves, None when they never do. ``queued`` is
    called for a chat that has a message to be worked on again.
    """

    def __init__(
        self, *, store: Store, process_event: int, cooldown_seconds: float | None, queued: Callable[[int], None]
    ) -> None:
        self._store = store
        self._process_event = process_event
        self._cooldown = cooldown_seconds
        self._queued = queued

    def listing(self, chat_id: int) -> str:
        """What a chat has, for a person."""
        letters = self._store.inbox.dead_letters(chat_id, limit=LISTED)
        if not letters:
            return "No message of yours was given up."
        lines = [
            f"/replay_{letter.id} - {datetime.fromtimestamp(letter.died_at, UTC):%Y-%m-%d %H:%M} UTC, after "
            f"{letter.attempts} attempts\n  {_short(letter.text)}\n  {_short(letter.error)}"
            for letter in letters
        ]
        return "Given up, the latest first:\n\n" + "\n\n".join(lines)

    def replay(self, chat_id: int, row_id: int) -> bool:
        """Queue a chat's dead message again; False when it is not dead."""
        with self._store.write():
            if not self._store.inbox.replay(chat_id, row_id):
                return False
            self._record(chat_id, row_id, "replay")
        return True

    async def run(self) -> None:
        """Bring back what has been dead for long enough, for ever; at once over when that is not wanted."""
        while self._cooldown is not None:
            with self._store.write():
                back = self._store.inbox.replay_dead(dead_for_seconds=self._cooldown, at_most=AUTOMATIC_REPLAYS)
                for chat_id, row_id in back:
                    self._record(chat_id, row_id, "cooled_down")
            for chat_id, _ in back:
                self._queued(chat_id)
            await asyncio.sleep(min(self._cooldown / 4, 60))

    def _record(self, chat_id: int, row_id: int, reason: str) -> None:
        logger.info("dead letter %d is queued again: %s", row_id, reason)
        payload = {"chat_id": chat_id, "task_id": row_id, "attempts": 0, "wait_seconds": 0, "reason": reason}
        self._store.events.append(EventType.RETRY_SCHEDULED, payload, parent_id=self._process_event)


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= SHOWN_CHARACTERS else f"{line[: SHOWN_CHARACTERS - 1]}…"
