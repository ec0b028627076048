"""What no revision is blamed for: the Bot API, the model, the engine and the disk."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from supervisor.contract import EventType
from supervisor.ledger import LedgerError, Update
from supervisor.outages import OutageMonitor, Probes
from supervisor.sessions import Sessions, Signal
from supervisor.states import Status
from supervisor.timing import Timing
from tests.supervisor.fakes.installation import Installation, noticed, notices
from tests.supervisor.fakes.workers import Behaviour

S = Status
TEN_MINUTES = 600.0
Monitors = Callable[[], OutageMonitor]


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    with Installation(tmp_path / "home") as made:
        yield made


def goes_away(installation: Installation, what: str) -> None:
    setattr(installation.socket, f"{what}_answers", False)


def comes_back(installation: Installation, what: str) -> None:
    setattr(installation.socket, f"{what}_answers", True)


@pytest.mark.parametrize("what", ["bot_api", "model"])
def test_the_clock_of_a_probation_stands_still_for_ten_minutes(installation: Installation, what: str) -> None:
    """Nothing is promoted, rolled back or banned meanwhile; the rest of the window follows, and the owner is told."""
    installation.change(stable_window_seconds=1.0)
    with installation.supervised():
        installation.becomes_active(installation.genesis)
        update = installation.reaches(installation.approved(), S.DEPLOYED_UNSTABLE)
        goes_away(installation, what)
        noticed(installation, what)
        time.sleep(0.2)
        installation.passed += TEN_MINUTES
        time.sleep(1.5)  # more than the window
        assert installation.update(update).status is S.DEPLOYED_UNSTABLE
        comes_back(installation, what)
        noticed(installation, what, ended=True)
        back = time.monotonic()
        update = installation.reaches(update, S.PROMOTED, S.ROLLED_BACK)
        assert update.status is S.PROMOTED
        assert time.monotonic() - back > 0.2
        assert installation.ledger.failed_before(update.patch_id or "") is None
        assert len(notices(installation)) == 1


@pytest.fixture
def trouble() -> list[str]:
    """What the engine has, if anything; to be changed by the test."""
    return ["it is away"]


@pytest.fixture
def monitor(installation: Installation, trouble: list[str]) -> Monitors:
    """One after the other, as of supervisors that follow each other."""
    probes = Probes(bot_api=lambda: "", model=lambda: "", disk=lambda: "", engine=lambda: trouble[0])
    return lambda: OutageMonitor(
        probes=probes, ledger=installation.ledger, sessions=Sessions(Signal()), timing=Timing()
    )


@pytest.mark.parametrize("at", ["append", "add_notice"])
def test_an_outage_whose_end_a_supervisor_died_at_is_told_once(
    installation: Installation, monitor: Monitors, trouble: list[str], monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    """What is to be told is on file before the end is: whoever finds the end on file has nothing to add."""

    def dies(*_: object, **__: object) -> int:
        raise KeyboardInterrupt

    first = monitor()
    first.look()
    trouble[0] = ""
    with monkeypatch.context() as patch:
        patch.setattr(installation.ledger, at, dies)
        with pytest.raises(KeyboardInterrupt):
            first.look()
    for _ in range(2):
        monitor().look()
    assert len(installation.told(EventType.EXTERNAL_TROUBLE_ENDED)) == 1
    assert len(notices(installation)) == 1


@pytest.mark.parametrize("at", ["append", "add_notice"])
def test_an_end_that_cannot_be_noted_is_noted_at_the_next_look(
    installation: Installation, monitor: Monitors, trouble: list[str], monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    """The same supervisor goes on: a ledger that is locked for a moment loses nothing."""
    only = monitor()
    only.look()
    trouble[0] = ""
    with monkeypatch.context() as patch:
        patch.setattr(installation.ledger, at, fails)
        with pytest.raises(LedgerError):
            only.look()
    only.look()
    assert len(installation.told(EventType.EXTERNAL_TROUBLE_ENDED)) == 1
    assert len(notices(installation)) == 1


def test_that_n_minus_1_fails_alike_is_told_by_the_next_supervisor(
    installation: Installation, monitor: Monitors, trouble: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One may die between the event and the notice; nobody asks for the workers again."""
    trouble[0] = ""
    with monkeypatch.context() as patch:
        patch.setattr(installation.ledger, "add_notice", fails)
        with pytest.raises(LedgerError):
            monitor().repeats("exited by itself with code 5")
    for _ in range(2):
        monitor().look()
    (notice,) = notices(installation)
    assert "fails just as the last one" in notice


