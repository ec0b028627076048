"""A supervisor that ends in the middle of something, and the next one that goes on from ledger and engine alone."""

import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from supervisor.contract import EventType
from supervisor.keeper import Pace
from supervisor.ledger import Update
from supervisor.states import IN_ROLLOUT, Status
from tests.supervisor.fakes.installation import Installation
from tests.supervisor.fakes.supervisors import Killed
from tests.supervisor.fakes.workers import Behaviour
from tests.support.exhaustive import but_for

S = Status


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    with Installation(tmp_path / "home") as made:
        yield made


def settled(installation: Installation) -> bool:
    """Whether nothing is left to do: good revision active, N-1 beside it, one toolbox each, and nothing else."""
    ledger = installation.ledger
    good = ledger.good_revision()
    wanted = sorted(filter(None, (good.sha, good.base_sha)))
    return (
        ledger.first(*IN_ROLLOUT) is None
        and installation.active_sha() == good.sha
        and installation.running_shas() == wanted
        and len(installation.engine.containers("fake")) == 2 * len(wanted)
        and len(ledger.living_workers()) == len(wanted)
        and installation.revisions.active() == good.sha
    )


# -- stopped in order


def test_a_stop_leaves_workers_alone_and_the_next_start_adopts_them(installation: Installation) -> None:
    """The active worker keeps its role, its epoch and its process over a restart of the supervisor."""
    with installation.supervised():
        installation.becomes_active(installation.genesis)
        installation.promoted()
        before = installation.active(), sorted(installation.running())
    assert (installation.active(), sorted(installation.running())) == before
    with installation.supervised() as supervisor:
        row = before[0]
        assert row is not None
        installation.until(lambda: supervisor.pool.session(row) is not None)
        installation.until(lambda: settled(installation))
        assert (installation.active(), sorted(installation.running())) == before
        assert len(installation.told(EventType.LEASE_GRANTED)) == 2


@pytest.mark.fault(
    4,
    what="green is found by its labels and used",
    user="blue answers meanwhile",
    within="a restart",
)
def test_a_deploy_goes_on_after_a_stop(installation: Installation) -> None:
    """A green that was being waited for is found again and used; no second one is started."""
    with installation.supervised():
        installation.becomes_active(installation.genesis)
        update = installation.approved("slow", Behaviour(takes_over=False))
        installation.until(lambda: update.sha in installation.running_shas())
    assert installation.update(update).status is S.DEPLOYING
    green = next(name for name in installation.running() if installation.ledger.worker(name).sha == update.sha)
    installation.behaviours[update.sha or ""] = []
    installation.engine.remove(green)
    with installation.supervised():
        installation.reaches(update, S.PROMOTED)
        installation.until(lambda: settled(installation))


@pytest.mark.fault(
    5,
    what="green keeps the lease; the switch is recorded",
    user="nothing",
    within="a restart",
)
def test_a_probation_goes_on_with_what_is_left_of_its_window(installation: Installation) -> None:
    """The window is not begun anew: it counts from the end of the deploy, also while no supervisor ran."""
    installation.change(stable_window_seconds=0.8)
    with installation.supervised():
        installation.becomes_active(installation.genesis)
        update = installation.approved()
        installation.reaches(update, S.DEPLOYED_UNSTABLE)
        green = installation.becomes_active(update)
    with installation.supervised():
        update = installation.reaches(update, S.PROMOTED)
        assert installation.active() == green
        assert update.deploy_finished_at is not None
        assert update.promoted_at is not None
        assert 0.8 <= update.promoted_at - update.deploy_finished_at < 3


def test_a_green_that_died_while_no_supervisor_ran_is_proven_anew(installation: Installation) -> None:
    """Whether it or its machine failed cannot be told: it starts again, with the whole window before it."""
    with installation.supervised():
        installation.becomes_active(installation.genesis)
    installation.change(stable_window_seconds=0.6)
    with installation.supervised():
        update = installation.approved()
        installation.reaches(update, S.DEPLOYED_UNSTABLE)
        green = installation.becomes_active(update)
    time.sleep(0.6)
    installation.engine.crash(green.worker_id)
    with installation.supervised():
        again = installation.becomes_active(update)
        assert again.worker_id != green.worker_id
        update = installation.reaches(update, S.PROMOTED)
        assert update.promoted_at is not None
        assert update.promoted_at - again.spawned_at > 0.6
        assert installation.ledger.crashes(update.sha or "", 0) == []


def test_a_green_that_wedged_while_no_supervisor_ran_is_not_promoted(installation: Installation) -> None:
    """A worker that never speaks to the new supervisor is lost, whatever its container looks like."""
    installation.change(stable_window_seconds=1.0)
    with installation.supervised():
        installation.becomes_active(installation.genesis)
        update = installation.approved("wedge", Behaviour(wedges_after=0.3))
        installation.reaches(update, S.DEPLOYED_UNSTABLE)
    time.sleep(0.4)
    installation.change(stable_window_seconds=0.1)
    with installation.supervised():
        installation.reaches(update, S.ROLLED_BACK, seconds=12)
        installation.until(lambda: settled(installation))


def test_a_rollback_goes_on_after_a_stop(installation: Installation) -> None:
    """What a person asked for while no supervisor ran is carried out at the next start."""
    with installation.supervised():
        installation.becomes_active(installation.genesis)
        update = installation.promoted()
    installation.decisions.rollback(update.tx_id)
    with installation.supervised():
        installation.reaches(update, S.ROLLED_BACK)
        installation.until(lambda: settled(installation))
        assert installation.active_sha() == installation.genesis.sha


