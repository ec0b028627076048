"""Writes the cards and the endings into the chats, in a thread of its own: a slow Bot API slows down nothing else.

Nothing is remembered but in the ledger. Each turn compares what the chats show with what is, and does what is missing;
whatever a crash has cut is found again so. What nobody can say about a send is noted before it is made.
"""

import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from typing import Final, Protocol

import structlog

from supervisor.bot.client import BotApiAmbiguous, BotApiAway, BotApiError, BotApiRefused, Button, Keyboard
from supervisor.cards import wording
from supervisor.cards.audience import Audience
from supervisor.cards.presses import PREFIX
from supervisor.contract import EventType
from supervisor.ledger import Card, CardKind, CardState, Ledger, LedgerError, Update
from supervisor.sessions import Signal
from supervisor.states import FINAL, Status

_LOG = structlog.get_logger()

#: How long a card can be decided on, by default.
EXPIRY_SECONDS: Final = 24 * 3600.0
#: After a send of which nobody knows whether it arrived, before another copy.
LOOK_AGAIN_SECONDS: Final = 10.0
_IDLE_SECONDS: Final = 10.0
_FIRST_RETRY_SECONDS: Final = 1.0
_LONGEST_RETRY_SECONDS: Final = 30.0


class Bot(Protocol):
    """The part of the Bot API that is used. Every method raises BotApiError."""

    def send(self, chat_id: int, html: str, *, buttons: Keyboard = (), reply_to: int | None = None) -> int:
        """Write a message; its id."""

    def edit(self, chat_id: int, message_id: int, html: str, *, buttons: Keyboard = ()) -> None:
        """Put something else in its place."""

    def send_document(
        self, chat_id: int, name: str, content: bytes, *, caption: str = "", reply_to: int | None = None
    ) -> int:
        """Send a file; the message's id."""


