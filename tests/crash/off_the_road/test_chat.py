"""What an owner is told of an update in the chat, and presses there."""

import pytest

from supervisor.contract import EventType
from supervisor.localbot.client import LocalBotClient, Message
from supervisor.localbot.faults import FaultKind
from tests.crash.elsewhere import deaths, shown_by
from tests.crash.road import Road
from tests.support import candidates
from tests.support.checkouts import CHECKOUT
from tests.support.installation import wait_for

pytestmark = pytest.mark.exhaustive


def presses(road: Road, tx: str, verdict: str) -> int:
    """How many presses about an update came to this."""
    found = [event.payload for event in road.events(EventType.UPDATE_PRESSED) if event.payload.get("tx_id") == tx]
    return [payload["verdict"] for payload in found].count(verdict)


def about(bot: LocalBotClient, tx: str) -> list[Message]:
    """The messages about an update as they are now, but its diff."""
    return [m for m in bot.messages() if f"Update {tx[:8]}" in m.text and not m.document]


def card(bot: LocalBotClient, tx: str, label: str) -> Message:
    """The newest card of an update that has this button."""

    def look() -> Message | None:
        found = [m for m in about(bot, tx) if any(button.label == label for button in m.buttons)]
        return found[-1] if found else None

    shown = wait_for(look, 60, f"a card of {tx[:8]} with {label!r}")
    assert shown is not None
    return shown


def endings(bot: LocalBotClient, tx: str, words: str) -> list[str]:
    return [m.text for m in about(bot, tx) if m.text.startswith(f"Update {tx[:8]} ") and words in m.text]


def test_as_a_button_is_pressed(road: Road, bot: LocalBotClient) -> None:
    """It counts once, whether it decides something or nothing; what nobody heard is pressed again."""
    tx = road.installation.stage(candidates.adds_a_module(CHECKOUT, "pressed"))
    approve = card(bot, tx, "Approve")
    for place in deaths("ledger.staged.approved"):
        road.dies_at(place, lambda: bot.press("Approve", message_id=approve.message_id))
        road.installation.up()
        assert presses(road, tx, "accepted") == place.endswith(".after")
    road.reach(tx, "promoted")
    assert road.update(tx).approval_by == "chat:1"

    bot.send(f"/rollback {tx[:8]}")
    stay = card(bot, tx, "Stay")
    for place in shown_by("test_as_a_button_is_pressed"):
        road.dies_at(place, lambda: bot.press("Stay", message_id=stay.message_id))
        road.installation.up()
        assert presses(road, tx, "accepted") == 1 + place.endswith(".after")
    wait_for(lambda: next(m for m in about(bot, tx) if m.message_id == stay.message_id).buttons == (), 30, "its end")
    assert road.installation.status_of(tx) == "promoted"
    assert presses(road, tx, "accepted") == 2
    assert road.at_rest()["active"]["tx_id"] == tx


def test_as_the_bot_does_not_take_an_ending(road: Road, bot: LocalBotClient) -> None:
    """It is told at most once; after a death of which nobody knows what was told, its card shows it all the same."""
    before, after = shown_by("test_as_the_bot_does_not_take_an_ending")
    tx = road.installation.stage(candidates.adds_a_module(CHECKOUT, "told"))
    card(bot, tx, "Approve")
    road.hold("ledger.deployed_unstable.promoted.before")
    road.decide("approve", tx)
    road.until_held()
    bot.fault(FaultKind.RETRY_AFTER, "sendMessage", seconds=1)
    road.dies_at(after, lambda: None)
    road.installation.up()
    wait_for(lambda: endings(bot, tx, "is promoted"), 60, "the ending")
    bot.fault(FaultKind.RETRY_AFTER, "sendMessage", seconds=1)
    road.dies_at(before, lambda: road.installation.run("rollback", tx))
    bot.clear_faults()
    road.installation.up()
    road.reach(tx, "rolled_back")
    wait_for(lambda: any(m.text.startswith("It is rolled back") for m in about(bot, tx)), 30, "what the card says")
    road.at_rest()
    assert len(endings(bot, tx, "is promoted")) == 1
    assert len(endings(bot, tx, "was rolled back")) <= 1