def fails(*_: object, **__: object) -> int:
    raise LedgerError("the database is locked")


def test_a_worker_may_pause_after_the_bot_api_came_back(installation: Installation) -> None:
    """Its breaker cools down: that it does not poll yet is not its fault, and it is promoted when it does."""
    installation.change(stable_window_seconds=0.5)
    with installation.supervised():
        installation.becomes_active(installation.genesis)
        update = installation.reaches(
            installation.approved("slow", Behaviour(polls_again_after=1.0)), S.DEPLOYED_UNSTABLE
        )
        goes_away(installation, "bot_api")
        noticed(installation, "bot_api")
        time.sleep(0.2)  # the worker has noticed it, too
        comes_back(installation, "bot_api")
        noticed(installation, "bot_api", ended=True)
        back = time.monotonic()
        update = installation.reaches(update, S.PROMOTED, S.ROLLED_BACK)
        assert update.status is S.PROMOTED
        assert time.monotonic() - back > 0.8


@pytest.mark.parametrize("what", ["bot_api", "model"])
def test_ten_minutes_out_of_a_probation_change_nothing(installation: Installation, what: str) -> None:
    """The active worker goes on, is neither restarted nor rolled back, and the owner is told once."""
    with installation.supervised():
        installation.becomes_active(installation.genesis)
        update = installation.promoted()
        active = installation.active()
        goes_away(installation, what)
        noticed(installation, what)
        time.sleep(0.3)
        installation.passed += TEN_MINUTES
        time.sleep(0.3)
        comes_back(installation, what)
        noticed(installation, what, ended=True)
        assert installation.active() == active
        assert installation.update(update).status is S.PROMOTED
        [ended] = installation.told(EventType.EXTERNAL_TROUBLE_ENDED)
        assert float(str(ended["seconds"])) > TEN_MINUTES
        assert len(notices(installation)) == 1


def test_what_never_answered_the_host_is_away_only_when_a_worker_complains(installation: Installation) -> None:
    """A server that only containers reach is no reason to stop the clock for ever."""
    installation.probe_fails.add("model")
    with installation.supervised():
        installation.becomes_active(installation.genesis)
        installation.reaches(installation.approved(), S.PROMOTED)
        assert installation.told(EventType.EXTERNAL_TROUBLE_STARTED) == []


def test_a_worker_that_alone_cannot_reach_the_model_is_judged_as_ever(installation: Installation) -> None:
    """The host reaches it: the clock runs."""
    installation.behaviours[installation.genesis.sha or ""] = [Behaviour(model_fails=True)]
    with installation.supervised():
        installation.becomes_active(installation.genesis)
        installation.reaches(installation.approved("same", Behaviour(model_fails=True)), S.PROMOTED)
        assert installation.told(EventType.EXTERNAL_TROUBLE_STARTED) == []


def test_trouble_and_the_clock_outlive_the_supervisor(installation: Installation) -> None:
    """The next one goes on with the same episode and with what is left of the window."""
    installation.change(stable_window_seconds=1.0)
    with installation.supervised():
        installation.becomes_active(installation.genesis)
        update = installation.reaches(installation.approved(), S.DEPLOYED_UNSTABLE)
        goes_away(installation, "bot_api")
        noticed(installation, "bot_api")
        installation.until(lambda: (installation.ledger.probation(update.tx_id) or (0, 0))[1] is None)
    installation.passed += TEN_MINUTES
    with installation.supervised():
        time.sleep(0.5)
        assert installation.update(update).status is S.DEPLOYED_UNSTABLE
        comes_back(installation, "bot_api")
        installation.reaches(update, S.PROMOTED)
    assert len(installation.told(EventType.EXTERNAL_TROUBLE_STARTED)) == 1


