"""What every run of the tests needs: which of them want an engine, and the images that those start from.

Where no engine answers, tests that want one are left out and counted at the end; ``AUTONOUS_REQUIRE_ENGINE=1`` makes
each of them fail instead. The end of a whole run says of each fault of ``docs/faults.md`` whether it was shown; with
the same variable, one that was not fails the run.
"""

import fcntl
import functools
import gc
import os
import shutil
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.engine import Engine
from supervisor.hostengine import EngineMissing, find_engine
from supervisor.images.builds import Deps, ensure_deps
from tests.support import faultreport, figures
from tests.support.durations import rank
from tests.support.faults import TITLES
from tests.support.leftout import leave_out
from tests.support.privateengine import sweep_engines
from tests.support.projects import sweep

TESTS = Path(__file__).parent
WANT_ENGINE = (TESTS / "engine", TESTS / "e2e", TESTS / "crash")


@functools.cache
def why_no_engine() -> str | None:
    """None when an engine answers, else one line."""
    try:
        find_engine()
    except EngineMissing as error:
        return str(error)
    return None


# Until everything is collected: to look through it for garbage again and again takes a quarter of the time.
gc.disable()


def pytest_collection_finish() -> None:
    """What is there by now stays."""
    gc.freeze()
    gc.enable()


def pytest_sessionstart(session: pytest.Session) -> None:
    """Of several processes the one that gathers what the others find collects nothing."""
    if session.config.getoption("numprocesses", None):
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark by directory, so that no test forgets to; those that take long come first, so that none runs on alone."""
    items.sort(key=lambda item: rank(item.path))
    for item in items:
        faultreport.note(item)
        if any(item.path.is_relative_to(directory) for directory in WANT_ENGINE):
            item.add_marker(pytest.mark.engine)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Leave out what wants an engine where there is none."""
    if item.get_closest_marker("engine") is None or (reason := why_no_engine()) is None:
        return
    leave_out(reason)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what was left out, without which a run with no engine looks like a whole one, and what was measured."""
    skipped = terminalreporter.stats.get("skipped", [])
    left_out = [report for report in skipped if "engine" in report.keywords]
    if left_out and (reason := why_no_engine()):
        terminalreporter.section("left out")
        terminalreporter.line(f"{len(left_out)} tests want a container engine and did not run: {reason}")
    figures.print_all(terminalreporter)
    found, wanted = _faults(terminalreporter.config)
    if _is_whole(terminalreporter.config) or faultreport.missing(found, wanted):
        terminalreporter.section("faults")
        for line in faultreport.told(found, wanted):
            terminalreporter.line(line)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Where everything has to be shown, a fault that was not is a failure; what was shown is left for another try."""
    config = session.config
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or hasattr(config, "workerinput"):
        return
    if not _is_again():
        faultreport.keep(config, faultreport.record(reporter.stats) if _is_whole(config) else None)
    required = os.environ.get("AUTONOUS_REQUIRE_ENGINE") == "1"
    if required and exitstatus == pytest.ExitCode.OK and faultreport.missing(*_faults(config)):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _faults(config: pytest.Config) -> tuple[dict[int, Counter[str]], list[int]]:
    """How the tests of each fault ended, and which faults the run is asked for: of a part those that it is about."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    assert reporter is not None
    found = faultreport.outcomes({**_before(config), **faultreport.record(reporter.stats)})
    return found, list(TITLES if _is_whole(config) else found)


def _before(config: pytest.Config) -> faultreport.Record:
    """What the run of all tests found that this one completes."""
    return (faultreport.kept(config) if _is_again() else None) or {}


def _is_whole(config: pytest.Config) -> bool:
    """Whether all tests ran that `make test` runs, with those of the run before if this one completes it."""
    if _is_again():
        return faultreport.kept(config) is not None
    everything = config.args_source is pytest.Config.ArgsSource.TESTPATHS
    return everything and not config.option.keyword and config.option.markexpr in {"", "not exhaustive"}


def _is_again() -> bool:
    return os.environ.get(faultreport.AGAIN) == "1"


@pytest.fixture(scope="session", autouse=True)
def _no_socket_directory_stays(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Homes deep in pytest's own directories have their sockets elsewhere: that goes with the tests."""
    yield
    for directory in Path("/tmp").glob(f"autonous-{os.getuid()}-*"):
        note = directory / "home"
        if note.is_file() and Path(note.read_text().strip()).is_relative_to(tmp_path_factory.getbasetemp()):
            shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def engine() -> Engine:
    """The engine of this machine."""
    return Engine()


@pytest.fixture(scope="session")
def deps(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Deps:
    """The dependency image, made by the first of several test processes that wants it."""
    shared = tmp_path_factory.getbasetemp().parent
    with (shared / "images.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for left in (*sweep(), *sweep_engines()):
            warnings.warn(f"removed what a run that has ended left of {left}", stacklevel=1)
        return ensure_deps(engine, print)
