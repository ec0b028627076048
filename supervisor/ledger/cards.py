"""Cards: what the supervisor has asked in a chat, what each button is worth, and which endings were told."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from peewee import fn

from supervisor.contract.events import EventType
from supervisor.ledger.errors import NonceSpent
from supervisor.ledger.models import Artifact, CardRecord, Ending, Nonce
from supervisor.ledger.updates import COLUMNS, Updates
from supervisor.ledger.values import Action, Button, Card, CardKind, CardState, EndingState, Origin, Update
from supervisor.states import Status

_LIVE: Final = (CardState.QUEUED, CardState.SENDING, CardState.OPEN)


def nonce_hash(nonce: str) -> str:
    """What is kept of a nonce."""
    return hashlib.sha256(nonce.encode()).hexdigest()


class Cards(Updates):
    """Everything about cards."""

    def add_card(self, update: Update, kind: CardKind, chat_id: int, *, urgent: bool = False) -> Card:
        """Queue a card. One that the chat was asked before about the same waits or counts no more."""
        now = self._clock()
        with self._writing("card.add"):
            same = (CardRecord.tx_id == update.tx_id) & (CardRecord.kind == kind)
            self._run(
                CardRecord.update(state=CardState.CLOSED, updated_at=now).where(
                    same & CardRecord.state.in_(list(_LIVE))
                )
            )
            row = {"tx_id": update.tx_id, "kind": kind, "state": CardState.QUEUED, "chat_id": chat_id}
            row |= {"digest": update.digest, "shown": "", "urgent": urgent, "created_at": now, "updated_at": now}
            self._run(CardRecord.insert(row))
            found: Card = self._one(CardRecord.select().order_by(CardRecord.id.desc()).objects(Card))
            return found

    def begin_card(self, card_id: int, nonces: Mapping[str, Action], expires_at: float | None) -> None:
        """A card is about to be sent with these nonces on its buttons; it is on file before the chat can have it."""
        rows = [
            {"nonce_sha256": nonce_hash(nonce), "card_id": card_id, "action": action}
            for nonce, action in nonces.items()
        ]
        with self._writing("card.begin"):
            changed = {"state": CardState.SENDING, "expires_at": expires_at, "updated_at": self._clock()}
            self._run(CardRecord.update(changed).where(CardRecord.id == card_id))
            # An earlier try has reached nobody.
            self._run(Nonce.delete().where(Nonce.card_id == card_id))
            for row in rows:
                self._run(Nonce.insert(row))

    def card_sent(self, card_id: int, message_id: int, shown: str) -> None:
        """The chat has the card. Its buttons count from then on, unless one was pressed already."""
        now, card = self._clock(), CardRecord.id == card_id
        with self._writing("card.sent"):
            self._run(CardRecord.update(message_id=message_id, shown=shown, updated_at=now).where(card))
            counts = card & (CardRecord.state == CardState.SENDING)
            self._run(CardRecord.update(state=CardState.OPEN).where(counts))

    def cards_to_look_at(self) -> list[Card]:
        """Cards that are in a chat and ask something, or may not show what became of it, oldest first."""
        other = (CardRecord.shown != Artifact.status) | (CardRecord.kind != CardKind.APPROVAL)
        behind = (CardRecord.state == CardState.FOLLOWING) & other
        asking = CardRecord.state == CardState.OPEN
        query = CardRecord.select().join(Artifact, on=(Artifact.tx_id == CardRecord.tx_id)).where(asking | behind)
        return list(self._rows(query.order_by(CardRecord.id).objects(Card)))

    def change_card(self, card_id: int, changes: Mapping[str, object]) -> None:
        """Set columns of a card."""
        with self._writing("card.change"):
            self._run(CardRecord.update({**changes, "updated_at": self._clock()}).where(CardRecord.id == card_id))

    def card(self, card_id: int) -> Card:
        """One card, by the id that the ledger gave it."""
        found: Card = self._one(CardRecord.select().where(CardRecord.id == card_id).objects(Card))
        return found

    def cards(self, *states: CardState) -> list[Card]:
        """The cards in any of these states, those that somebody asked for first, then the oldest."""
        query = CardRecord.select().where(CardRecord.state.in_(list(states)))
        return list(self._rows(query.order_by(CardRecord.urgent.desc(), CardRecord.id).objects(Card)))

    def cards_of(self, tx_id: str) -> list[Card]:
        """All cards about an update, newest first."""
        query = CardRecord.select().where(CardRecord.tx_id == tx_id).order_by(CardRecord.id.desc())
        return list(self._rows(query.objects(Card)))

    def button(self, nonce: str) -> Button | None:
        """The button that a nonce was made for."""
        hashed = nonce_hash(nonce)
        row = self._one(Nonce.select(Nonce.card_id, Nonce.action, Nonce.spent_at).where(Nonce.nonce_sha256 == hashed))
        if row is None:
            return None
        return Button(hashed, Action(row.action), self.card(row.card_id), spent=row.spent_at is not None)

    def spend(self, button: Button, user_id: int, payload: Mapping[str, object]) -> None:
        """Use up a card's buttons with nothing else to do. Raises NonceSpent."""
        with self._writing("card.spend"):
            self._spend(button, user_id, payload)

    def spending(self, button: Button, user_id: int, payload: Mapping[str, object]) -> Callable[[], None]:
        """The same as a part of a move: given to it as ``along``."""
        return lambda: self._spend(button, user_id, payload)

    def _spend(self, button: Button, user_id: int, payload: Mapping[str, object]) -> None:
        """Inside ``_writing``: all of a card's buttons count no more, and the press is an event."""
        now, card = self._clock(), CardRecord.id == button.card.id
        counts = CardRecord.state.in_([CardState.OPEN, CardState.SENDING])
        if not self._run(CardRecord.update(state=CardState.FOLLOWING, updated_at=now).where(card & counts)):
            raise NonceSpent
        self._run(Nonce.update(spent_at=now, spent_by=user_id).where(Nonce.card_id == button.card.id))
        self._log(EventType.UPDATE_PRESSED, self._encode(payload), self._get(button.card.tx_id).event_id, now)

    # Endings

    def untold(self, statuses: Sequence[Status]) -> list[Update]:
        """Updates that came to any of these, of which no chat was told yet, oldest first."""
        ending = Ending.select(Ending.id).where(Ending.id == Artifact.tx_id.concat(" ").concat(Artifact.status))
        wanted = Artifact.status.in_(list(statuses)) & (Artifact.origin != Origin.GENESIS) & ~fn.EXISTS(ending)
        query = Artifact.select(COLUMNS).where(wanted).order_by(Artifact.event_id)
        return list(self._rows(query.objects(Update)))

    def note_ending(self, update: Update, state: EndingState) -> None:
        """What became of the final words about what the update has come to."""
        row = {"state": state, "told_at": self._clock()}
        key = f"{update.tx_id} {update.status}"
        with self._writing("ending"):
            self._run(Ending.insert(id=key, **row).on_conflict(conflict_target=[Ending.id], update=row))

    def forget_ending(self, update: Update) -> None:
        """The final words were not sent: they are still to be."""
        with self._writing("ending.forget"):
            self._run(Ending.delete().where(Ending.id == f"{update.tx_id} {update.status}"))