@pytest.mark.fault(
    18,
    what="what no row explains is removed, if it is this installation's",
    user="nothing",
    within="at the start",
)
def test_left_over_containers_are_removed_at_the_start(installation: Installation) -> None:
    """Containers of the project that no row of the ledger explains go; those of others are not touched."""
    from supervisor.specs import gate_spec

    image = installation.genesis.image_id or ""
    for project, name in (("fake", "fake-exam-1"), ("other", "other-exam-1")):
        installation.engine.run(gate_spec(project=project, name=name, image_id=image, uid=10001, role="exam"))
    with installation.supervised():
        installation.until(lambda: settled(installation))
        assert installation.engine.inspect("fake-exam-1") is None
        assert installation.engine.inspect("other-exam-1") is not None


# -- killed anywhere


class Kill:
    """Kills the supervisor's roll-out after the nth change that it makes from now on, once."""

    def __init__(self, installation: Installation, point: int) -> None:
        self._point = point
        self._passed = 0
        self.done = False
        installation.interrupt = self

    def __call__(self) -> None:
        if threading.current_thread().name != "rollout" or self.done:
            return
        self._passed += 1
        if self._passed >= self._point:
            self.done = True
            raise Killed


#: An update, and what begins the thing that is to be interrupted.
Prepared = tuple[Update, Callable[[], object]]


def deploy(installation: Installation) -> Prepared:
    update = installation.staged()
    return update, lambda: installation.approve(update)


def fail_in_deploy(installation: Installation) -> Prepared:
    update = installation.staged()
    return update, lambda: installation.approve(update, Behaviour(exits_after=0, polls=False))


def fail_in_probation(installation: Installation) -> Prepared:
    update = installation.staged()
    return update, lambda: installation.approve(update, Behaviour(exits_after=0.05))


def crash_loop(installation: Installation) -> Prepared:
    update = installation.promoted()
    installation.until(lambda: settled(installation))
    installation.behaviours[update.sha or ""] = [Behaviour(exits_after=0)]
    row = installation.becomes_active(update)
    return update, lambda: installation.engine.crash(row.worker_id)


def roll_back(installation: Installation) -> Prepared:
    update = installation.promoted()
    installation.until(lambda: settled(installation))
    return update, lambda: installation.roll_back(update)


#: How it is prepared and begun, and how it ends.
SCENARIOS: dict[str, tuple[Callable[[Installation], Prepared], set[Status]]] = {
    "deploy": (deploy, {S.PROMOTED}),
    "fail in deploy": (fail_in_deploy, {S.DEPLOY_FAILED, S.ROLLED_BACK}),
    "fail in probation": (fail_in_probation, {S.DEPLOY_FAILED, S.ROLLED_BACK}),
    "crash loop": (crash_loop, {S.ROLLED_BACK}),
    "roll back": (roll_back, {S.ROLLED_BACK}),
}


@pytest.mark.fault(
    1,
    what="the next supervisor goes on from ledger and engine",
    user="nothing, or an update that takes longer",
    within=f"a restart, {Pace.shortest:g} s by the keeper",
)
@pytest.mark.parametrize("name", but_for(["deploy", "roll back"], SCENARIOS))
def test_a_kill_after_any_commit_or_engine_call_settles(installation: Installation, name: str) -> None:
    """Wherever the supervisor is killed, the next one ends in the same state, with nothing left over.

    Each step of the update is in the log once; and never were two workers active, which is looked at in the end.
    """
    prepare, ends = SCENARIOS[name]
    installation.change(stable_window_seconds=0.1, crash_threshold=1)
    supervisor = installation.start()
    installation.until(lambda: settled(installation))
    point = 1
    while True:
        update, begin = prepare(installation)
        kill = Kill(installation, point)
        begin()
        if not killed(installation, kill, update, ends):
            break
        assert supervisor.wait_until_killed()
        supervisor = installation.start()
        installation.until(lambda: settled(installation), what=f"all to settle after a kill at {point}")
        assert installation.update(update).status in ends
        steps = [step for step in installation.events(update) if step.startswith("update.")]
        assert len(steps) == len(set(steps)), f"killed at {point}"
        point += 1
    assert point > 5


def killed(installation: Installation, kill: Kill, update: Update, ends: set[Status]) -> bool:
    """Whether the kill came before all was over."""
    over = False
    while not (kill.done or over):
        over = installation.update(update).status in ends and settled(installation)
        time.sleep(0.005)
    return kill.done


@pytest.mark.fault(2)
@pytest.mark.parametrize("seed", range(3))
def test_kills_again_and_again_settle(installation: Installation, seed: int) -> None:
    """Five supervisors in a row are killed within the same deploy; the sixth ends it."""
    chance = random.Random(seed)
    installation.change(stable_window_seconds=0.1)
    supervisor = installation.start()
    installation.until(lambda: settled(installation))
    update = installation.staged()
    for _ in range(5):
        kill = Kill(installation, chance.randint(1, 9))
        if installation.update(update).status is S.STAGED:
            installation.approve(update)
        if not killed(installation, kill, update, {S.PROMOTED}):
            break
        assert supervisor.wait_until_killed()
        supervisor = installation.start()
    installation.until(lambda: settled(installation))
    assert installation.update(update).status is S.PROMOTED
