"""The lock of a home: one holder, gone with its process, and nobody who only looks gets in the way."""

import fcntl
import os
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from supervisor.homelock import HomeInUse, died, held, home_lock, one_at_a_time, owner, sign_off
from supervisor.paths import CHECKOUT

HOLD = """
import sys, time
from pathlib import Path
from supervisor.homelock import home_lock, sign_off
path = Path(sys.argv[1])
with home_lock(path):
    print("held", flush=True)
    sys.stdin.readline()
    sign_off(path)
"""


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    return tmp_path / "supervisor.lock"


def holder(lock: Path) -> "subprocess.Popen[str]":
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(lock)], cwd=CHECKOUT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_one_holder_at_a_time(lock: Path) -> None:
    """The second is told who has it and where; after the first has gone it may."""
    with home_lock(lock):
        assert held(lock)
        assert owner(lock) == str(os.getpid())
        with pytest.raises(HomeInUse) as caught, home_lock(lock):
            pass
        assert str(caught.value) == f"a supervisor (process {os.getpid()}) runs on {lock.parent} already"
    assert not held(lock)
    with home_lock(lock):
        assert held(lock)


def test_the_holder_is_called_what_it_is(lock: Path) -> None:
    """The lock is of use to others than the supervisor."""
    with home_lock(lock), pytest.raises(HomeInUse, match=r"^a keeper \(process "), home_lock(lock, "a keeper"):
        pass


def test_the_lock_is_gone_with_its_process(lock: Path) -> None:
    """A kill leaves no lock behind, only the number of the one that died."""
    process = holder(lock)
    assert held(lock)
    with pytest.raises(HomeInUse, match=rf"\(process {process.pid}\)"), home_lock(lock):
        pass
    process.kill()
    process.wait()
    assert not held(lock)
    assert died(lock)
    assert owner(lock) == str(process.pid)
    with home_lock(lock):
        assert owner(lock) == str(os.getpid())


def test_an_end_in_order_is_told_from_a_death(lock: Path) -> None:
    """Who signs off has not died."""
    process = holder(lock)
    assert not died(lock)
    process.communicate("go\n")
    assert not held(lock)
    assert not died(lock)
    assert owner(lock) == "unknown"


def test_the_lock_is_not_inherited(lock: Path) -> None:
    """A process that the holder started does not keep it alive."""
    with home_lock(lock):
        child = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    assert not held(lock)
    child.kill()
    child.wait()


def test_whoever_only_looks_never_gets_in_the_way(lock: Path) -> None:
    """A start that meets a command just looking, which has the lock for that instant, waits for it to be over."""
    lock.touch()
    with lock.open() as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        over = threading.Timer(0.05, lambda: fcntl.flock(looking, fcntl.LOCK_UN))
        over.start()
        with home_lock(lock):
            assert held(lock)
        over.join()


def test_a_home_without_a_lock_is_not_held(lock: Path) -> None:
    """And looking at it makes none."""
    assert not held(lock)
    assert not died(lock)
    assert owner(lock) == "unknown"
    assert not lock.exists()


def test_signing_off_makes_room_for_the_next(lock: Path) -> None:
    """The file stays, without a number."""
    with home_lock(lock):
        sign_off(lock)
    assert lock.read_text() == ""


def test_of_two_starts_at_once_one_wins(lock: Path) -> None:
    """Whoever loses is told so."""
    inside: list[int] = []
    most: list[int] = []

    def start() -> None:
        with suppress(HomeInUse), home_lock(lock):
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.3)
            inside.pop()

    threads = [threading.Thread(target=start) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]


def test_one_at_a_time_waits(lock: Path) -> None:
    """Everybody gets in, one after the other."""
    inside: list[int] = []
    most: list[int] = []

    def work() -> None:
        with one_at_a_time(lock):
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.01)
            inside.pop()

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 6
