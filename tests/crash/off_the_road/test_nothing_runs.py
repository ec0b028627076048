"""No worker comes up: the supervisor stands in at the bot."""

import pytest

from supervisor.contract import EventType
from supervisor.homelock import held
from supervisor.ledger import Ledger
from supervisor.localbot.client import LocalBotClient
from tests.crash.elsewhere import deaths, shown_by
from tests.crash.road import Road
from tests.e2e.test_rescue import UNUSABLE
from tests.support.conversation import said
from tests.support.echo import PREFIX
from tests.support.installation import wait_for

pytestmark = pytest.mark.exhaustive


def test_while_nothing_runs(road: Road, bot: LocalBotClient) -> None:
    """What was written is kept, and answered once when a worker is back; the owner is told what goes on.

    What the supervisor itself had sent as it died is sent once more, since nobody knows that it was.
    """
    assert road.installation.say("hello") == f"{PREFIX}hello"
    cursor = bot.events()[-1].cursor
    stops_working(road)
    for place in shown_by("test_while_nothing_runs"):
        kind = place.rpartition(".")[0]
        if kind == "ledger.kept.taken":
            break
        road.lay(place)  # before anybody starts who might come by at once
        if not held(road.installation.paths.lock):
            road.starts_anew(UNUSABLE)
        if kind == "ledger.keep":
            bot.send(f"kept {place}")
        if kind == "ledger.kept.answered":
            bot.send("/status")
        road.died(place)
    road.starts_anew(UNUSABLE)
    wait_for(lambda: said(bot, cursor, "No worker runs: "), 60, "the notice")
    wait_for(lambda: len(said(bot, cursor, "Nothing runs: ")) >= 3, 60, "the answers to /status")
    assert said(bot, cursor, PREFIX) == []

    for place in deaths("ledger.kept.taken"):
        road.lay(place)
        road.installation.run("up")
        road.come_by(place)
    road.installation.up()
    texts = [f"{PREFIX}kept {place}" for place in deaths("ledger.keep")]
    wait_for(lambda: len(said(bot, cursor, PREFIX)) >= len(texts), 60, "the answers to what was kept")
    assert road.installation.say("and now?") == f"{PREFIX}and now?"
    assert said(bot, cursor, PREFIX) == [*texts, f"{PREFIX}and now?"]
    assert len(said(bot, cursor, "No worker runs: ")) == 2  # the first of them was sent, and its sending not noted
    assert len(said(bot, cursor, "Nothing runs: ")) == 3  # of two questions; one answer was not noted
    assert len(road.events(EventType.RESCUE_STARTED)) == 1
    with Ledger.read_only(road.installation.paths.ledger) as ledger:
        assert ledger.notices() == []
    road.at_rest()


def stops_working(road: Road) -> None:
    """Every worker ends at its start from now on, and those that ran are gone."""
    road.installation.run("up", settings=UNUSABLE).expect(1)
    road.installation.kill_keeper()
    road.kill_containers("worker")
