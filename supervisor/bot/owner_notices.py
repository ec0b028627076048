"""Tells the owners what happens to the installation itself: each thing once, and as soon as the Bot API answers."""

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from html import escape
from http import HTTPStatus
from typing import Final, Protocol

import structlog

from supervisor.bot.client import BotApiAway, BotApiError, BotApiRefused
from supervisor.ledger import Ledger, LedgerError

_LOG = structlog.get_logger()
_LOOK_SECONDS: Final = 2.0


class Sender(Protocol):
    """The part of :class:`supervisor.bot.client.BotClient` that is needed."""

    def send(self, chat_id: int, html: str) -> int:
        """Write a message. Raises BotApiError."""


class OwnerNotices:
    """Sends the ledger's notices. An owner's private chat has the number of the owner."""

    def __init__(
        self,
        *,
        bot: Callable[[], AbstractContextManager[Sender]],
        ledger: Ledger,
        owners: Callable[[], tuple[int, ...]],
    ) -> None:
        self._bot = bot
        self._ledger = ledger
        self._owners = owners

    def run(self, stopping: threading.Event) -> None:
        """Send what there is to tell, until ``stopping``; meant for a thread."""
        while not stopping.is_set():
            try:
                self.turn()
            except BotApiError as error:
                _LOG.info("cannot tell the owner yet", error=str(error))
            except LedgerError as error:
                _LOG.warning("cannot tell the owner", error=str(error))
            except Exception:  # a defect here must not end the one who keeps a worker running
                _LOG.exception("a defect in telling the owner")
            stopping.wait(_LOOK_SECONDS)

    def turn(self) -> None:
        """Send everything that was not told yet. Raises BotApiError when the Bot API does not take it now."""
        notices = self._ledger.notices()
        owners = self._owners()
        if not notices or not owners:
            return
        with self._bot() as bot:
            for key, text in notices:
                for owner in owners:
                    deliver(bot, owner, text)
                self._ledger.notice_told(key)


def deliver(bot: Sender, chat_id: int, text: str) -> None:
    """Send a plain text once. Raises BotApiError when it was not taken now, and trying again is safe."""
    try:
        bot.send(chat_id, escape(text, quote=False))
    except BotApiAway:
        raise
    except BotApiRefused as refused:
        if refused.code == HTTPStatus.TOO_MANY_REQUESTS or refused.code >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise
        _LOG.warning("a message is refused for good", chat=chat_id, error=str(refused))
    except BotApiError as error:  # perhaps it arrived: not twice
        _LOG.warning("nobody can say whether a message arrived", chat=chat_id, error=str(error))
