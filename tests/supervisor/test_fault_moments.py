"""The supervisor dies at a moment that matters, alone, with workers, or with everything; once, twice, again and again.

What holds each time: one worker is active at most, the update ends where it would have, N-1 runs beside the good one,
and each step is in the log once.
"""

import itertools
import random
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from supervisor.contract import EventType
from supervisor.engine import EngineUnreachable
from supervisor.keeper import Pace
from supervisor.ledger import Update
from supervisor.sessions import BEAT_SECONDS
from supervisor.specs import ContainerSpec
from supervisor.states import Status
from supervisor.timing import IN_SERVICE
from tests.supervisor.fakes.deaths import SECONDS, DieWhen, settled
from tests.supervisor.fakes.installation import QUICK, Installation
from tests.supervisor.fakes.supervisors import PROJECT, Killed, Supervisor
from tests.supervisor.fakes.workers import Behaviour

S = Status


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    with Installation(tmp_path / "home") as made:
        made.change(stable_window_seconds=0.1)
        yield made


def holder(installation: Installation) -> str | None:
    """The revision of the worker that was granted the lease last."""
    lease = installation.ledger.lease()
    return installation.ledger.worker(lease.worker_id).sha if lease else None


def holders(installation: Installation) -> list[str]:
    """The revisions of all workers that were ever granted the lease."""
    return [str(told["sha"]) for told in installation.told(EventType.LEASE_GRANTED)]


def each_step_once(installation: Installation, update: Update) -> None:
    steps = [step for step in installation.events(update) if step.startswith("update.")]
    assert len(steps) == len(set(steps))


def promoted_over_another(installation: Installation) -> None:
    """So that there is one to put away at the next promotion."""
    installation.promoted("the one before")
    installation.until(lambda: settled(installation))


#: When it dies, after which the update is to be promoted. The last two arguments are the update and who was active.
DEPLOY_MOMENTS: dict[str, Callable[[Installation, Update, str], bool]] = {
    "green was started, blue still holds the lease": lambda i, u, blue: (
        u.sha in i.running_shas() and holder(i) == blue and i.update(u).status is S.DEPLOYING
    ),
    "the lease is granted, the switch is not recorded": lambda i, u, _: (
        holder(i) == u.sha and i.update(u).status is S.DEPLOYING
    ),
    "promoted, nothing is cleaned up": lambda i, u, _: i.update(u).status is S.PROMOTED,
}


@pytest.mark.fault(4, 5, 6)
@pytest.mark.parametrize("moment", DEPLOY_MOMENTS)
def test_it_dies_in_a_deploy(installation: Installation, moment: str) -> None:
    """The next one goes on from there, and the update is promoted as if nothing had been."""
    supervisor = installation.start()
    promoted_over_another(installation)
    blue = installation.active_sha() or ""
    update = installation.staged("the one that is cut")
    mine = DieWhen(installation, lambda: DEPLOY_MOMENTS[moment](installation, update, blue))
    installation.approve(update)
    mine.wait(supervisor)
    installation.start()
    installation.reaches(update, S.PROMOTED, seconds=SECONDS)
    installation.until(lambda: settled(installation), SECONDS)
    each_step_once(installation, update)


@pytest.mark.fault(
    3,
    what="the rollback ends, and is recorded once",
    user="N-1 answers",
    within="a restart",
)
@pytest.mark.parametrize("moved", [False, True])
def test_it_dies_in_a_rollback(installation: Installation, moved: bool) -> None:
    """Before and after the lease has gone back: the rollback ends, and is recorded once."""
    supervisor = installation.start()
    promoted_over_another(installation)
    blue = installation.active_sha()
    update = installation.promoted("the one that is taken back")
    installation.until(lambda: settled(installation), SECONDS)

    def holds() -> bool:
        pending = installation.update(update).status is S.ROLLBACK_PENDING
        return pending and (not moved or holder(installation) == blue)

    mine = DieWhen(installation, holds)
    installation.roll_back(update)
    mine.wait(supervisor)
    installation.start()
    installation.reaches(update, S.ROLLED_BACK, seconds=SECONDS)
    installation.until(lambda: settled(installation), SECONDS)
    assert installation.active_sha() == blue
    each_step_once(installation, update)


def machine_stops(installation: Installation) -> None:
    """Every container ends, and nobody is there to see it."""
    for role in ("worker", "toolbox"):
        for name in installation.running(role):
            installation.engine.crash(name, code=137)


