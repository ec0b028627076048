"""Where no service manager is, a keeper brings the supervisor back; `make up` is all that anyone has to remember."""

import os
import signal
import subprocess
import sys
import time

import pytest

from supervisor.homelock import held, owner
from tests.support.installation import Install, Installation, wait_for


@pytest.fixture(scope="module")
def installation(install: Install) -> Installation:
    """Never twice up at once; each test brings it up."""
    return install()


@pytest.fixture
def kept(installation: Installation) -> Installation:
    """Up, with a keeper."""
    installation.up()
    assert held(installation.paths.keeper_lock)
    return installation


def keeper_pid(installation: Installation) -> int:
    return int(owner(installation.paths.keeper_lock))


def another_supervisor(installation: Installation, than: int) -> bool:
    return held(installation.paths.lock) and installation.supervisor_pid() != than


def test_a_killed_supervisor_comes_back(kept: Installation) -> None:
    """By itself, and adopts the worker as it is."""
    active = kept.settled()["active"]
    before = kept.supervisor_pid()
    os.kill(before, signal.SIGKILL)
    wait_for(lambda: another_supervisor(kept, before), 10, "another supervisor")
    assert kept.settled()["active"] == active


@pytest.mark.exhaustive
def test_up_right_after_the_end_of_a_supervisor(kept: Installation) -> None:
    """Whoever is quicker, one supervisor runs at the end and `up` succeeds."""
    before = kept.supervisor_pid()
    os.kill(before, signal.SIGKILL)
    kept.up()
    assert another_supervisor(kept, before)
    assert kept.status()["running"] is True


@pytest.mark.exhaustive
def test_each_up_puts_a_new_keeper_in_place(kept: Installation) -> None:
    """With the environment and the code of now; the supervisor notices nothing."""
    keeper, supervisor = keeper_pid(kept), kept.supervisor_pid()
    kept.up()
    assert keeper_pid(kept) != keeper
    assert kept.supervisor_pid() == supervisor


def test_a_killed_keeper(kept: Installation) -> None:
    """The supervisor goes on; the next `up` puts a new one in place, which keeps the same supervisor."""
    supervisor = kept.supervisor_pid()
    os.kill(keeper_pid(kept), signal.SIGKILL)
    wait_for(lambda: not held(kept.paths.keeper_lock), 5, "the end of the keeper")
    assert kept.supervisor_pid() == supervisor
    kept.up()
    os.kill(supervisor, signal.SIGKILL)
    wait_for(lambda: another_supervisor(kept, supervisor), 10, "another supervisor")


@pytest.mark.exhaustive
def test_a_second_keeper(kept: Installation) -> None:
    """Ends with a line that names the first; nothing changes."""
    keeper, supervisor = keeper_pid(kept), kept.supervisor_pid()
    second = subprocess.run(
        [sys.executable, "-m", "supervisor.keeper"],
        env=kept.environment,
        cwd=kept.checkout,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert (second.returncode, f"a keeper (process {keeper}) runs" in second.stderr) == (1, True), second.stderr
    assert (keeper_pid(kept), kept.supervisor_pid()) == (keeper, supervisor)


def test_a_keeper_that_is_told_to_end(kept: Installation) -> None:
    """It ends its supervisor and itself; the worker goes on and answers."""
    workers = [container["Id"] for container in kept.containers()]
    os.kill(keeper_pid(kept), signal.SIGTERM)
    wait_for(lambda: not held(kept.paths.keeper_lock), 30, "the end of the keeper")
    assert not held(kept.paths.lock)
    assert [container["Id"] for container in kept.containers()] == workers
    assert kept.say("alone?")


def test_a_supervisor_that_is_told_to_end(kept: Installation) -> None:
    """It stays away, and its keeper ends with it."""
    os.kill(kept.supervisor_pid(), signal.SIGTERM)
    wait_for(lambda: not held(kept.paths.keeper_lock), 30, "the end of the keeper")
    assert not held(kept.paths.lock)
    assert len(kept.containers()) == 1


def test_down_ends_both(kept: Installation) -> None:
    """And the worker; nothing comes back."""
    kept.down()
    assert not held(kept.paths.keeper_lock)
    time.sleep(1.5)
    assert not held(kept.paths.lock)
    assert kept.containers() == []


@pytest.mark.exhaustive
def test_down_between_two_starts(kept: Installation) -> None:
    """A supervisor that has just died is not brought back after a `down`."""
    os.kill(kept.supervisor_pid(), signal.SIGKILL)
    kept.down()
    assert not held(kept.paths.keeper_lock)
    time.sleep(1.5)
    assert not held(kept.paths.lock)
    assert kept.containers() == []
