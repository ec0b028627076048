"""A press of a card's button: judged, decided, and told. Everything that is needed to refuse one is in the ledger."""

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from supervisor.contract import EventType, Press, Pressed
from supervisor.ledger import Action, Button, Card, CardKind, CardState, Ledger, NonceSpent, Update
from supervisor.states import Status
from supervisor.updates.binding import digest
from supervisor.updates.decisions import Decided, Decisions, Refusal

#: What a button's data begins with.
PREFIX: Final = "s:"

#: What brings a card of each kind into the chat again.
COMMANDS: Final = {CardKind.APPROVAL: "approve", CardKind.CANCEL: "cancel", CardKind.ROLLBACK: "rollback"}


class Verdict(StrEnum):
    """What came of a press; it stands in the event."""

    ACCEPTED = "accepted"
    UNKNOWN = "unknown"
    WRONG_USER = "wrong_user"
    WRONG_CHAT = "wrong_chat"
    WRONG_MESSAGE = "wrong_message"
    NONCE_USED = "nonce_used"
    REPLACED = "replaced"
    EXPIRED = "expired"
    DIGEST_CHANGED = "digest_changed"
    TERMINAL_ONLY = "terminal_only"
    REFUSED = "refused"


@dataclass(frozen=True)
class _Refused(Exception):
    verdict: Verdict
    told: str


class Presses:
    """Answers presses. ``owners`` are the users who may decide; with ``terminal`` only the terminal approves.

    ``clock`` gives seconds since the Unix epoch.
    """

    def __init__(
        self,
        ledger: Ledger,
        decisions: Decisions,
        *,
        owners: Callable[[], Collection[int]],
        terminal: bool,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._ledger = ledger
        self._decisions = decisions
        self._owners = owners
        self._terminal = terminal
        self._clock = clock

    def answer(self, press: Press) -> Pressed:
        """Decide what the button says, or nothing. Every press is an event."""
        button = self._ledger.button(press.data.removeprefix(PREFIX))
        if button is None:
            self._note(press, None, Verdict.UNKNOWN)
            return Pressed(text="This button is not known (any more).", alert=True)
        try:
            self._judge(press, button)
            return Pressed(text=self._carry_out(press, button))
        except _Refused as refused:
            self._note(press, button, refused.verdict)
            return Pressed(text=refused.told, alert=True)

    def _judge(self, press: Press, button: Button) -> None:
        """Raise _Refused for a button that does not count, or not here and for them."""
        card = button.card
        if press.user_id not in self._owners():
            raise _Refused(Verdict.WRONG_USER, "Only an owner of this bot may decide that.")
        if press.chat_id != card.chat_id:
            raise _Refused(Verdict.WRONG_CHAT, "This button belongs into another chat.")
        # Nobody could say whether the card had arrived; now somebody presses its button.
        unheard = card.message_id is None
        if press.message_id != card.message_id and not unheard:
            raise _Refused(Verdict.WRONG_MESSAGE, "This button belongs to another message.")
        if button.spent:
            raise _Refused(Verdict.NONCE_USED, f"Used already; {self._now(card)}.")
        if card.expires_at is not None and self._clock() > card.expires_at:
            raise _Refused(Verdict.EXPIRED, f"Expired; /{COMMANDS[card.kind]} {card.tx_id[:8]} asks again.")
        if card.state is CardState.CLOSED:
            raise _Refused(Verdict.REPLACED, "A newer card has taken this one's place.")
        if card.state not in (CardState.OPEN, CardState.SENDING):
            raise _Refused(Verdict.NONCE_USED, f"Too late; {self._now(card)}.")
        if self._terminal and button.action is Action.APPROVE:
            raise _Refused(Verdict.TERMINAL_ONLY, "This installation is approved on the terminal alone.")
        update = self._ledger.find(card.tx_id)
        if update.digest != card.digest or _not_itself(update):
            raise _Refused(Verdict.DIGEST_CHANGED, "The update is not the one that this card has shown.")

    def _carry_out(self, press: Press, button: Button) -> str:
        told = self._event(press, button, Verdict.ACCEPTED)
        tx, by = button.card.tx_id, f"chat:{press.user_id}"
        along = self._ledger.spending(button, press.user_id, told)
        decide: dict[Action, Callable[[], Decided]] = {
            Action.APPROVE: lambda: self._decisions.approve(tx, by=by, along=along),
            Action.REJECT: lambda: self._decisions.cancel(tx, along=along),
            Action.CANCEL: lambda: self._decisions.cancel(tx, along=along),
            Action.ROLLBACK: lambda: self._decisions.rollback(tx, along=along),
        }
        try:
            if button.action is Action.KEEP:
                self._ledger.spend(button, press.user_id, told)
                message = "nothing was changed"
            else:
                decided = decide[button.action]()
                if decided.already:
                    raise _Refused(Verdict.REFUSED, f"Nothing left to do; {decided.message}.")
                message = decided.message
        except NonceSpent:
            raise _Refused(Verdict.NONCE_USED, f"Used already; {self._now(button.card)}.") from None
        except Refusal as refusal:
            raise _Refused(Verdict.REFUSED, f"{refusal}.") from None
        if button.card.message_id is None:
            self._ledger.change_card(button.card.id, {"message_id": press.message_id})
        return f"Update {tx[:8]}: {message}."

    def _now(self, card: Card) -> str:
        return f"update {card.tx_id[:8]} is {self._ledger.find(card.tx_id).status}"

    def _note(self, press: Press, button: Button | None, verdict: Verdict) -> None:
        parent = self._ledger.find(button.card.tx_id).event_id if button else None
        self._ledger.append(EventType.UPDATE_PRESSED, self._event(press, button, verdict), parent_id=parent)

    def _event(self, press: Press, button: Button | None, verdict: Verdict) -> dict[str, object]:
        about = {"tx_id": button.card.tx_id, "action": button.action} if button else {}
        where = {"user_id": press.user_id, "chat_id": press.chat_id, "message_id": press.message_id}
        return {"verdict": verdict, **about, **where}


def _not_itself(update: Update) -> bool:
    """Whether a staged update's row was changed since its digest was made."""
    return update.status is Status.STAGED and update.digest != digest(update)