@pytest.mark.fault(
    7,
    what="the good revision comes up first, then what was in hand goes on",
    user="answers come late",
    within="start of a worker",
)
@pytest.mark.parametrize("status", [S.DEPLOYING, S.DEPLOYED_UNSTABLE, S.PROMOTED, S.ROLLBACK_PENDING])
def test_everything_dies_at_once(installation: Installation, status: Status) -> None:
    """Supervisor and containers, in each state: one worker comes back active, never blue beside green."""
    supervisor = installation.start()
    promoted_over_another(installation)
    update = installation.staged("in hand when it all ends")
    mine = DieWhen(installation, lambda: installation.update(update).status is status)
    installation.approve(update)
    if status is S.ROLLBACK_PENDING:
        installation.reaches(update, S.PROMOTED, seconds=SECONDS)
        installation.roll_back(update)
    mine.wait(supervisor)
    machine_stops(installation)
    installation.start()
    end = S.ROLLED_BACK if status is S.ROLLBACK_PENDING else S.PROMOTED
    installation.reaches(update, end, seconds=SECONDS)
    installation.until(lambda: settled(installation), SECONDS)
    each_step_once(installation, update)


class DieAgain:
    """Kills each supervisor after some changes, and now and then workers along with it."""

    def __init__(self, installation: Installation, chance: random.Random) -> None:
        self._installation = installation
        self._chance = chance
        self.deaths = 0
        self.arm()

    def arm(self) -> None:
        self._left = self._chance.randint(1, 12)
        self.done = threading.Event()
        self._installation.interrupt = self

    def __call__(self) -> None:
        if threading.current_thread().name != "rollout" or self.done.is_set():
            return
        self._left -= 1
        if self._left <= 0:
            self.done.set()
            raise Killed

    def bury(self, supervisor: Supervisor) -> None:
        """See it dead, and perhaps workers or everything with it."""
        assert supervisor.wait_until_killed()
        self.deaths += 1
        match self._chance.choice(("alone", "alone", "with a worker", "with everything")):
            case "with a worker" if running := self._installation.running():
                self._installation.engine.crash(self._chance.choice(running), code=137)
            case "with everything":
                machine_stops(self._installation)


@pytest.mark.fault(
    2,
    what="each one goes on from there, the keeper waits longer each time; a step in which eight died is given up, "
    "blamed on nobody, and the good revision serves; only a rollback goes on until it is carried out",
    user="nothing, or an update that takes longer; after eight deaths in one step one that failed or was rolled back, "
    "which says so",
    within=f"{Pace.shortest:g} s to {Pace.longest:g} s for each death",
)
@pytest.mark.parametrize("seed", range(6))
def test_it_dies_again_and_again(installation: Installation, seed: int) -> None:
    """Also in its recovery, and with workers, up to a dozen times over deploy and rollback: the end is the same."""
    chance = random.Random(seed)
    supervisor = installation.start()
    promoted_over_another(installation)
    blue = installation.active_sha()
    update = installation.staged("again and again")
    for decide, end in ((installation.approve, S.PROMOTED), (installation.roll_back, S.ROLLED_BACK)):
        reaper = DieAgain(installation, chance)
        decide(update)
        for _ in range(6):
            while not (reaper.done.is_set() or (installation.update(update).status is end and settled(installation))):
                reaper.done.wait(0.01)
            if not reaper.done.is_set():
                break
            reaper.bury(supervisor)
            reaper.arm()
            supervisor = installation.start()
        installation.interrupt = lambda: None
        if reaper.done.is_set():
            assert supervisor.wait_until_killed()
            supervisor = installation.start()
        installation.until(lambda: settled(installation), SECONDS, f"all to settle after {reaper.deaths} deaths")
        assert installation.update(update).status is end
    assert installation.active_sha() == blue
    each_step_once(installation, update)


def unanswered(installation: Installation, error: BaseException) -> None:
    """The engine makes the next worker's container and starts it, and then this comes in place of the answer."""
    run, lost = installation.engine.run, itertools.count()

    def without_an_answer(spec: ContainerSpec) -> str:
        made = run(spec)
        if spec.role == "worker" and next(lost) == 0:
            raise error
        return made

    installation.engine.run = without_an_answer  # type: ignore[method-assign]


@pytest.mark.fault(15)
def test_a_container_whose_creation_was_never_answered(installation: Installation) -> None:
    """It is found by its name and put away, and another one is started: nothing is there twice."""
    with installation.supervised():
        installation.becomes_active(installation.genesis)
        unanswered(installation, EngineUnreachable("the connection was closed before the answer"))
        update = installation.approved("made, and never answered")
        installation.reaches(update, S.PROMOTED, seconds=SECONDS)
        installation.until(lambda: settled(installation), SECONDS)
        spawned = [told["worker_id"] for told in installation.told(EventType.WORKER_SPAWNED)]
        assert len(spawned) == 3
        assert sorted(view.name for view in installation.engine.containers(PROJECT, role="worker")) == sorted(
            [str(spawned[0]), str(spawned[2])]
        )