def test_each_stop_of_the_engine_gives_the_whole_window_again(installation: Installation) -> None:
    """Also after a restart of the supervisor between the two."""
    installation.change(stable_window_seconds=1.0)
    with installation.supervised():
        installation.becomes_active(installation.genesis)
        update = installation.reaches(installation.approved(), S.DEPLOYED_UNSTABLE)
        stop_engine(installation, update)
        time.sleep(0.6)
    with installation.supervised():
        stop_engine(installation, update)
        update = installation.reaches(update, S.PROMOTED)
        again = installation.active()
        assert again is not None
        assert update.promoted_at is not None
        assert update.promoted_at - again.spawned_at > 1.0


def stop_engine(installation: Installation, update: Update) -> None:
    """It takes green along, and comes back."""
    green = installation.becomes_active(update)
    installation.engine.go_away()
    installation.engine.crash(green.worker_id, code=137)
    time.sleep(0.1)
    installation.engine.come_back()
    installation.until(lambda: installation.active() not in (None, green))


def test_a_green_that_dies_of_a_full_disk_is_started_again(installation: Installation) -> None:
    """Not by its own fault: it is proven anew once there is room."""
    installation.change(stable_window_seconds=1.0)
    with installation.supervised():
        installation.becomes_active(installation.genesis)
        update = installation.reaches(installation.approved(), S.DEPLOYED_UNSTABLE)
        green = installation.becomes_active(update)
        installation.disk_has_room = False
        installation.engine.crash(green.worker_id)
        time.sleep(0.3)
        assert installation.update(update).status is S.DEPLOYED_UNSTABLE
        installation.disk_has_room = True
        update = installation.reaches(update, S.PROMOTED, S.ROLLED_BACK)
        assert (update.status, update.blame) == (S.PROMOTED, None)
        assert [text for text in notices(installation) if "disk is full" in text]


def test_crashes_with_a_full_disk_are_not_counted(installation: Installation) -> None:
    """However many there are."""
    with installation.supervised():
        installation.becomes_active(installation.genesis)
        update = installation.promoted("fine")
        installation.disk_has_room = False
        for _ in range(4):
            installation.until(lambda: installation.active_sha() == update.sha)
            active = installation.active()
            assert active is not None
            installation.engine.crash(active.worker_id)
            installation.until(lambda active=active: installation.active() != active)  # type: ignore[misc]
        installation.becomes_active(update)
        assert installation.update(update).status is S.PROMOTED


def test_workers_that_do_not_come_up_with_a_full_disk_are_not_counted(installation: Installation) -> None:
    """Nor is N-1 beside them: what was promoted stays, and is taken up again when there is room."""
    with installation.supervised():
        installation.becomes_active(installation.genesis)
        update = installation.promoted("fine")
        for of in (update, installation.genesis):
            installation.behaviours[of.sha or ""] = [Behaviour(exits_at_start=1)]
        installation.disk_has_room = False
        for name in installation.running():
            installation.engine.crash(name)
        spawned = len(installation.told(EventType.WORKER_SPAWNED))
        installation.until(lambda: len(installation.told(EventType.WORKER_SPAWNED)) > spawned + 3)
        assert installation.ledger.crashes(update.sha or "", 0) == []
        assert installation.ledger.crashes(installation.genesis.sha or "", 0) == []
        installation.behaviours.clear()
        installation.disk_has_room = True
        installation.becomes_active(update)
        assert installation.update(update).status is S.PROMOTED


def test_a_crash_loop_is_not_decided_on_while_the_disk_is_full(installation: Installation) -> None:
    """N-1 would fare no better; afterwards it is judged as ever."""
    installation.change(crash_threshold=1000)
    with installation.supervised():
        installation.becomes_active(installation.genesis)
        update = installation.promoted()
        for _ in range(2):
            active = installation.becomes_active(update)
            installation.engine.crash(active.worker_id)
            installation.until(lambda active=active: installation.active() not in (None, active))  # type: ignore[misc]
    active = installation.becomes_active(update)
    installation.engine.crash(active.worker_id)
    installation.change(crash_threshold=2)
    installation.disk_has_room = False
    with installation.supervised():
        installation.becomes_active(update)
        assert installation.update(update).status is S.PROMOTED
