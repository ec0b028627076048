"""Cards in a chat: sent, pressed, expired, queued, and brought up to date."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.bot.client import BotApiAway, BotApiRefused, BotClient
from supervisor.cards.notifier import LOOK_AGAIN_SECONDS
from supervisor.contract import Press
from supervisor.ledger import CardState, Ledger
from supervisor.localbot.faults import FaultKind
from supervisor.localbot.store import OWNER
from supervisor.states import Status
from tests.supervisor.fakes.cards import EXPIRY, Desk, cards_desk
from tests.supervisor.fakes.updates import update_in

STRANGER = 999


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with cards_desk(tmp_path) as made:
        yield made


def labels(desk: Desk) -> list[list[str]]:
    """The buttons of every message."""
    return [[button.label for button in message.buttons] for message in desk.messages()]


# -- asked


def test_a_staged_update_is_asked_about_once(desk: Desk) -> None:
    """With buttons, and its whole diff as a file."""
    update = desk.staged()
    desk.turn()
    desk.turn()
    desk.restart()
    desk.turn()
    assert labels(desk) == [["Approve", "Reject"]]
    assert desk.card().text.startswith("Shall this update be deployed?")
    assert "greet by name" in desk.card().text
    documents = [message for message in desk.bot.user.messages() if message.document]
    assert [document.document for document in documents] == [f"change-{update.tx_id[:8]}.patch"]
    assert desk.bot.user.document(documents[0].message_id) == b"diff of greet by name"


def test_approve(desk: Desk) -> None:
    """The press decides; the card loses its buttons and follows the update to its end."""
    update = desk.staged()
    desk.turn()
    assert desk.press("Approve").text == f"Update {update.tx_id[:8]}: approved."
    found = desk.ledger.find(update.tx_id)
    assert (found.status, found.approval_by, found.approval_digest) == ("approved", f"chat:{OWNER}", found.digest)
    desk.turn()
    assert desk.messages()[0].text.startswith(f"Approved by user {OWNER}")
    for status, words in (
        (Status.DEPLOYING, "It is being deployed."),
        (Status.DEPLOYED_UNSTABLE, "It is in service, on probation."),
        (Status.PROMOTED, "It is promoted."),
    ):
        desk.moved(update, status)
        desk.turn()
        assert desk.messages()[0].text.startswith(words)
    assert all(not message.buttons for message in desk.messages())
    assert desk.verdicts() == ["accepted"]


def test_reject(desk: Desk) -> None:
    """It is cancelled, and the card says so."""
    update = desk.staged()
    desk.turn()
    assert not desk.press("Reject").alert
    desk.turn()
    assert desk.status(update) is Status.CANCELLED
    assert desk.messages()[0].text.startswith("It is cancelled.")
    assert labels(desk) == [[]]


def test_a_decision_on_the_terminal_settles_the_card(desk: Desk) -> None:
    """Whoever presses after that is told what it is now."""
    update = desk.staged()
    desk.turn()
    card = desk.card()
    desk.moved(update, Status.CANCELLED)
    assert desk.press("Approve", card).alert
    desk.turn()
    assert labels(desk) == [[]]
    assert "cancelled" in desk.press("Approve", card).text
    assert desk.status(update) is Status.CANCELLED
    assert desk.verdicts() == ["refused", "nonce_used"]


# -- refused


def test_a_nonce_is_good_once(desk: Desk) -> None:
    """Neither button of the card decides anything after one was pressed."""
    update = desk.staged()
    desk.turn()
    card = desk.card()
    desk.press("Approve", card)
    for label in ("Approve", "Reject"):
        answer = desk.press(label, card)
        assert answer.alert
        assert "is approved" in answer.text
    assert desk.status(update) is Status.APPROVED
    assert desk.verdicts() == ["accepted", "nonce_used", "nonce_used"]


@pytest.mark.parametrize(
    ("how", "verdict"),
    [
        ({"user": STRANGER}, "wrong_user"),
        ({"chat": STRANGER}, "wrong_chat"),
        ({"at": 4711}, "wrong_message"),
    ],
)
def test_a_press_by_somebody_or_somewhere_else_decides_nothing(desk: Desk, how: dict[str, int], verdict: str) -> None:
    """And the button is still good for its owner in its place."""
    update = desk.staged()
    desk.turn()
    assert desk.press("Approve", **how).alert  # type: ignore[arg-type]
    assert desk.status(update) is Status.STAGED
    desk.press("Approve")
    assert desk.status(update) is Status.APPROVED
    assert desk.verdicts() == [verdict, "accepted"]


@pytest.mark.parametrize("change", [{"tree": "f" * 40}, {"card": {"title": "harmless"}}, {"digest": "f" * 64}])
def test_a_card_of_what_the_update_was_before_decides_nothing(desk: Desk, change: dict[str, object]) -> None:
    """Its nonce is bound to the digest of what it has shown, and that to the row."""
    update = desk.staged()
    desk.turn()
    card = desk.card()
    desk.ledger.amend(update.tx_id, change)
    assert desk.press("Approve", card).alert
    assert desk.status(update) is Status.STAGED
    assert desk.verdicts() == ["digest_changed"]


@pytest.mark.parametrize("data", ["s:", "s:guessed", "guessed", "s:" + "x" * 60, "s:'; DROP TABLE cards"])
def test_a_button_that_nobody_made_is_not_known(desk: Desk, data: str) -> None:
    """Told, noted, and nothing else."""
    press = Press(data=data, user_id=OWNER, chat_id=OWNER, message_id=1, callback_id="1")
    assert desk.desk.press(press).alert
    assert desk.verdicts() == ["unknown"]


def test_a_card_expires(desk: Desk) -> None:
    """It says so, loses its buttons, and a press that was on its way decides nothing; /approve asks again."""
    update = desk.staged()
    desk.turn()
    first = desk.card()
    desk.clock.now += EXPIRY + 1
    assert desk.press("Approve", first).alert
    desk.turn()
    assert desk.messages()[0].text.startswith("Expired without a decision.")
    assert labels(desk) == [[]]
    desk.turn()
    assert len(desk.messages()) == 1
    assert desk.ask("approve", update.tx_id[:8]) == ""
    assert desk.press("Approve", first).alert
    desk.press("Approve")
    assert desk.status(update) is Status.APPROVED
    assert desk.verdicts() == ["expired", "expired", "accepted"]


# -- one at a time


def test_one_card_is_open_in_a_chat(desk: Desk) -> None:
    """The others wait until it is decided."""
    first, second = desk.staged("first"), desk.staged("second")
    desk.turn()
    assert len(desk.messages()) == 1
    assert "first" in desk.card().text
    desk.press("Approve")
    desk.turn()
    assert "second" in desk.card().text
    desk.press("Reject")
    assert [desk.status(update) for update in (first, second)] == ["approved", "cancelled"]


def test_one_that_is_asked_for_comes_first(desk: Desk) -> None:
    """The open one is set aside: its buttons count no more, and it comes again afterwards."""
    first, second = desk.staged("first"), desk.staged("second")
    desk.turn()
    old = desk.card()
    desk.ask("approve", second.tx_id)
    assert [bool(message.buttons) for message in desk.messages()] == [False, True]
    assert desk.press("Approve", old).alert
    assert desk.status(first) is Status.STAGED
    desk.press("Approve")
    desk.turn()
    assert "first" in desk.card().text
    assert desk.verdicts() == ["replaced", "accepted"]


def test_two_chats_do_not_mix(desk: Desk) -> None:
    """Each owner is asked about what they handed in; neither can press the other's button from their own chat."""
    other = 77
    desk.bot.user.send("hello", chat_id=other, user_id=other)
    desk.owners = (OWNER, other)
    mine, theirs = desk.staged("mine"), desk.staged("theirs")
    desk.ledger.amend(theirs.tx_id, {"chat_id": other})
    desk.turn()
    assert "mine" in desk.card().text
    assert "theirs" in desk.card(other).text
    assert desk.press("Approve", desk.card(other), user=OWNER, chat=OWNER).alert
    desk.press("Reject", desk.card(other), user=other, chat=other)
    assert [desk.status(update) for update in (mine, theirs)] == ["staged", "cancelled"]