@pytest.mark.fault(
    15,
    what="adopted by its labels; no second one is started",
    user="nothing",
    within="a restart",
)
def test_a_container_whose_creation_nobody_lived_to_see(installation: Installation) -> None:
    """The supervisor died before the answer: the next one adopts the container by its labels, and starts no other."""
    supervisor = installation.start()
    installation.becomes_active(installation.genesis)
    unanswered(installation, Killed())
    update = installation.approved("made, and never seen")
    assert supervisor.wait_until_killed()
    installation.start()
    installation.reaches(update, S.PROMOTED, seconds=SECONDS)
    installation.until(lambda: settled(installation), SECONDS)
    spawned = [told for told in installation.told(EventType.WORKER_SPAWNED) if told["sha"] == update.sha]
    assert len(spawned) == 1


@pytest.mark.fault(
    33,
    what="green comes up again and is proven anew; blue stands by",
    user="answers come late",
    within="start of a worker",
)
def test_a_machine_that_restarts_in_probation(installation: Installation) -> None:
    """Nobody counts it against green, and blue never comes back as a second active worker."""
    installation.change(stable_window_seconds=0.5)
    with installation.supervised():
        installation.becomes_active(installation.genesis)
        update = installation.approved("in its probation")
        installation.reaches(update, S.DEPLOYED_UNSTABLE)
    machine_stops(installation)
    with installation.supervised():
        installation.reaches(update, S.PROMOTED, seconds=SECONDS)
        installation.until(lambda: settled(installation), SECONDS)
    assert installation.ledger.crashes(update.sha or "", 0) == []


@pytest.mark.fault(
    27,
    what="it never proves itself; blue serves",
    user="`deploy_failed` or `rolled_back`",
    within=f"{IN_SERVICE.settled:g} s as it comes up, a beat ({BEAT_SECONDS:g} s) in its probation",
)
@pytest.mark.parametrize(
    ("flapping", "end"),
    [
        (Behaviour(flaps=0.2), S.DEPLOY_FAILED),
        (Behaviour(flaps_in_service=0.2), S.ROLLED_BACK),
    ],
    ids=["before it has settled", "in its probation"],
)
def test_green_that_flaps(tmp_path: Path, flapping: Behaviour, end: Status) -> None:
    """Well, unwell, well again: it gets the lease only when it stays well, and keeps it only as long as it does."""
    with Installation(
        tmp_path / "home", timing=replace(QUICK, ready=6, activate=6, first_poll=6, settled=1)
    ) as installation:
        installation.change(stable_window_seconds=1)
        with installation.supervised():
            blue = installation.becomes_active(installation.genesis)
            update = installation.approved("flaps", flapping)
            update = installation.reaches(update, S.DEPLOY_FAILED, S.ROLLED_BACK, S.PROMOTED, seconds=SECONDS)
            assert update.status is end
            assert "it flaps" in (update.last_error or "")
            installation.until(lambda: settled(installation), SECONDS)
            assert (installation.active_sha(), update.blame) == (blue.sha, "own")
            assert (update.sha in holders(installation)) == (end is S.ROLLED_BACK)


def test_green_that_exits_whenever_it_becomes_active(installation: Installation) -> None:
    """However often it is started again, it never proves itself; blue serves."""
    with installation.supervised():
        blue = installation.becomes_active(installation.genesis)
        update = installation.approved("exits", *[Behaviour(exits_after=0, polls=False)] * 3)
        installation.reaches(update, S.DEPLOY_FAILED, S.ROLLED_BACK, seconds=SECONDS)
        installation.until(lambda: settled(installation), SECONDS)
        active = installation.active()
        assert active is not None
        assert active.sha == blue.sha


@pytest.mark.parametrize("reached", [False, True], ids=["N-1 cannot either", "N-1 polls"])
@pytest.mark.parametrize("end", [S.DEPLOY_FAILED, S.ROLLED_BACK])
def test_it_dies_before_it_knows_whether_n_minus_1_polls(
    installation: Installation, end: Status, reached: bool
) -> None:
    """Green could not poll, and is given up: until the next one has asked N-1 as well, nothing is banned for it."""
    installation.change(stable_window_seconds=5)
    supervisor = installation.start()
    installation.becomes_active(installation.genesis)
    update = installation.staged("cannot poll")
    mine = DieWhen(installation, lambda: installation.update(update).status is end)
    behaviour = Behaviour(polls=False) if end is S.DEPLOY_FAILED else Behaviour(poll_fails_after=0.1)
    installation.approve(update, behaviour)
    if not reached:
        installation.until(lambda: holder(installation) == update.sha, SECONDS)
        if end is S.ROLLED_BACK:
            installation.reaches(update, S.DEPLOYED_UNSTABLE)
        installation.socket.bot_api_reached = False
    mine.wait(supervisor)
    patch_id = installation.update(update).patch_id or ""
    assert installation.ledger.failed_before(patch_id) is None
    installation.start()
    installation.until(lambda: installation.update(update).blame is not None, SECONDS, "the blame to be settled")
    assert (installation.update(update).status, installation.update(update).code) == (end, "no_poll")
    assert installation.update(update).blame == ("own" if reached else "external")
    assert (installation.ledger.failed_before(patch_id) is not None) == reached
