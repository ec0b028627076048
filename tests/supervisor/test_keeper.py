"""The keeper, with small real processes in the supervisor's place."""

import itertools
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from supervisor.homelock import held, home_lock, owner
from supervisor.logfile import rotate
from supervisor.paths import Paths

#: Notes when it starts, holds the home for a while, and ends as the last word of its command says.
SUPERVISOR = """
import os, signal, sys, time
from pathlib import Path
from supervisor.homelock import home_lock, sign_off
from supervisor.paths import Paths

home, seconds, end = Path(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
with (home / "starts").open("a") as starts:
    print(time.monotonic(), file=starts)
if end == "early":
    sys.exit(1)
with home_lock(Paths(home).lock):
    signal.signal(signal.SIGTERM, lambda *_: (sign_off(Paths(home).lock), os._exit(0)))
    time.sleep(seconds)
    if end == "told":
        sign_off(Paths(home).lock)
    if end == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    sys.exit(1)
"""
KEEPER = """
import sys
from pathlib import Path
from supervisor.keeper import Keeper, Pace
from supervisor.paths import Paths

home, command = Path(sys.argv[1]), sys.argv[3:]
shortest, longest, steady = map(float, sys.argv[2].split(","))
Keeper(Paths(home), command=command, pace=Pace(shortest, longest, steady, look=0.01)).keep()
"""

Keep = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    """An empty home."""
    found = Paths(tmp_path / "home")
    found.logs.mkdir(parents=True)
    return found


@pytest.fixture
def keep(paths: Paths) -> Iterator[Keep]:
    """Starts a keeper; it and what it has started is gone after the test."""
    processes = []

    def start(*, seconds: float = 0.0, end: str = "fails", pace: str = "0.1,0.4,60") -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-c", SUPERVISOR, str(paths.home), str(seconds), end]
        root = Path(__file__).resolve().parents[2]
        process = subprocess.Popen([sys.executable, "-c", KEEPER, str(paths.home), pace, *command], cwd=root)
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.terminate()
        process.wait(20)


def starts(paths: Paths) -> list[float]:
    file = paths.home / "starts"
    return [float(line) for line in file.read_text().splitlines()] if file.exists() else []


def wait_until(met: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a keeper starts has no directory of ours to begin from."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[2]))


@pytest.mark.parametrize("end", ["fails", "killed"])
def test_one_that_dies_is_started_again_ever_more_slowly(paths: Paths, keep: Keep, end: str) -> None:
    """However it dies; the pause doubles up to the longest."""
    keep(end=end)
    wait_until(lambda: len(starts(paths)) >= 5)
    times = starts(paths)
    pauses = [after - before for before, after in itertools.pairwise(times)]
    for pause, least in zip(pauses, (0.1, 0.2, 0.4, 0.4), strict=False):
        assert pause >= least
    assert pauses[3] < 0.4 + 5, "no longer than the longest pause and the time of a start"


def test_one_that_lived_for_long_starts_the_count_anew(paths: Paths, keep: Keep) -> None:
    """It is the crash loop that is slowed down, not the crash now and then."""
    keep(seconds=0.6, pace="0.05,30,0.5")
    wait_until(lambda: len(starts(paths)) >= 6)  # with doubled pauses the sixth would take twelve seconds
    times = starts(paths)
    assert times[5] - times[4] < 0.6 + 0.8


def test_one_that_was_told_to_end_is_not_started_again(paths: Paths, keep: Keep) -> None:
    """Its keeper ends, too."""
    keeper = keep(end="told")
    assert keeper.wait(20) == 0
    assert len(starts(paths)) == 1


def test_one_that_never_gets_as_far_as_the_lock(paths: Paths, keep: Keep) -> None:
    """On a home whose supervisor had died it is tried again and again."""
    paths.lock.write_text("4000000\n")
    keep(end="early", pace="0.01,0.05,60")
    wait_until(lambda: len(starts(paths)) >= 3)


def test_one_that_somebody_else_started(paths: Paths, keep: Keep) -> None:
    """Is watched like any other: no second one beside it, and another one when it has died."""
    with home_lock(paths.lock):
        keep(seconds=60)
        wait_until(lambda: held(paths.keeper_lock))
        time.sleep(0.3)
        assert starts(paths) == []
        paths.lock.write_text("4000000\n")  # as if it were the number of a process that is no more
    wait_until(lambda: len(starts(paths)) == 1)


@pytest.mark.parametrize(("order", "takes_along"), [(signal.SIGTERM, True), (signal.SIGUSR1, False)])
def test_signals(paths: Paths, keep: Keep, order: signal.Signals, takes_along: bool) -> None:
    """SIGTERM ends the supervisor, too; SIGUSR1 leaves it alone."""
    keeper = keep(seconds=60)
    wait_until(lambda: held(paths.lock))
    keeper.send_signal(order)
    assert keeper.wait(20) == 0
    assert held(paths.lock) is not takes_along
    if not takes_along:
        subprocess.run(["kill", owner(paths.lock)], check=True)


def test_a_log_that_has_grown_is_put_aside_at_a_start(paths: Paths, keep: Keep) -> None:
    """The new one is small, and the old one is there under another name."""
    with paths.supervisor_log.open("wb") as log:
        log.truncate(21 * 10**6)
    keep(seconds=60)
    wait_until(lambda: bool(starts(paths)))
    assert paths.supervisor_log.stat().st_size < 10**6
    assert paths.supervisor_log.with_name("supervisor.log.1").stat().st_size == 21 * 10**6


def test_a_log_is_put_aside_while_it_is_written(tmp_path: Path) -> None:
    """Whoever holds it open goes on writing to the file of that name."""
    log = tmp_path / "some.log"
    with log.open("ab", buffering=0) as writing:
        writing.write(b"x" * 100)
        rotate(log, above=100)
        assert log.stat().st_size == 100
        writing.write(b"y")
        rotate(log, above=100)
        writing.write(b"after")
    assert log.read_bytes() == b"after"
    assert log.with_name("some.log.1").read_bytes() == b"x" * 100 + b"y"
