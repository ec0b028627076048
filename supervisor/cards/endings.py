"""How each update ended is told in its chat, once, by the supervisor: it arrives when the worker is dead, too."""

import threading
import time
from collections.abc import Callable
from typing import Final

import structlog

from supervisor.bot.client import BotApiAmbiguous, BotApiAway, BotApiRefused
from supervisor.cards import wording
from supervisor.cards.audience import Audience
from supervisor.cards.notifier import Bot
from supervisor.contract import EventType
from supervisor.ledger import CardKind, EndingState, Ledger, Origin, Update
from supervisor.states import Status

_LOG = structlog.get_logger()

#: A worker that watches has told of a failed gate by then.
WATCHER_SECONDS: Final = 5.0
_IDLE_SECONDS: Final = 10.0
_AT_THE_GATES: Final = (Status.REFUSED, Status.BUILD_FAILED, Status.TEST_FAILED, Status.SELF_CHECK_FAILED)
#: Cancelled is not among them: whoever did it was told, and the card says so.
_TOLD: Final = (*_AT_THE_GATES, Status.SUPERSEDED, Status.DEPLOY_FAILED, Status.PROMOTED, Status.ROLLED_BACK)


class Endings:
    """Tells endings. ``clock`` gives seconds since the Unix epoch."""

    def __init__(self, ledger: Ledger, bot: Bot, audience: Audience, clock: Callable[[], float] = time.time) -> None:
        self._ledger = ledger
        self._bot = bot
        self._audience = audience
        self._clock = clock
        self._lock = threading.Lock()
        self._watched: set[str] = set()

    def watched(self, tx_id: str) -> None:
        """A worker has followed this update to where the gates left it, and tells its chat."""
        with self._lock:
            self._watched.add(tx_id)

    def tell(self) -> float:
        """Tell what was not told yet; in how many seconds there is more, without any change.

        Raises BotApiAway, or BotApiRefused with its ``retry_after``: the rest is still to be told.
        """
        wait = _IDLE_SECONDS
        for update in self._ledger.untold(_TOLD):
            if update.status in _AT_THE_GATES:
                left = update.updated_at + WATCHER_SECONDS - self._clock()
                if update.origin is Origin.CHAT and not self._is_watched(update) and left > 0:
                    wait = min(wait, left)
                    continue
                if update.origin is not Origin.CHAT or self._is_watched(update):
                    self._ledger.note_ending(update, EndingState.TOLD)  # by the terminal, or by the worker
                    continue
            again = self._ledger.made_again(update) if update.status is Status.SUPERSEDED else None
            if update.status is Status.SUPERSEDED and again is None and update.code is None:
                continue  # the pipeline has not looked yet whether it can be made again
            self._tell(update, again)
        return wait

    def _is_watched(self, update: Update) -> bool:
        with self._lock:
            return update.tx_id in self._watched

    def _tell(self, update: Update, again: Update | None) -> None:
        cards = [c for c in self._ledger.cards_of(update.tx_id) if c.kind is CardKind.APPROVAL and c.message_id]
        chat_id = cards[0].chat_id if cards else self._audience.chat(update)
        if chat_id is None:
            return
        text = wording.ending(update, in_service=self._ledger.good_sha() or "-", again=again)
        self._ledger.note_ending(update, EndingState.SENDING)
        try:
            message_id = self._bot.send(chat_id, text, reply_to=cards[0].message_id if cards else None)
        except BotApiAmbiguous as doubt:
            # The card shows the ending, too, and is changed until that is certain.
            _LOG.warning("nobody knows whether an ending arrived", tx=update.tx_id, error=str(doubt))
            return
        except BotApiRefused as refused:
            if refused.retry_after:
                self._ledger.forget_ending(update)
                raise
            _LOG.warning("an ending was refused", tx=update.tx_id, error=str(refused))
            return
        except BotApiAway:
            self._ledger.forget_ending(update)
            raise
        self._ledger.note_ending(update, EndingState.TOLD)
        told = {"tx_id": update.tx_id, "status": update.status, "chat_id": chat_id, "message_id": message_id}
        self._ledger.append(EventType.UPDATE_ENDING_TOLD, told, parent_id=update.event_id)
