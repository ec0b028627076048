"""Cards in the ledger: one that counts at a time, and buttons that are used up once."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.contract import EventType
from supervisor.ledger import (
    Action,
    Button,
    Card,
    CardKind,
    CardState,
    EndingState,
    Ledger,
    LostRace,
    NonceSpent,
    Update,
)
from supervisor.states import FINAL, Status
from tests.supervisor.fakes.updates import genesis, update_in

CHAT = 7


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(tmp_path / "supervisor.db") as opened:
        yield opened


@pytest.fixture
def update(ledger: Ledger) -> Update:
    return update_in(ledger, Status.STAGED, base=genesis(ledger))


def sent(ledger: Ledger, update: Update, *nonces: str) -> Card:
    """A card that is open with approve and reject."""
    card = ledger.add_card(update, CardKind.APPROVAL, CHAT)
    ledger.begin_card(card.id, dict(zip(nonces, (Action.APPROVE, Action.REJECT), strict=False)), expires_at=1e12)
    ledger.change_card(card.id, {"state": CardState.OPEN, "message_id": 5, "shown": "staged"})
    return ledger.card(card.id)


def button(ledger: Ledger, nonce: str) -> Button:
    found = ledger.button(nonce)
    assert found is not None
    return found


def approve(ledger: Ledger, update: Update, pressed: Button) -> Update:
    along = ledger.spending(pressed, 1, {"verdict": "approved"})
    return ledger.move(update.tx_id, Status.STAGED, Status.APPROVED, along=along)


def test_a_nonce_is_not_in_the_file(ledger: Ledger, update: Update) -> None:
    """Whoever reads the ledger cannot press."""
    sent(ledger, update, "the-nonce-itself")
    assert ledger.button("another") is None
    assert button(ledger, "the-nonce-itself").action is Action.APPROVE
    written = b"".join(path.read_bytes() for path in ledger.path.parent.iterdir())
    assert b"the-nonce-itself" not in written


def test_a_press_uses_up_all_buttons_of_its_card(ledger: Ledger, update: Update) -> None:
    """With the move and its event, all or nothing."""
    card = sent(ledger, update, "yes", "no")
    assert approve(ledger, update, button(ledger, "yes")).status is Status.APPROVED
    assert [button(ledger, nonce).spent for nonce in ("yes", "no")] == [True, True]
    assert ledger.card(card.id).state is CardState.FOLLOWING
    assert [event.payload for event in ledger.events(EventType.UPDATE_PRESSED)] == [{"verdict": "approved"}]


def test_a_button_that_is_used_up_moves_nothing(ledger: Ledger, update: Update) -> None:
    """The move that came along with it is undone."""
    sent(ledger, update, "yes", "no")
    no, yes = button(ledger, "no"), button(ledger, "yes")
    ledger.spend(no, 1, {"verdict": "kept"})
    with pytest.raises(NonceSpent):
        approve(ledger, update, yes)
    assert ledger.find(update.tx_id).status is Status.STAGED
    assert len(ledger.events(EventType.UPDATE_PRESSED)) == 1


def test_a_press_that_loses_the_race_uses_up_nothing(ledger: Ledger, update: Update) -> None:
    """The update went another way first."""
    sent(ledger, update, "yes")
    pressed = button(ledger, "yes")
    ledger.move(update.tx_id, Status.STAGED, Status.CANCELLED)
    with pytest.raises(LostRace):
        approve(ledger, update, pressed)
    assert not button(ledger, "yes").spent
    assert ledger.events(EventType.UPDATE_PRESSED) == []


def test_another_card_about_the_same_takes_the_place_of_the_first(ledger: Ledger, update: Update) -> None:
    """The buttons of the first count no more."""
    sent(ledger, update, "first")
    sent(ledger, update, "second")
    with pytest.raises(NonceSpent):
        approve(ledger, update, button(ledger, "first"))
    assert approve(ledger, update, button(ledger, "second")).status is Status.APPROVED


def test_cards_that_were_asked_for_come_first(ledger: Ledger) -> None:
    """Then the oldest."""
    base = genesis(ledger)
    updates = [update_in(ledger, Status.STAGED, base=base) for _ in range(3)]
    for update, urgent in zip(updates, (False, False, True), strict=True):
        ledger.add_card(update, CardKind.APPROVAL, CHAT, urgent=urgent)
    queued = [card.tx_id for card in ledger.cards(CardState.QUEUED)]
    assert queued == [updates[2].tx_id, updates[0].tx_id, updates[1].tx_id]


def test_each_ending_is_told_once(ledger: Ledger, update: Update) -> None:
    """One that was promoted, and later rolled back, has two of them; the first revision has none."""
    for source, target in ((Status.STAGED, Status.APPROVED), (Status.APPROVED, Status.DEPLOYING)):
        ledger.move(update.tx_id, source, target)
    statuses = [*FINAL, Status.PROMOTED]
    assert ledger.untold(statuses) == []
    ledger.move(update.tx_id, Status.DEPLOYING, Status.DEPLOYED_UNSTABLE)
    promoted = ledger.move(update.tx_id, Status.DEPLOYED_UNSTABLE, Status.PROMOTED)
    assert ledger.untold(statuses) == [promoted]
    ledger.note_ending(promoted, EndingState.SENDING)
    ledger.note_ending(promoted, EndingState.TOLD)
    assert ledger.untold(statuses) == []
    ledger.move(update.tx_id, Status.PROMOTED, Status.ROLLBACK_PENDING)
    back = ledger.move(update.tx_id, Status.ROLLBACK_PENDING, Status.ROLLED_BACK, restored=str(update.base_sha))
    assert ledger.untold(statuses) == [back]
    ledger.note_ending(back, EndingState.SENDING)
    ledger.forget_ending(back)
    assert ledger.untold(statuses) == [back]


def test_what_is_to_be_made_again_on_a_newer_base(ledger: Ledger) -> None:
    """A superseded update, until another names it or it says why there is none."""
    base = genesis(ledger)
    superseded = [update_in(ledger, Status.SUPERSEDED, base=base) for _ in range(2)]
    assert [update.tx_id for update in ledger.to_be_made_again()] == [update.tx_id for update in superseded]
    ledger.amend(superseded[0].tx_id, {"code": "conflict"})
    ledger.create_again(superseded[1], b"diff", base.revision)
    assert ledger.to_be_made_again() == []
