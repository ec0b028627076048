"""Between updates: a crash is answered by a restart, a crash loop by N-1, and N-1 stands by all the time."""

import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from supervisor.contract import EventType
from supervisor.ledger import Blame, Update, WorkerRow
from supervisor.states import Status
from tests.supervisor.fakes.installation import Installation
from tests.supervisor.fakes.workers import Behaviour

S = Status


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    with Installation(tmp_path / "home") as made:
        yield made


def test_a_crash_is_answered_by_a_restart_after_the_delay(installation: Installation) -> None:
    """Another worker of the same revision takes over, not before the configured time has passed."""
    installation.change(restart_delay_seconds=0.3)
    with installation.supervised():
        blue = installation.becomes_active(installation.genesis)
        installation.engine.crash(blue.worker_id, code=5)
        died = installation.activity.let_go_at(blue.worker_id)
        again = installation.becomes_active(installation.genesis)
        assert again.worker_id != blue.worker_id
        assert 0.3 <= again.spawned_at - died < 3
        ended = installation.ledger.worker(blue.worker_id)
        assert (ended.exit_code, ended.crashed, ended.reason) == (5, True, "exited by itself with code 5")


def test_an_exit_with_code_0_is_a_crash_too(installation: Installation) -> None:
    """Nobody asked the worker to end."""
    with installation.supervised():
        blue = installation.becomes_active(installation.genesis)
        installation.engine.crash(blue.worker_id, code=0)
        assert installation.becomes_active(installation.genesis).worker_id != blue.worker_id


def test_a_wedged_worker_is_killed_and_replaced(installation: Installation) -> None:
    """Silence of the active worker is a crash, also outside of any probation."""
    installation.behaviours[installation.genesis.sha or ""] = [Behaviour(wedges_after=0.1), Behaviour()]
    with installation.supervised():
        blue = installation.becomes_active(installation.genesis)
        installation.until(lambda: installation.active() is None)
        installation.becomes_active(installation.genesis)
        assert ("kill", blue.worker_id) in installation.engine.calls


def crash_active(installation: Installation, update: Update, times: int) -> None:
    """End the active worker of this update from inside, again each time another one took over."""
    last: WorkerRow | None = None
    for _ in range(times):
        installation.until(lambda last=last: installation.active() not in (None, last))  # type: ignore[misc]
        last = installation.becomes_active(update)
        installation.engine.crash(last.worker_id)


def test_a_crash_loop_after_the_promotion_goes_back_to_n_minus_1(installation: Installation) -> None:
    """At the threshold the update is taken back by its own fault, though it had been promoted."""
    with installation.supervised():
        blue = installation.becomes_active(installation.genesis)
        update = installation.promoted("flaky")
        crash_active(installation, update, 3)
        update = installation.reaches(update, S.ROLLED_BACK)
        assert update.blame == Blame.OWN
        assert "crash loop: 3 exits" in (update.last_error or "")
        assert len(installation.ledger.crashes(update.sha or "", 0)) == 3
        assert len(installation.told(EventType.CRASH_LOOP_DETECTED)) == 1
        assert installation.becomes_active(installation.genesis).worker_id == blue.worker_id
        assert installation.ledger.failed_before(update.patch_id or "") is not None


def test_fewer_crashes_than_the_threshold_change_nothing(installation: Installation) -> None:
    """Two of three crashes are answered by restarts alone."""
    with installation.supervised():
        installation.becomes_active(installation.genesis)
        update = installation.promoted("flaky")
        crash_active(installation, update, 2)
        installation.becomes_active(update)
        assert installation.update(update).status is S.PROMOTED
        assert installation.told(EventType.CRASH_LOOP_DETECTED) == []


def test_crashes_outside_of_the_window_do_not_count(installation: Installation) -> None:
    """A revision that crashes now and then is restarted for ever."""
    installation.change(crash_window_seconds=0.05)
    with installation.supervised():
        installation.becomes_active(installation.genesis)
        update = installation.promoted("flaky")
        crash_active(installation, update, 4)
        installation.becomes_active(update)
        assert installation.update(update).status is S.PROMOTED


def test_the_first_revision_is_tried_for_ever(installation: Installation) -> None:
    """With nothing to go back to a crash loop is told once, and the restarts get slower but never end."""
    installation.behaviours[installation.genesis.sha or ""] = [*[Behaviour(exits_at_start=1)] * 6, Behaviour()]
    with installation.supervised():
        installation.becomes_active(installation.genesis)
        assert len(installation.told(EventType.CRASH_LOOP_DETECTED)) == 1
        assert len(installation.ledger.crashes(installation.genesis.sha or "", 0)) == 6
        spawned = [event.timestamp for event in installation.ledger.events(EventType.WORKER_SPAWNED)]
        waits = [after - before for before, after in pairwise(spawned)]
        assert min(waits) >= 0.05
        assert min(waits[3:]) >= 0.1  # slowed down, as far as it may be
        assert installation.update(installation.genesis).status is S.PROMOTED