def test_a_chat_that_is_no_owners_is_never_written_to(desk: Desk) -> None:
    """The worker named it; the card goes to the owner."""
    desk.bot.user.send("hello", chat_id=STRANGER, user_id=STRANGER)
    desk.ledger.amend(desk.staged().tx_id, {"chat_id": STRANGER})
    desk.turn()
    assert desk.messages(STRANGER) == []
    assert labels(desk) == [["Approve", "Reject"]]


def test_nobody_is_asked_while_nobody_owns_the_bot(desk: Desk) -> None:
    """The first who claims it is."""
    desk.owners = ()
    desk.staged()
    desk.turn()
    assert desk.messages() == []
    desk.owners = (OWNER,)
    desk.turn()
    assert len(desk.messages()) == 1


# -- terminal


def test_on_the_terminal_alone(desk: Desk) -> None:
    """A notice without buttons, that names the command; a press of an older card decides nothing."""
    update = desk.staged()
    desk.turn()
    card = desk.card()
    desk.terminal = True
    desk.restart()
    assert desk.press("Approve", card).alert
    assert desk.status(update) is Status.STAGED
    assert "terminal alone" in desk.ask("approve", update.tx_id)
    another = desk.staged("another")
    desk.turn()
    notice = desk.messages()[-1]
    assert notice.buttons == ()
    assert f"supervisor approve {another.tx_id[:8]}" in notice.text
    assert desk.verdicts() == ["terminal_only"]


