"""Updates that pass every gate and fail in service: within the window blue is back, and says why."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from supervisor.contract import EventType
from supervisor.ledger import Ledger
from supervisor.timing import IN_SERVICE
from tests.support import candidates
from tests.support.installation import Install, Installation, wait_for
from worker.models.dummy import OFFLINE_REPLY

WINDOW_SECONDS = 4
#: A worker that is silent is missed by then.
NOTICED_SECONDS = 5.0
#: As their neighbours are, and for `make crash`.
ALSO = pytest.mark.exhaustive


@pytest.fixture(scope="module")
def installation(install: Install) -> Installation:
    """Up, with a window that leaves time to fail in."""
    made = install(AUTONOUS_UPDATE_STABLE_WINDOW_SECONDS=str(WINDOW_SECONDS))
    made.up()
    return made


@pytest.fixture
def blue(installation: Installation) -> Iterator[dict[str, Any]]:
    """The worker that is active before, and has to be again afterwards: the same container, warm all the while."""
    before = dict(installation.settled()["active"])
    yield before
    after = installation.settled()
    assert after["active"]["container"] == before["container"]
    assert after["active"]["epoch"] == before["epoch"] + 2
    assert [c["Name"].removeprefix("/") for c in installation.containers()] == [before["container"]]
    assert installation.say("still there?") == OFFLINE_REPLY


def in_probation(installation: Installation, patch: bytes) -> str:
    """Hand in a patch, approve it, and wait until it is active; its tx."""
    tx = installation.stage(patch)
    installation.run("approve", tx).expect(0)
    wait_for(lambda: installation.status_of(tx) == "deployed_unstable", 30, "the probation")
    return tx


def ends_rolled_back(installation: Installation, tx: str, reason: str, blame: str = "own") -> None:
    """The update is rolled back, and `show` says why."""
    wait_for(lambda: installation.status_of(tx) == "rolled_back", 20, "the way back")
    wait_for(lambda: installation.show(tx)["blame"], 20, "the blame, which may be open until blue has polled")
    assert installation.show(tx)["blame"] == blame
    assert reason in installation.run("show", tx).expect(0).out


@pytest.mark.fault(
    29,
    what="it is killed, and blue takes over",
    user="an answer that comes late; `rolled_back`",
    within=f"{NOTICED_SECONDS:g} s",
)
def test_a_loop_that_wedges_in_service(installation: Installation, checkout: Path, blue: dict[str, Any]) -> None:
    """It stops beating, is killed within five seconds, and the message that it choked on is answered by blue."""
    tx = in_probation(installation, candidates.wedges_when_told(checkout))
    wedged_at = time.time()
    assert installation.say("now wedge", seconds=20) == OFFLINE_REPLY
    ends_rolled_back(installation, tx, "no beat from its loop")
    with Ledger.read_only(installation.paths.ledger) as ledger:
        (noticed,) = ledger.events(EventType.UPDATE_ROLLBACK_STARTED, parent_id=ledger.find(tx).event_id)
    assert noticed.timestamp - wedged_at < NOTICED_SECONDS


@pytest.mark.fault(
    26,
    what="blue takes over",
    user="`rolled_back` with its last words",
    within="the switch",
)
def test_an_exit_a_second_before_the_end_of_the_window(
    installation: Installation, checkout: Path, blue: dict[str, Any]
) -> None:
    """Late is not too late; `approve --wait` tells it with 1."""
    tx = installation.stage(candidates.exits_in_service(checkout, seconds=WINDOW_SECONDS - 1))
    result = installation.run("approve", tx, "--wait").expect(1)
    assert "exited by itself with code 7" in result.err
    ends_rolled_back(installation, tx, "exited by itself with code 7")


@pytest.mark.fault(38)
def test_what_failed_in_service_is_not_tried_again(installation: Installation, checkout: Path) -> None:
    """The same change is refused, as it was rolled back by its own fault."""
    again = installation.submit(candidates.exits_in_service(checkout, seconds=WINDOW_SECONDS - 1))
    assert (again["status"], again["code"]) == ("refused", "failed_before")


@pytest.mark.fault(27)
def test_one_that_flaps_in_service(installation: Installation, checkout: Path, blue: dict[str, Any]) -> None:
    """Well and unwell by turns: it does not keep the lease, whether or not it has polled by then."""
    tx = installation.stage(candidates.flaps_in_service(checkout, IN_SERVICE.settled / 2))
    assert "it says that it is not well: it flaps" in installation.run("approve", tx, "--wait").expect(1).err
    shown = installation.show(tx)
    assert (shown["status"] in ("deploy_failed", "rolled_back"), shown["blame"]) == (True, "own")


@pytest.mark.fault(27)
def test_one_that_flaps_before_it_serves(installation: Installation, checkout: Path) -> None:
    """It never stays well for as long as it has to, so the lease stays where it is."""
    before = installation.settled()["active"]
    tx = installation.stage(candidates.flaps_standing_by(checkout, IN_SERVICE.settled / 2))
    assert "it says that it is not well: it flaps" in installation.run("approve", tx, "--wait").expect(1).err
    shown, after = installation.show(tx), installation.settled()["active"]
    assert (shown["status"], shown["blame"]) == ("deploy_failed", "own")
    assert (after["container"], after["epoch"]) == (before["container"], before["epoch"])


@pytest.mark.parametrize(
    ("candidate", "said", "reason"),
    [
        pytest.param(candidates.cannot_poll_in_service, "do you hear me?", "it cannot poll: no way out", marks=ALSO),
        pytest.param(candidates.stumbles_when_told, "now stumble", "3 internal errors since it started", marks=ALSO),
        (candidates.outgrows_its_memory_when_told, "now swell", "out of memory"),
    ],
    ids=["it cannot poll", "internal errors", "out of memory"],
)
def test_other_failures_of_its_own(
    installation: Installation,
    checkout: Path,
    blue: dict[str, Any],
    candidate: Callable[[Path], bytes],
    said: str,
    reason: str,
) -> None:
    """While everything outside is there; blue answers what green did not, and the change is banned."""
    tx = in_probation(installation, candidate(checkout))
    assert installation.say(said) == OFFLINE_REPLY
    ends_rolled_back(installation, tx, reason)
    with Ledger.read_only(installation.paths.ledger) as ledger:
        update = ledger.find(tx)
        assert (update.last_error or "").startswith(reason)
        assert ledger.failed_before(update.patch_id or "") == update


@pytest.mark.exhaustive
def test_a_candidate_that_is_killed_in_its_probation(
    installation: Installation, checkout: Path, blue: dict[str, Any]
) -> None:
    """From outside, at any moment: blue answers the next message."""
    tx = in_probation(installation, candidates.answers(checkout, "I am not long for this world."))
    installation.docker.kill(installation.status()["active"]["container"])
    assert installation.say("who is there?") == OFFLINE_REPLY
    ends_rolled_back(installation, tx, "exited by itself with code 137")


@ALSO
def test_a_person_may_end_the_probation(installation: Installation, checkout: Path, blue: dict[str, Any]) -> None:
    """`rollback` does not wait for the window and blames nobody; with --force the same change may come again."""
    patch = candidates.answers(checkout, "I am good, and not wanted.")
    tx = in_probation(installation, patch)
    installation.run("rollback", tx, "--wait").expect(0)
    ends_rolled_back(installation, tx, "rolled_back", blame="person")
    installation.run("cancel", installation.stage(patch, "--force")).expect(0)


@pytest.mark.fault(34, 35)
def test_two_rollbacks_at_once_of_one_that_does_not_let_go(
    installation: Installation, checkout: Path, blue: dict[str, Any]
) -> None:
    """One of the two does it and both are content; green is killed at the end of its drain, before blue is granted."""
    tx = in_probation(installation, candidates.ignores_drain_in_service(checkout))
    green = installation.status()["active"]["container"]
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(installation.run, "rollback", tx, "--wait") for _ in range(2)]
    assert [one.result().expect(0).code for one in both] == [0, 0]
    with Ledger.read_only(installation.paths.ledger) as ledger:
        began = ledger.events(EventType.UPDATE_ROLLBACK_STARTED, parent_id=ledger.find(tx).event_id)
        granted = ledger.events(EventType.LEASE_GRANTED)[-1]
        ends = wait_for(
            lambda: [e for e in ledger.events(EventType.WORKER_EXITED) if e.payload["worker_id"] == green],
            10,
            "green put away, after it is said that it was rolled back",
        )
    (exited,) = ends
    assert len(began) == 1
    assert "had not let go of the lease after 5 s" in str(exited.payload["reason"])
    assert float(str(exited.payload["ended_at"])) <= granted.timestamp
    assert granted.payload["worker_id"] == blue["container"]