class Notifier:
    """Keeps the chats up to date. ``diff`` gives an update's whole diff; ``endings`` tells what is over.

    With ``terminal`` cards have no buttons to approve with. ``clock`` gives seconds since the Unix epoch.
    """

    def __init__(
        self,
        *,
        ledger: Ledger,
        bot: Bot,
        audience: Audience,
        endings: Callable[[], float],
        diff: Callable[[Update], bytes],
        signal: Signal,
        terminal: bool,
        expiry_seconds: float = EXPIRY_SECONDS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._ledger = ledger
        self._bot = bot
        self._audience = audience
        self._endings = endings
        self._diff = diff
        self._signal = signal
        self._terminal = terminal
        self._expiry_seconds = expiry_seconds
        self._clock = clock
        self._stopping = False
        self._failures = 0

    def stop(self) -> None:
        """Have :meth:`run` end soon."""
        self._stopping = True
        self._signal.notify()

    def run(self) -> None:
        """Do what is missing, at each change and in time, until :meth:`stop`."""
        while not self._stopping:
            seen = self._signal.count
            try:
                rest = self.turn()
                self._failures = 0
            except BotApiRefused as refused:
                rest = refused.retry_after or self._retry()
                self._signal.until(lambda: self._stopping, rest)
                continue
            except (BotApiError, LedgerError) as error:
                _LOG.warning("the chats are not up to date; trying again", error=str(error))
                self._signal.until(lambda: self._stopping, self._retry())
                continue
            except Exception:  # a defect of ours must cost a message, not the supervisor
                _LOG.exception("a defect while cards were written; trying again")
                self._signal.until(lambda: self._stopping, _LONGEST_RETRY_SECONDS)
                continue
            self._signal.wait(rest, seen)

    def turn(self) -> float:
        """One comparison of the chats with the ledger; in how many seconds the next is due without any change.

        Raises BotApiAway, or BotApiRefused with its ``retry_after``: the rest of the turn is still to be done.
        """
        self._bring_up_to_date()
        self._queue_staged()
        self._look_again()
        self._send_queued()
        self._attach_diffs()
        return max(0.05, min(_IDLE_SECONDS, self._next_expiry(), self._endings()))

    def ask(self, update: Update, kind: CardKind, chat_id: int) -> None:
        """Somebody wants to decide on an update in this chat: a new card, before all others that wait there."""
        for other in self._ledger.cards(CardState.OPEN):
            if other.chat_id == chat_id and other.kind is kind and kind is not CardKind.APPROVAL:
                self._ledger.change_card(other.id, {"state": CardState.FOLLOWING})
        self._ledger.add_card(update, kind, chat_id, urgent=True)
        self._signal.notify()

    # -- what is to be asked

    def _queue_staged(self) -> None:
        for update in self._ledger.having(Status.STAGED):
            known = any(card.kind is CardKind.APPROVAL for card in self._ledger.cards_of(update.tx_id))
            chat_id = None if known else self._audience.chat(update)
            if chat_id is not None:
                self._ledger.add_card(update, CardKind.APPROVAL, chat_id)

    def _look_again(self) -> None:
        """Cards of which nobody knows whether the chat has them: another copy, if it is still to be decided."""
        for card in self._ledger.cards(CardState.SENDING):
            if self._clock() - card.updated_at >= LOOK_AGAIN_SECONDS:
                update = self._ledger.find(card.tx_id)
                if wording.asks(card, update):
                    self._ledger.add_card(update, card.kind, card.chat_id, urgent=True)
                else:
                    self._ledger.change_card(card.id, {"state": CardState.CLOSED})

    def _send_queued(self) -> None:
        """One card about an approval is open in a chat; one that was asked for takes its place."""
        for card in self._ledger.cards(CardState.QUEUED):
            update = self._ledger.find(card.tx_id)
            if not wording.asks(card, update):
                self._ledger.change_card(card.id, {"state": CardState.CLOSED})
                continue
            if card.kind is CardKind.APPROVAL and not self._terminal and (other := self._open_in(card.chat_id)):
                if not card.urgent:
                    continue
                self._set_aside(other)
            self._send(card, update)

    def _open_in(self, chat_id: int) -> Card | None:
        live = self._ledger.cards(CardState.OPEN, CardState.SENDING)
        return next((c for c in live if c.kind is CardKind.APPROVAL and c.chat_id == chat_id), None)

    def _set_aside(self, card: Card) -> None:
        """Another is asked about first; this one comes again after it."""
        update = self._ledger.find(card.tx_id)
        if wording.asks(card, update):
            self._ledger.add_card(update, card.kind, card.chat_id)
            self._show(card, update, wording.SET_ASIDE)

    def _send(self, card: Card, update: Update) -> None:
        silent = self._terminal and card.kind is CardKind.APPROVAL
        rows = () if silent else wording.BUTTONS[card.kind]
        nonces = {secrets.token_urlsafe(24): action for _, action in rows}
        buttons = [Button(label, PREFIX + nonce) for (label, _), nonce in zip(rows, nonces, strict=True)]
        expires_at = self._clock() + self._expiry_seconds
        earlier = [c for c in self._ledger.cards_of(card.tx_id) if c.id != card.id and c.kind is card.kind]
        again = any(c.state is CardState.CLOSED and c.message_id is None and c.expires_at for c in earlier)
        text = wording.question(card, update, expires_at=expires_at, terminal=self._terminal, again=again)
        self._ledger.begin_card(card.id, nonces, None if silent else expires_at)
        try:
            message_id = self._bot.send(card.chat_id, text, buttons=[buttons] if buttons else ())
        except BotApiRefused as refused:
            if refused.retry_after:
                self._ledger.change_card(card.id, {"state": CardState.QUEUED})
                raise
            if refused.code < HTTPStatus.INTERNAL_SERVER_ERROR:
                self._ledger.change_card(card.id, {"state": CardState.CLOSED})
            _LOG.warning("a card was refused", tx=update.tx_id, error=str(refused))
            return
        except BotApiAmbiguous as doubt:
            _LOG.warning("nobody knows whether a card arrived", tx=update.tx_id, error=str(doubt))
            return
        except BotApiAway:
            self._ledger.change_card(card.id, {"state": CardState.QUEUED})
            raise
        self._ledger.card_sent(card.id, message_id, update.status)
        told = {"tx_id": update.tx_id, "kind": card.kind, "chat_id": card.chat_id, "message_id": message_id}
        self._ledger.append(EventType.UPDATE_CARD_SENT, told, parent_id=update.event_id)
        for other in earlier:
            if other.state is CardState.CLOSED and other.message_id and other.shown not in wording.OVER:
                self._show(other, update, wording.REPLACED)

    # -- what the chats show

    def _bring_up_to_date(self) -> None:
        for card in self._ledger.cards_to_look_at():
            update = self._ledger.find(card.tx_id)
            if card.state is CardState.OPEN:
                if wording.asks(card, update) and not self._expired(card):
                    continue
                self._ledger.change_card(card.id, {"state": CardState.FOLLOWING})
            shown = self._shown(card, update)
            if shown != card.shown:
                self._show(card, update, shown)
            if card.kind is not CardKind.APPROVAL and (shown in wording.OVER or shown in FINAL):
                self._ledger.change_card(card.id, {"state": CardState.CLOSED})

    def _shown(self, card: Card, update: Update) -> str:
        if not wording.asks(card, update):
            return update.status
        return wording.EXPIRED if card.kind is CardKind.APPROVAL or self._expired(card) else wording.KEPT

    def _show(self, card: Card, update: Update, shown: str) -> None:
        """Have its message say this, without buttons. A message that is gone cannot be changed any more."""
        if card.message_id is not None:
            text = wording.answered(shown, card, update)
            try:
                self._bot.edit(card.chat_id, card.message_id, text)
            except BotApiRefused as refused:
                if refused.retry_after or refused.code >= HTTPStatus.INTERNAL_SERVER_ERROR:
                    raise
                _LOG.warning("a card cannot be changed", tx=update.tx_id, error=str(refused))
        self._ledger.change_card(card.id, {"shown": shown})

    def _attach_diffs(self) -> None:
        for card in self._ledger.cards(CardState.OPEN):
            if card.kind is not CardKind.APPROVAL or card.document_id is not None:
                continue
            update = self._ledger.find(card.tx_id)
            document_id = 0
            with suppress(BotApiAmbiguous):
                try:
                    document_id = send_diff(self._bot, update, self._diff(update), card.chat_id, card.message_id)
                except BotApiRefused as refused:
                    if refused.retry_after:
                        raise
                    _LOG.warning("the diff was refused", tx=update.tx_id, error=str(refused))
            self._ledger.change_card(card.id, {"document_id": document_id})

    # -- inside

    def _expired(self, card: Card) -> bool:
        return card.expires_at is not None and self._clock() > card.expires_at

    def _next_expiry(self) -> float:
        now = self._clock()
        due = [card.expires_at - now for card in self._ledger.cards(CardState.OPEN) if card.expires_at]
        due += [card.updated_at + LOOK_AGAIN_SECONDS - now for card in self._ledger.cards(CardState.SENDING)]
        return min(due, default=_IDLE_SECONDS)

    def _retry(self) -> float:
        self._failures += 1
        return min(_LONGEST_RETRY_SECONDS, _FIRST_RETRY_SECONDS * 2.0 ** (self._failures - 1))


def send_diff(bot: Bot, update: Update, diff: bytes, chat_id: int, reply_to: int | None = None) -> int:
    """Send an update's whole diff as a file; the message's id. Raises BotApiError."""
    tx8 = update.tx_id[:8]
    return bot.send_document(
        chat_id, f"change-{tx8}.patch", diff, caption=f"The whole of update {tx8}", reply_to=reply_to
    )
