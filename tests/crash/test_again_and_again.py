"""Every supervisor dies at one place of an update, one after the other, on the real engine.

Long, like the deaths at all places: `make crash` runs it.
"""

from collections.abc import Callable

import pytest

from supervisor.states import Status
from supervisor.updates.attempts import MOST_DEATHS
from tests.crash.courses import THERE_AND_BACK
from tests.crash.road import PAUSE_SECONDS, Road
from tests.support.conversation import Conversation
from tests.support.moves import told

S = Status
_DEPLOYING = (S.CREATED, S.BUILDING, S.TESTING, S.SELF_CHECKING, S.STAGED, S.APPROVED, S.DEPLOYING)
_BACK = (S.ROLLBACK_PENDING, S.ROLLED_BACK)

#: By the place at which every supervisor dies: the way of an update that is approved as soon as it may be.
GIVEN_UP: dict[str, tuple[Status, ...]] = {
    "engine.build.after": (S.CREATED, S.BUILDING, S.BUILD_FAILED),
    "ledger.lease.before": (*_DEPLOYING, S.DEPLOY_FAILED),
    "ledger.deployed_unstable.promoted.before": (*_DEPLOYING, S.DEPLOYED_UNSTABLE, *_BACK),
}


def die(road: Road, place: str, act: Callable[[], object], times: int) -> None:
    """So many supervisors die there, the first one as something is done; then one lives."""
    road.dies_at(place, act)
    for _ in range(times - 1):
        road.lay(place)
        road.starts_anew()
        road.died(place)
    road.starts_anew()


@pytest.mark.exhaustive
@pytest.mark.fault(2)
@pytest.mark.parametrize("place", GIVEN_UP)
def test_a_place_at_which_every_supervisor_dies(road: Road, place: str) -> None:
    """The step is given up after so many deaths, blamed on nobody: blue is active, and each message answered once."""
    blue = road.at_rest()["active"]["sha"]
    chain = GIVEN_UP[place]
    title = "again_and_again_" + "".join(c if c.isalnum() else "_" for c in place)
    conversation = Conversation(road.installation, pause=PAUSE_SECONDS)
    submitted: list[str] = []

    def submit() -> None:
        submitted.append(road.submit(title, THERE_AND_BACK.patch(title)))

    def go() -> None:
        if S.APPROVED in chain:
            submit()
            road.reach(submitted[0], "staged")
            die(road, place, lambda: road.decide("approve", submitted[0]), MOST_DEATHS)
        else:  # whoever takes it in begins the step before
            die(road, place, submit, 1 + MOST_DEATHS)
        road.reach(submitted[0], chain[-1])

    conversation.during(go)
    update = road.update(submitted[0])
    assert road.events_of(update.tx_id) == told(chain)
    assert update.blame == "external"
    assert f"{MOST_DEATHS} supervisors died" in (update.last_error or "")
    assert road.at_rest()["active"]["sha"] == blue
    road.check_answers(conversation)


@pytest.mark.exhaustive
@pytest.mark.fault(2)
def test_a_way_back_at_whose_end_every_supervisor_dies(road: Road) -> None:
    """It is never given up, as nothing is safer than its end: whoever lives carries it out."""
    blue = road.at_rest()["active"]["sha"]
    tx = road.installation.promote(THERE_AND_BACK.patch("taken_back_again_and_again"))
    place = "ledger.rollback_pending.rolled_back.before"
    die(road, place, lambda: road.decide("rollback", tx), 1 + MOST_DEATHS)
    road.reach(tx, S.ROLLED_BACK)
    assert road.events_of(tx) == told(THERE_AND_BACK.chain)
    assert road.at_rest()["active"]["sha"] == blue