def test_a_crash_loop_whose_n_minus_1_fails_walks_back_further(installation: Installation) -> None:
    """The last good revision that runs is found without anybody's help."""
    with installation.supervised():
        installation.becomes_active(installation.genesis)
        first = installation.promoted("first", Behaviour(), Behaviour(takes_over=False))
        second = installation.promoted("second")
        # The warm N-1 dies as well; whatever comes in its place does not take over.
        standby = next(name for name in installation.running() if installation.ledger.worker(name).sha == first.sha)
        installation.engine.crash(standby)
        crash_active(installation, second, 3)
        installation.reaches(second, S.ROLLED_BACK)
        installation.becomes_active(installation.genesis)
        assert installation.ledger.good_sha() == installation.genesis.sha


def test_n_minus_1_that_does_not_come_up_leaves_the_active_one_alone(installation: Installation) -> None:
    """A standby that fails is tried again after a while; the chat never notices."""
    installation.behaviours[installation.genesis.sha or ""] = [Behaviour(), Behaviour(exits_at_start=1), Behaviour()]
    with installation.supervised():
        blue = installation.becomes_active(installation.genesis)
        update = installation.promoted()
        green = installation.active()
        installation.until(lambda: EventType.UPDATE_CLEANUP_COMPLETED in installation.events(update))
        installation.engine.crash(blue.worker_id)
        installation.until(lambda: len(installation.running()) == 1)
        installation.until(lambda: len(installation.running()) == 2)
        assert installation.active() == green
        assert installation.update(update).status is S.PROMOTED


def test_a_dead_toolbox_is_started_again(installation: Installation) -> None:
    """Whatever a tool did to its container, the worker beside it goes on and gets another one."""
    with installation.supervised():
        blue = installation.becomes_active(installation.genesis)
        installation.until(lambda: len(installation.running("toolbox")) == 1)
        installation.engine.crash(f"{blue.worker_id}-toolbox", code=137, oom=True)
        installation.until(lambda: installation.engine.calls.count(("run", f"{blue.worker_id}-toolbox")) >= 2)
        time.sleep(0.2)
        assert installation.engine.calls.count(("run", f"{blue.worker_id}-toolbox")) == 2  # once, not again and again
        assert len(installation.running("toolbox")) == 1
        assert installation.active() == blue


def test_workers_go_on_while_the_engine_is_away(installation: Installation) -> None:
    """Nothing is restarted or granted for an engine that does not answer; afterwards all is as before."""
    with installation.supervised():
        blue = installation.becomes_active(installation.genesis)
        installation.engine.go_away()
        time.sleep(0.3)
        installation.engine.come_back()
        time.sleep(0.2)
        assert installation.active() == blue
        assert len(installation.told(EventType.LEASE_GRANTED)) == 1
        # The stream of events is open again: a death is seen at once.
        installation.engine.crash(blue.worker_id)
        installation.until(lambda: installation.active() not in (None, blue))


def test_a_worker_that_ended_with_the_engine_is_started_again_without_blame(installation: Installation) -> None:
    """What happened while nobody watched is found by looking, and is no crash of the worker's."""
    with installation.supervised():
        blue = installation.becomes_active(installation.genesis)
        installation.engine.go_away()
        installation.engine.crash(blue.worker_id, code=137)
        time.sleep(0.1)
        installation.engine.come_back()
        installation.until(lambda: installation.active() not in (None, blue), 3)
        assert installation.ledger.worker(blue.worker_id).exited_at is not None
        assert installation.ledger.crashes(installation.genesis.sha or "", 0) == []


@pytest.mark.fault(14)
def test_a_green_that_ended_with_the_engine_is_proven_anew(installation: Installation) -> None:
    """Its probation begins again, and it is promoted when it passes that."""
    installation.change(stable_window_seconds=0.8)
    with installation.supervised():
        installation.becomes_active(installation.genesis)
        update = installation.approved()
        installation.reaches(update, S.DEPLOYED_UNSTABLE)
        green = installation.becomes_active(update)
        installation.engine.go_away()
        installation.engine.crash(green.worker_id, code=137)
        time.sleep(0.1)
        installation.engine.come_back()
        update = installation.reaches(update, S.PROMOTED)
        again = installation.becomes_active(update)
        assert again.worker_id != green.worker_id
        assert update.promoted_at is not None
        assert update.promoted_at - again.spawned_at > 0.8


