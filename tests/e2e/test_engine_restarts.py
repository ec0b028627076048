"""The engine stops and comes back, in whatever an update does and at rest. Nothing is lost or banned."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread

import pytest

from supervisor.images.builds import Deps, base_tag
from supervisor.ledger import Ledger
from tests.support import candidates
from tests.support.exhaustive import but_for
from tests.support.installation import Install, Installation, wait_for
from tests.support.leftout import leave_out
from tests.support.privateengine import PrivateEngine, why_not

ANSWER = "dummy-ok"
WINDOW_SECONDS = 4.0


@pytest.fixture(scope="module")
def private(deps: Deps) -> Iterator[PrivateEngine]:
    """An engine that nobody else uses, which the tests of this file find in the environment."""
    if reason := why_not():
        leave_out(reason)
    with PrivateEngine([base_tag(), deps.tag]) as engine, pytest.MonkeyPatch.context() as patch:
        patch.setenv("DOCKER_HOST", engine.url)
        yield engine


@pytest.fixture(scope="module")
def installation(private: PrivateEngine, install: Install) -> Installation:
    """Up on that engine."""
    made = install(
        AUTONOUS_DUMMY_PROVIDER_SCRIPT="ok",
        AUTONOUS_UPDATE_STABLE_WINDOW_SECONDS=f"{WINDOW_SECONDS:g}",
        SUPERVISOR_CRASH_THRESHOLD="2",
    )
    made.up()
    return made


def answered_once(installation: Installation, text: str, meanwhile: Callable[[], None]) -> None:
    """A message that is sent, and what happens then: it gets one answer, and only one."""
    with installation.bot() as bot:
        sent = bot.send(text)
        meanwhile()
        bot.wait_for(lambda m: m.message_id > sent.message_id and m.text == ANSWER, 60, after=sent.cursor)
        installation.settled()
        later = bot.send(f"and after {text}")
        bot.wait_for(lambda m: m.message_id > later.message_id and m.text == ANSWER, 30, after=later.cursor)
        answers = [m for m in bot.messages(sent.message_id) if m.text == ANSWER]
        assert len(answers) == 2


def one_is_active(installation: Installation, sha: str) -> None:
    """One worker holds the lease, on this revision, and no more than its N-1 stands beside it."""
    status = installation.settled()
    assert status["active"]["sha"] == sha
    running = {container["Name"].lstrip("/") for container in installation.containers()}
    beside = {status["standby"]["container"]} if status["standby"] else set()
    assert running <= {status["active"]["container"]} | beside


def nothing_is_banned(installation: Installation) -> None:
    """No update failed or was taken back but by a person, and none has the blame."""
    for entry in installation.history():
        shown = installation.show(entry["tx_id"])
        assert shown["status"] in {"promoted", "cancelled"}, shown["last_error"]
        assert shown["blame"] is None


def caught_in(installation: Installation, tx: str, *statuses: str) -> None:
    """Return the moment that an update has one of these statuses."""
    with Ledger.read_only(installation.paths.ledger) as ledger:
        deadline = time.monotonic() + 60
        while (status := ledger.find(tx).status) not in statuses:
            assert time.monotonic() < deadline, f"{tx} is {status}"
            time.sleep(0.005)


def test_at_rest(installation: Installation, private: PrivateEngine) -> None:
    """The same revision is up again with a later epoch, and answers what came meanwhile; twice is no crash loop."""
    before = installation.settled()["active"]
    for time_of_it in ("once", "and again"):
        answered_once(installation, time_of_it, private.restart)
        one_is_active(installation, before["sha"])
    assert installation.status()["active"]["epoch"] >= before["epoch"] + 2
    assert "crash_loop.detected" not in installation.run("events", "--json").expect(0).out
    nothing_is_banned(installation)


@pytest.mark.fault(
    13,
    what="the step that was cut is done again; nobody is blamed",
    user="the update takes longer",
    within="the engine's return",
)
@pytest.mark.parametrize("moment", but_for(["building"], ("building", "testing", "self_checking")))
def test_at_the_gates(installation: Installation, private: PrivateEngine, checkout: Path, moment: str) -> None:
    """The step that was cut is done again, and the update passes."""
    if moment == "building":
        private.freeze()  # so that the build surely stands open when the engine goes
    patch = candidates.adds_a_module(checkout, f"cut_while_{moment}")
    tx = str(installation.run("submit", "-", "--json", given=patch).json["tx_id"])
    caught_in(installation, tx, moment)
    if moment == "building":
        time.sleep(0.3)
    answered_once(installation, moment, private.restart)
    wait_for(lambda: installation.status_of(tx) == "staged", 90, "the gates, passed")
    if moment == "self_checking":  # one that came through is as good as any other
        installation.run("approve", tx, "--wait").expect(0)
        one_is_active(installation, installation.show(tx)["sha"])
    else:
        installation.run("cancel", tx).expect(0)
    nothing_is_banned(installation)


@pytest.mark.exhaustive
@pytest.mark.parametrize("later", [0.0, 0.7])
def test_in_a_deploy(installation: Installation, private: PrivateEngine, checkout: Path, later: float) -> None:
    """While green is made, and while it comes up: the deploy goes on with another one, and nobody is blamed."""
    tx = installation.stage(candidates.adds_a_module(checkout, f"cut_in_its_deploy_{int(later * 10)}"))
    installation.run("approve", tx).expect(0)
    caught_in(installation, tx, "deploying")
    time.sleep(later)
    answered_once(installation, f"in a deploy, {later:g} s later", private.restart)
    wait_for(lambda: installation.status_of(tx) == "promoted", 90, "its promotion")
    one_is_active(installation, installation.show(tx)["sha"])
    nothing_is_banned(installation)


@pytest.mark.fault(
    14,
    what="green comes up again, and its window begins anew",
    user="answers come late",
    within="start of a worker",
)
def test_in_probation(installation: Installation, private: PrivateEngine, checkout: Path) -> None:
    """Green comes up again, its window begins anew, and it is promoted."""
    tx = installation.stage(candidates.adds_a_module(checkout, "cut_on_probation"))
    installation.run("approve", tx).expect(0)
    caught_in(installation, tx, "deployed_unstable")
    answered_once(installation, "in probation", private.restart)
    back = time.time()
    wait_for(lambda: installation.status_of(tx) == "promoted", 60, "its promotion")
    assert installation.show(tx)["promoted_at"] - back < WINDOW_SECONDS + 30
    one_is_active(installation, installation.show(tx)["sha"])
    nothing_is_banned(installation)


@pytest.mark.fault(7, 33)
def test_the_machine_stops_in_probation(installation: Installation, private: PrivateEngine, checkout: Path) -> None:
    """Engine, containers, supervisor and keeper at once: with `up` all of it is back, one worker active, none lost."""
    tx = installation.stage(candidates.adds_a_module(checkout, "power_cut"))
    installation.run("approve", tx).expect(0)
    caught_in(installation, tx, "deployed_unstable")

    def power_goes_and_comes() -> None:
        cut = Thread(target=private.cut_power)
        cut.start()
        installation.kill_supervisor()
        cut.join()
        private.start()
        installation.up()

    answered_once(installation, "before the power went", power_goes_and_comes)
    wait_for(lambda: installation.status_of(tx) == "promoted", 60, "its promotion")
    one_is_active(installation, installation.show(tx)["sha"])
    nothing_is_banned(installation)
