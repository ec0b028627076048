"""What an owner opens to the tools: a directory for a time, the network for a call."""

from pathlib import Path

import pytest

from supervisor.contract import EventType
from supervisor.ledger import Ledger
from supervisor.localbot.client import LocalBotClient
from supervisor.specs import LABEL_GRANTS
from tests.crash.elsewhere import deaths, shown_by
from tests.crash.road import Road
from tests.support.installation import wait_for
from tests.support.played import Call
from tests.support.toolwork import Toolwork

pytestmark = pytest.mark.exhaustive


def in_accordance(road: Road) -> list[int]:
    """The grants in the ledger, as soon as every toolbox has them and no other."""
    with Ledger.read_only(road.installation.paths.ledger) as ledger:
        numbers = [row.number for row in ledger.open_grants()]

    def look() -> bool:
        boxes = road.installation.containers("toolbox")
        wanted = ",".join(map(str, numbers))
        return len(boxes) == 2 and all(box["Config"]["Labels"][LABEL_GRANTS] == wanted for box in boxes)

    wait_for(look, 60, f"toolboxes with {numbers}")
    return numbers


def test_as_a_directory_is_granted_and_taken_back(road: Road, bot: LocalBotClient, ground: Path) -> None:
    """Granted once and taken back once; whatever the ledger says, the toolboxes have it soon and nothing else."""
    path = ground / "granted"
    path.mkdir(mode=0o777)
    for place, there in zip(deaths("ledger.grant"), (0, 1), strict=True):
        road.dies_at(place, lambda: bot.send(f"/grant {path} ro 1"))
        assert len(road.events(EventType.GRANT_CREATED)) == there
        road.installation.up()
        in_accordance(road)
    (number,) = in_accordance(road)
    for place, there in zip(deaths("ledger.grant.end"), (0, 1), strict=True):
        road.dies_at(place, lambda: bot.send(f"/revoke {number}"))
        assert len(road.events(EventType.GRANT_REVOKED)) == there
        road.installation.up()
        in_accordance(road)
    assert in_accordance(road) == []
    assert len(road.events(EventType.GRANT_CREATED)) == 1
    assert "Nothing is granted" in road.installation.say("/grants")
    road.at_rest()


def test_as_a_call_is_given_the_network(road: Road, bot: LocalBotClient, work: Toolwork) -> None:
    """The call ends, its toolbox with it, and the next one is asked for anew."""
    online = Call("bash", {"command": "echo there", "network": True})
    for place in shown_by("test_as_a_call_is_given_the_network"):
        job = work.begin(online)
        question = work.question(job)
        road.dies_at(place, lambda question=question: work.press("Allow", question))  # type: ignore[misc]
        road.installation.up()
        work.results(job)
        assert wait_for(lambda: road.left_of("network-toolbox") == [], 30, "the end of its toolbox")
    job = work.begin(online)
    work.press("Allow", work.question(job))
    assert work.results(job)[0]["stdout"].strip() == "there"
    road.at_rest()