# -- commands


def test_rollback_asks_first(desk: Desk) -> None:
    """And goes back when that is confirmed."""
    update = desk.moved(desk.staged(), Status.APPROVED, Status.DEPLOYING, Status.DEPLOYED_UNSTABLE, Status.PROMOTED)
    desk.turn()
    assert desk.ask("rollback", update.tx_id[:8]) == ""
    assert [button.label for button in desk.card().buttons] == ["Go back", "Stay"]
    assert desk.status(update) is Status.PROMOTED
    assert "going back" in desk.press("Go back").text
    assert desk.status(update) is Status.ROLLBACK_PENDING


def test_rollback_is_not_confirmed(desk: Desk) -> None:
    """Nothing is changed, and the button is used up."""
    update = desk.moved(desk.staged(), Status.APPROVED, Status.DEPLOYING, Status.DEPLOYED_UNSTABLE, Status.PROMOTED)
    desk.ask("rollback", update.tx_id)
    card = desk.card()
    desk.press("Stay", card)
    desk.turn()
    assert desk.press("Go back", card).alert
    assert desk.status(update) is Status.PROMOTED
    assert any(message.text.startswith("Nothing was changed.") for message in desk.messages())
    assert desk.verdicts() == ["accepted", "nonce_used"]


def test_cancel_asks_first(desk: Desk) -> None:
    """Also about one that is still at the gates."""
    update = update_in(desk.ledger, Status.TESTING, base=desk.genesis)
    assert desk.ask("cancel", update.tx_id[:8]) == ""
    assert "It is testing." in desk.card().text
    desk.press("Cancel it")
    assert desk.status(update) is Status.CANCELLED


@pytest.mark.parametrize(
    ("name", "status", "told"),
    [
        ("approve", Status.TESTING, "only a staged one can be approved"),
        ("cancel", Status.PROMOTED, "cannot be cancelled any more"),
        ("rollback", Status.STAGED, "is staged and not active"),
    ],
)
def test_what_cannot_be_decided_is_not_asked(desk: Desk, name: str, status: Status, told: str) -> None:
    """One line that says why."""
    update = update_in(desk.ledger, status, base=desk.genesis)
    desk.turn()
    before = len(desk.messages())
    assert told in desk.ask(name, update.tx_id)
    assert len(desk.messages()) == before


@pytest.mark.parametrize("name", ["approve", "cancel", "rollback", "diff"])
def test_commands_are_for_owners_in_their_own_chats(desk: Desk, name: str) -> None:
    """A stranger, and a group, are told nothing and sent nothing."""
    update = desk.staged()
    desk.turn()
    before = len(desk.bot.user.messages())
    for user, chat in ((STRANGER, STRANGER), (STRANGER, OWNER), (OWNER, -5)):
        assert "owner" in desk.ask(name, update.tx_id, user=user, chat=chat)
    assert len(desk.bot.user.messages()) == before


def test_diff_is_a_document(desk: Desk) -> None:
    """Of any update that made a revision."""
    update = desk.staged()
    assert desk.ask("diff", update.tx_id[:8]) == ""
    sent = [message for message in desk.bot.user.messages() if message.document]
    assert desk.bot.user.document(sent[0].message_id) == b"diff of greet by name"
    assert "changes nothing" in desk.ask("diff", desk.genesis.tx_id)


