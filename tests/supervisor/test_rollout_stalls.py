"""A machine that stands still for a while: nobody could be heard, and nobody is blamed for it."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from supervisor import sessions
from supervisor.rollout.pace import Pace
from supervisor.sessions import Signal
from supervisor.states import Status
from supervisor.timing import IN_SERVICE, SYSTEM_CLOCKS
from supervisor.workers.containers import WorkerContainers
from tests.supervisor.fakes.installation import Installation
from tests.supervisor.fakes.workers import Behaviour

S = Status


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    with Installation(tmp_path / "home") as made:
        yield made


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Silence counts soon, so that a test can be short."""
    monkeypatch.setattr(sessions, "LOST_AFTER_SECONDS", 0.5)
    monkeypatch.setattr(sessions, "OWN_SILENCE_SECONDS", 0.3)


def stall(installation: Installation, seconds: float = 0.8) -> None:
    """The machine stands still: no beat comes in, and the roll-out does nothing, wherever it is."""
    heard, thawed = installation.socket.sessions, threading.Event()
    frozen = {name: threading.Event() for name in ("rollout", "lookout")}

    def freeze() -> None:
        mine = frozen.get(threading.current_thread().name)
        if mine is not None and not thawed.is_set():
            mine.set()
            thawed.wait(5)

    installation.hold_up = freeze
    assert all(thread.wait(5) for thread in frozen.values())
    installation.socket.sessions = None
    time.sleep(seconds)
    thawed.set()
    time.sleep(0.05)
    installation.socket.sessions = heard
    installation.hold_up = lambda: None


@pytest.mark.usefixtures("impatient")
def test_a_machine_that_stood_still_is_no_fault_of_green(installation: Installation) -> None:
    """Nobody could be heard in that time: green is not blamed for its silence, and is promoted."""
    installation.change(stable_window_seconds=2)
    with installation.supervised():
        installation.becomes_active(installation.genesis)
        update = installation.reaches(installation.approved(), S.DEPLOYED_UNSTABLE)
        stall(installation)
        update = installation.reaches(update, S.PROMOTED, S.ROLLED_BACK)
        assert update.status is S.PROMOTED


@pytest.mark.usefixtures("impatient")
def test_a_machine_that_stood_still_in_a_deploy_is_no_fault_of_green(installation: Installation) -> None:
    """Neither its silence counts nor the time that it had to get ready."""
    with installation.supervised():
        blue = installation.becomes_active(installation.genesis)
        installation.engine.crash(blue.worker_id)
        installation.behaviours[installation.genesis.sha or ""] = [Behaviour(work_in_hand=0.5)]
        installation.until(lambda: installation.active() not in (None, blue))
        update = installation.reaches(installation.approved(), S.DEPLOYING)
        installation.until(lambda: len(installation.running()) == 2)
        stall(installation)
        update = installation.reaches(update, S.PROMOTED, S.DEPLOY_FAILED, S.ROLLED_BACK)
        assert update.status is S.PROMOTED


@pytest.mark.usefixtures("impatient")
def test_a_roll_out_that_was_busy_forgives_nothing() -> None:
    """Somebody looked all the while: only when nobody did, it is told that silence was forgiven, and once."""
    signal, stopping = Signal(), threading.Event()
    listening = sessions.Sessions(signal)
    lookout = threading.Thread(target=listening.keep_looking, args=(stopping,))
    lookout.start()
    pace = Pace(
        containers=cast(WorkerContainers, None),
        sessions=listening,
        signal=signal,
        clocks=SYSTEM_CLOCKS,
        timing=IN_SERVICE,
    )
    time.sleep(0.5)
    assert not pace.look()
    stopping.set()
    lookout.join()
    time.sleep(0.5)
    listening.look()  # whoever was the first
    assert [pace.look(), pace.look()] == [True, False]