def test_n_minus_1_whose_image_is_gone_is_built_again(installation: Installation) -> None:
    """A clean-up from outside does not take the way back away."""
    with installation.supervised():
        blue = installation.becomes_active(installation.genesis)
        update = installation.promoted()
        installation.until(lambda: EventType.UPDATE_CLEANUP_COMPLETED in installation.events(update))
        installation.engine.remove_image(installation.genesis.image_id or "")
        installation.engine.crash(blue.worker_id)
        installation.until(lambda: installation.running_shas().count(str(installation.genesis.sha)) == 1)
        installation.roll_back(update)
        installation.reaches(update, S.ROLLED_BACK)
        installation.becomes_active(installation.genesis)


def test_the_delay_of_a_restart_ends_when_a_person_goes_back(installation: Installation) -> None:
    """A bad revision that was just sent back is not started once more."""
    installation.change(restart_delay_seconds=5)
    with installation.supervised():
        installation.becomes_active(installation.genesis)
        update = installation.promoted()
        active = installation.becomes_active(update)
        installation.engine.crash(active.worker_id)
        installation.until(lambda: installation.ledger.worker(active.worker_id).exited_at is not None)
        installation.roll_back(update)
        installation.becomes_active(installation.genesis, 3)
        spawned = [told["sha"] for told in installation.told(EventType.WORKER_SPAWNED)]
        assert spawned.count(update.sha) == 1


def test_no_standby_is_started_any_more_when_the_supervisor_ends(installation: Installation) -> None:
    """However long the image of N-1 took: what is started then would be left running."""
    asked, go_on = threading.Event(), threading.Event()

    def beside(work: Callable[[], None]) -> None:
        def slowly() -> None:
            asked.set()
            go_on.wait(5)
            work()

        threading.Thread(target=slowly, daemon=True).start()

    with installation.supervised() as supervisor:
        blue = installation.becomes_active(installation.genesis)
        installation.promoted()
        installation.beside = beside
    with installation.supervised() as supervisor:
        installation.engine.crash(blue.worker_id)
        assert asked.wait(5)
        supervisor.ask_to_stop()
        threading.Timer(0.1, go_on.set).start()
        supervisor.rollout.finish(5)
        assert installation.told(EventType.WORKER_SPAWNED)[-1]["sha"] != installation.genesis.sha


def test_a_dead_blue_is_replaced_while_green_proves_itself(installation: Installation) -> None:
    """So that there is a warm way back all through the probation."""
    installation.change(stable_window_seconds=3)
    with installation.supervised():
        blue = installation.becomes_active(installation.genesis)
        update = installation.approved()
        installation.becomes_active(update)
        installation.reaches(update, S.DEPLOYED_UNSTABLE)
        installation.engine.crash(blue.worker_id)
        installation.until(lambda: installation.running_shas().count(str(installation.genesis.sha)) == 1)
        assert installation.update(update).status is S.DEPLOYED_UNSTABLE
        assert installation.ledger.worker(blue.worker_id).exited_at is not None


def test_an_n_minus_1_that_does_not_stay_is_started_ever_more_slowly(installation: Installation) -> None:
    """It comes up, and dies soon after, again and again."""
    with installation.supervised():
        installation.becomes_active(installation.genesis)
        installation.promoted()
        spawned = len(installation.told(EventType.WORKER_SPAWNED))
        ends = time.monotonic() + 2.0
        while time.monotonic() < ends:
            for name in installation.running():
                if installation.ledger.worker(name).sha == installation.genesis.sha:
                    installation.engine.crash(name)
            time.sleep(0.01)
        assert len(installation.told(EventType.WORKER_SPAWNED)) - spawned <= 6


class SlowImages:
    """A rebuilder whose exam takes as long as the test wants."""

    def __init__(self, installation: Installation) -> None:
        self._real = installation.ensure_image
        self.asked, self.go_on = threading.Event(), threading.Event()

    def __call__(self, revision: object) -> object:
        if threading.current_thread().name == "standby":
            self.asked.set()
            self.go_on.wait(10)
        return self._real(revision)  # type: ignore[arg-type]


def test_an_exam_of_n_minus_1_holds_nobody_up(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    """While its image is built and examined again a crash of the active worker is answered at once."""
    slow = SlowImages(installation)
    monkeypatch.setattr(installation, "ensure_image", slow)
    installation.beside = lambda work: threading.Thread(target=work, name="standby", daemon=True).start()
    with installation.supervised():
        blue = installation.becomes_active(installation.genesis)
        update = installation.promoted()
        installation.engine.crash(blue.worker_id)
        assert slow.asked.wait(5)
        green = installation.becomes_active(update)
        installation.engine.crash(green.worker_id)
        installation.until(lambda: installation.active() not in (None, green), 3)
        slow.go_on.set()
        installation.until(lambda: len(installation.running()) == 2)