# -- the Bot API at its worst


def test_a_card_that_was_not_accepted_is_sent_later(desk: Desk) -> None:
    """With other nonces; the chat sees one card."""
    desk.staged()
    desk.bot.user.fault(FaultKind.RETRY_AFTER, "sendMessage", seconds=3)
    with pytest.raises(BotApiRefused) as refused:
        desk.turn()
    assert refused.value.retry_after == 3
    desk.turn()
    assert labels(desk) == [["Approve", "Reject"]]
    assert not desk.press("Approve").alert


def test_a_card_that_may_have_arrived_is_sent_again_only_after_a_look(desk: Desk) -> None:
    """The copy says so, and the buttons of the first count no more."""
    update = desk.staged()
    desk.bot.user.fault(FaultKind.DROP_AFTER, "sendMessage")
    desk.turn()
    desk.turn()
    assert len(desk.messages()) == 1
    first = desk.card()
    desk.clock.now += LOOK_AGAIN_SECONDS + 1
    desk.turn()
    assert len(desk.messages()) == 2
    second = desk.card()
    assert "Sent again" in second.text
    assert desk.press("Approve", first).alert
    assert desk.status(update) is Status.STAGED
    desk.press("Approve", second)
    assert desk.verdicts() == ["replaced", "accepted"]


def test_a_card_that_arrived_unheard_can_be_pressed(desk: Desk) -> None:
    """Then it did arrive; there is no second one."""
    update = desk.staged()
    desk.bot.user.fault(FaultKind.DROP_AFTER, "sendMessage")
    desk.turn()
    desk.press("Approve")
    assert desk.status(update) is Status.APPROVED
    desk.clock.now += LOOK_AGAIN_SECONDS + 1
    desk.turn()
    assert len(desk.messages()) == 1
    assert desk.messages()[0].text.startswith("Approved by")


def test_a_send_that_a_crash_has_cut_is_looked_at_again(desk: Desk) -> None:
    """What stood in the ledger before it is enough."""
    update = desk.staged()
    desk.turn()
    [card] = desk.ledger.cards(CardState.OPEN)
    desk.ledger.change_card(card.id, {"state": CardState.SENDING, "message_id": None})
    desk.restart()
    desk.clock.now += LOOK_AGAIN_SECONDS + 1
    desk.turn()
    desk.press("Approve")
    assert desk.status(update) is Status.APPROVED


def test_a_bot_that_is_away_is_waited_for(desk: Desk) -> None:
    """Nothing is lost, and nothing is sent twice."""
    desk.staged()
    there, desk.client = desk.client, BotClient("http://localhost/bot", "1:x", socket=Path("/nowhere.sock"))
    desk.restart()
    with pytest.raises(BotApiAway):
        desk.turn()
    desk.client = there
    desk.restart()
    desk.turn()
    assert labels(desk) == [["Approve", "Reject"]]


def test_a_card_that_was_deleted_does_not_hold_up_the_others(desk: Desk) -> None:
    """It cannot be changed any more."""
    desk.staged("first")
    desk.turn()
    [card] = desk.ledger.cards(CardState.OPEN)
    desk.ledger.change_card(card.id, {"message_id": 4711})
    desk.press("Approve", at=4711)
    desk.staged("second")
    desk.turn()
    assert "second" in desk.card().text


def test_a_chat_that_refuses_the_card_is_not_tried_for_ever(desk: Desk) -> None:
    """The terminal can still approve it, and /approve asks again."""
    desk.owners = (STRANGER,)  # has never written to the bot
    desk.staged()
    desk.turn()
    desk.turn()
    sends = [call for call in desk.bot.user.calls() if call.method.lower() == "sendmessage"]
    assert len(sends) == 1


def test_the_ledger_can_be_read_by_a_supervisor_that_comes_later(desk: Desk, tmp_path: Path) -> None:
    """No card is lost with the process that wrote it."""
    desk.staged()
    desk.turn()
    with Ledger.read_only(tmp_path / "supervisor.db") as ledger:
        assert [card.state for card in ledger.cards(CardState.OPEN)] == ["open"]
