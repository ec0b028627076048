"""The clock of the machine is set while an update is in its probation."""

import time
from pathlib import Path

import pytest

from tests.support import candidates
from tests.support.installation import Install, Installation, wait_for
from worker.models.dummy import OFFLINE_REPLY

WINDOW_SECONDS = 8
HOUR_SECONDS = 3600.0

#: What each interpreter imports at its start: its wall clock is off by what a file says.
_HOOK = """
import time
from pathlib import Path

_now = time.time
_off = Path({off!r})
time.time = lambda: _now() + float(_off.read_text())
"""


@pytest.fixture(scope="module")
def off(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """By how many seconds the supervisor's clock is wrong."""
    file = tmp_path_factory.mktemp("clock") / "off"
    file.write_text("0")
    return file


@pytest.fixture(scope="module")
def installation(install: Install, off: Path, checkout: Path) -> Installation:
    """Up, with a keeper, a supervisor and a local bot whose clock can be set."""
    (off.parent / "sitecustomize.py").write_text(_HOOK.format(off=str(off)))
    made = install(PYTHONPATH=f"{off.parent}:{checkout}", AUTONOUS_UPDATE_STABLE_WINDOW_SECONDS=str(WINDOW_SECONDS))
    made.up()
    return made


def set_clock(off: Path, seconds: float) -> None:
    new = off.with_name("new")
    new.write_text(str(seconds))
    new.replace(off)


@pytest.mark.exhaustive
@pytest.mark.fault(32)
def test_a_clock_that_is_set_in_a_probation(installation: Installation, off: Path, checkout: Path) -> None:
    """An hour on, then an hour behind: the window is as long as it was to be, and nobody is blamed."""
    tx = installation.stage(candidates.adds_a_module(checkout, "out_of_time"))
    installation.run("approve", tx).expect(0)
    wait_for(lambda: installation.status_of(tx) == "deployed_unstable", 30, "the probation")
    began = time.monotonic()
    set_clock(off, HOUR_SECONDS)
    time.sleep(WINDOW_SECONDS / 4)
    assert installation.status_of(tx) == "deployed_unstable"
    set_clock(off, -HOUR_SECONDS)
    wait_for(lambda: installation.status_of(tx) != "deployed_unstable", 60, "its end")
    assert WINDOW_SECONDS / 2 < time.monotonic() - began < 2 * WINDOW_SECONDS
    shown = installation.show(tx)
    assert (shown["status"], shown["blame"]) == ("promoted", None)
    assert abs(shown["promoted_at"] - time.time() + HOUR_SECONDS) < HOUR_SECONDS / 2  # it is the clock that was set
    assert installation.say("what time is it?") == OFFLINE_REPLY
