"""What becomes of an update beside its road: an owner's check, a failed build, a cancellation, another base."""

from threading import Thread
from typing import Final

import pytest

from supervisor.homelock import held
from supervisor.ledger import Ledger
from supervisor.states import Status
from tests.crash.elsewhere import CANCELLED_WHILE, deaths, shown_by
from tests.crash.road import Road
from tests.support import candidates
from tests.support.checkouts import CHECKOUT, patch_of, replaced
from tests.support.installation import wait_for
from tests.support.moves import told

pytestmark = pytest.mark.exhaustive

REFUSED_PACKAGE: Final = "autonous-no-such-package-anywhere"


def ended(road: Road, miner: Thread) -> None:
    """Somebody came by each place, and a supervisor is there again."""
    miner.join(60)
    assert not miner.is_alive(), f"nobody came by {road.bomb.read_text()}"
    road.answers()


def test_while_a_check_of_the_owners_is_made(road: Road) -> None:
    """It is made anew each time, and none is left."""
    miner = road.mine(shown_by("test_while_a_check_of_the_owners_is_made"))
    tx = road.submit("checked", candidates.adds_a_module(CHECKOUT, "checked"))
    road.reach(tx, "staged")
    ended(road, miner)
    assert road.left_of("check") == []
    road.decide("cancel", tx)
    road.at_rest()


def test_as_a_build_fails(road: Road) -> None:
    """Once, by the update's own fault."""
    files = replaced(CHECKOUT, "worker/requirements.in", "httpx\n", f"httpx\n{REFUSED_PACKAGE}\n")
    miner = road.mine(shown_by("test_as_a_build_fails"))
    tx = road.submit("no such package", patch_of(CHECKOUT, files))
    road.reach(tx, "build_failed")
    ended(road, miner)
    assert road.events_of(tx) == told((Status.CREATED, Status.BUILDING, Status.BUILD_FAILED))
    assert road.update(tx).blame == "own"
    road.at_rest()


@pytest.mark.parametrize("status", CANCELLED_WHILE)
def test_as_it_is_cancelled(road: Road, status: Status) -> None:
    """Whatever it is at: before the commit the owner says it again, after it everybody knows."""
    before, after = deaths(f"ledger.{status}.cancelled")
    wait = CANCELLED_WHILE[status]
    name = f"cancelled_while_{status}"
    if status is Status.APPROVED:
        tx = road.installation.stage(candidates.adds_a_module(CHECKOUT, name))
        road.hold(wait)
        road.decide("approve", tx)
    else:
        road.hold(wait)
        tx = road.submit(name, candidates.adds_a_module(CHECKOUT, name))
    road.until_held()
    road.dies_at(before, lambda: road.installation.run("cancel", tx), waits_at=wait)
    assert road.installation.status_of(tx) == status
    road.hold(wait)
    road.installation.up()
    road.until_held()
    road.dies_at(after, lambda: road.installation.run("cancel", tx), waits_at=wait)
    assert road.installation.status_of(tx) == "cancelled"
    road.installation.up()
    assert "already" in road.installation.run("cancel", tx).expect(0).out
    assert [to for _, _, to in road.events_of(tx)].count("cancelled") == 1
    road.at_rest()
    for role in ("test", "exam", "check"):
        assert wait_for(lambda role=role: road.left_of(role) == [], 20, f"no {role} is left")  # type: ignore[misc]


def test_as_others_are_superseded(road: Road) -> None:
    """One that waits and one that was approved: each once, each made again once."""
    names = ("takes_their_base", "was_approved", "was_staged")
    first, *others = (road.installation.stage(candidates.adds_a_module(CHECKOUT, name)) for name in names)
    road.hold("ledger.deployed_unstable.promoted.before")
    road.decide("approve", first)
    road.until_held()
    road.decide("approve", others[0])
    road.installation.kill_keeper()  # the next place is laid before anybody starts the next supervisor
    for place in shown_by("test_as_others_are_superseded"):
        road.lay(place)
        if not held(road.installation.paths.lock):
            road.starts_anew()
        road.died(place)
    road.installation.up()
    for tx in others:
        road.reach(tx, "superseded")
    again = [wait_for(lambda tx=tx: made_again(road, tx), 60, "another of it") for tx in others]  # type: ignore[misc]
    for tx, others_again in zip(others, again, strict=True):
        (made,) = others_again
        assert [to for _, _, to in road.events_of(tx)].count("superseded") == 1
        road.reach(made, "created", "building", "testing", "self_checking", "staged")
        road.decide("cancel", made)
    assert road.at_rest()["active"]["tx_id"] == first
    assert [made_again(road, tx) for tx in others] == again


def made_again(road: Road, tx: str) -> list[str]:
    """The updates that name this one as what they are made from."""
    with Ledger.read_only(road.installation.paths.ledger) as ledger:
        return [found.tx_id for found in ledger.updates() if found.supersedes == tx]
