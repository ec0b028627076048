"""How an update ended is told in its chat: once, whatever happens meanwhile."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.bot.client import BotApiRefused
from supervisor.cards.endings import WATCHER_SECONDS
from supervisor.contract import EventType
from supervisor.ledger import NewUpdate, Origin, Update
from supervisor.localbot.faults import FaultKind
from supervisor.localbot.store import OWNER
from supervisor.states import Status
from tests.supervisor.fakes.cards import Desk, cards_desk
from tests.supervisor.fakes.updates import update_in

DEPLOYED = (Status.APPROVED, Status.DEPLOYING, Status.DEPLOYED_UNSTABLE)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with cards_desk(tmp_path) as made:
        yield made


def told(desk: Desk) -> list[str]:
    """The messages after the card."""
    return [message.text for message in desk.messages()[1:]]


def from_chat(desk: Desk, status: Status, **changes: object) -> Update:
    """An update of the agent's that ended at the gates."""
    new = NewUpdate(origin=Origin.CHAT, title="greet", chat_id=OWNER, base_sha=desk.genesis.sha)
    update = desk.ledger.create(new)
    desk.moved(update, Status.BUILDING, Status.TESTING)
    return desk.moved(update, status, **changes)


def test_promoted(desk: Desk) -> None:
    """With what is in service now, and how to go back; once, also over a restart."""
    update = desk.staged()
    desk.turn()
    desk.moved(update, *DEPLOYED, Status.PROMOTED)
    desk.turn()
    desk.restart()
    desk.turn()
    [text] = told(desk)
    assert text.startswith(f"Update {update.tx_id[:8]} “greet by name” is promoted.")
    assert str(update.sha)[:12] in text
    assert f"/rollback_{update.tx_id[:8]}" in text
    events = desk.ledger.events(EventType.UPDATE_ENDING_TOLD)
    assert [event.payload["status"] for event in events] == ["promoted"]


def test_rolled_back_with_the_reason_and_the_last_lines(desk: Desk) -> None:
    """As they were printed, made harmless."""
    update = desk.staged()
    desk.turn()
    evidence = "it exited with code 7\n" + "\n".join(f"line {n} <b>\x1b[2J" for n in range(100)) + "\nthe last line"
    desk.moved(update, *DEPLOYED, Status.ROLLBACK_PENDING, last_error=evidence, blame="own")
    desk.moved(update, Status.ROLLED_BACK)
    desk.turn()
    [text] = told(desk)
    assert "was rolled back: it exited with code 7" in text
    assert f"In service: {str(desk.genesis.sha)[:12]}" in text
    assert "line 99 <b>\\x1b[2J" in text
    assert text.endswith("the last line")
    assert "line 1 " not in text


def test_an_update_that_was_promoted_and_later_rolled_back_has_two_endings(desk: Desk) -> None:
    """Each when it happened."""
    update = desk.staged()
    desk.turn()
    desk.moved(update, *DEPLOYED, Status.PROMOTED)
    desk.turn()
    desk.moved(update, Status.ROLLBACK_PENDING, blame="person")
    desk.moved(update, Status.ROLLED_BACK)
    desk.turn()
    first, second = told(desk)
    assert "is promoted" in first
    assert "was rolled back: You asked for it." in second


def test_a_failed_deploy(desk: Desk) -> None:
    """And that what ran before goes on."""
    update = desk.staged()
    desk.turn()
    desk.moved(update, Status.APPROVED, Status.DEPLOYING)
    desk.moved(update, Status.DEPLOY_FAILED, last_error="the approved image is gone")
    desk.turn()
    assert "was not deployed: the approved image is gone" in told(desk)[0]


def test_superseded_and_made_again(desk: Desk) -> None:
    """Only once it is known whether it could be made again."""
    one, two = desk.staged("one"), desk.staged("two")
    desk.turn()
    for update in (one, two):
        desk.moved(update, Status.SUPERSEDED)
    desk.turn()
    assert told(desk) == []
    again = desk.ledger.create_again(one, b"diff", desk.genesis.revision)
    desk.ledger.amend(two.tx_id, {"code": "conflict", "last_error": "both changed worker/a.py"})
    desk.turn()
    first, second = told(desk)
    assert f"is made again on the new base, as update {again.tx_id[:8]}" in first
    assert "was superseded: both changed worker/a.py" in second


def test_a_cancelled_one_has_no_ending(desk: Desk) -> None:
    """Its card says so, and whoever did it was answered."""
    update = desk.staged()
    desk.turn()
    desk.moved(update, Status.CANCELLED)
    desk.turn()
    assert told(desk) == []


def test_a_failed_gate_is_told_when_no_worker_watched(desk: Desk) -> None:
    """A worker that watches is given some time."""
    failed = from_chat(desk, Status.TEST_FAILED, last_error="1 failed: test_a\nAssertionError")
    watched = from_chat(desk, Status.TEST_FAILED, last_error="1 failed: test_b")
    desk.desk.watched(watched.tx_id)
    assert 0 < desk.turn() <= WATCHER_SECONDS
    assert desk.messages() == []
    desk.clock.now += WATCHER_SECONDS
    desk.turn()
    [message] = desk.messages()
    assert f"Update {failed.tx_id[:8]}" in message.text
    assert "is test_failed: 1 failed: test_a" in message.text
    assert message.text.endswith("AssertionError")


def test_a_failed_gate_of_the_terminals_is_told_there(desk: Desk) -> None:
    """Nobody in the chat has asked for it."""
    update_in(desk.ledger, Status.TEST_FAILED, base=desk.genesis)
    desk.clock.now += 2 * WATCHER_SECONDS
    desk.turn()
    assert desk.messages() == []


def test_an_ending_that_was_not_accepted_is_told_later(desk: Desk) -> None:
    """Once."""
    update = desk.staged()
    desk.turn()
    desk.moved(update, *DEPLOYED, Status.PROMOTED)
    desk.bot.user.fault(FaultKind.RETRY_AFTER, "sendMessage", seconds=2)
    with pytest.raises(BotApiRefused):
        desk.turn()
    desk.turn()
    assert len(told(desk)) == 1


@pytest.mark.parametrize("kind", [FaultKind.DROP, FaultKind.DROP_AFTER])
def test_an_ending_that_may_have_arrived_is_not_told_twice(desk: Desk, kind: FaultKind) -> None:
    """The card shows it in any case."""
    update = desk.staged()
    desk.turn()
    desk.moved(update, *DEPLOYED, Status.PROMOTED)
    desk.bot.user.fault(kind, "sendMessage")
    desk.turn()
    desk.restart()
    desk.turn()
    assert len(told(desk)) <= 1
    assert desk.messages()[0].text.startswith("It is promoted.")


def test_an_update_that_never_had_a_card_has_an_ending_all_the_same(desk: Desk) -> None:
    """Approved on the terminal before the card was sent."""
    desk.moved(desk.staged(), *DEPLOYED, Status.PROMOTED)
    desk.turn()
    assert ["is promoted" in message.text for message in desk.messages()] == [True]
