"""The end of a run says of every fault whether it was shown."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.faultreport import outcomes, told
from tests.support.faults import ROOT

_CONFTEST = "from tests.conftest import pytest_collection_modifyitems, pytest_sessionfinish, pytest_terminal_summary\n"
_TESTS = """
import pytest

@pytest.mark.fault(1, 2)
def test_shown(): pass

@pytest.mark.fault(2)
def test_left_out(): pytest.skip("not here")
"""


def report(*numbers: int) -> pytest.TestReport:
    """Of a test that injects these faults."""
    return pytest.TestReport(
        nodeid="x",
        location=("x", 1, "x"),
        keywords={},
        outcome="passed",
        longrepr=None,
        when="call",
        user_properties=[("fault", number) for number in numbers] + [("other", 9)],
    )


def test_a_fault_is_shown_only_when_all_its_tests_passed() -> None:
    """What failed tells more than what was skipped."""
    stats: dict[str, list[object]] = {
        "passed": [report(1, 2, 3), report(4)],
        "skipped": [report(2, 3)],
        "failed": [report(3)],
        "error": [report(4)],
        "warnings": [object()],
    }
    found = outcomes(stats)
    assert found == {1: "passed", 2: "skipped", 3: "failed", 4: "error"}
    assert told(found, range(1, 6)) == [
        "1 of 5 shown",
        "skipped: 2, killed again and again in one state",
        "failed: 3, killed during a rollback",
        "error: 4, killed between green's start and the switch",
        "not run: 5, killed between the switch and its commit",
    ]
    assert told({1: "passed"}, [1]) == ["1 of 1 shown"]


def test_a_whole_run_in_which_a_fault_was_skipped_fails_where_all_must_be_shown(tmp_path: Path) -> None:
    """Though every test is content, and whichever process ran it; the end of the run names what was not shown."""
    (tmp_path / "some").mkdir()
    (tmp_path / "some" / "conftest.py").write_text(_CONFTEST)
    (tmp_path / "some" / "test_some.py").write_text(_TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]\ntestpaths = some\nmarkers =\n    fault: injects\n    engine: x\n")
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "--numprocesses", "1", "-p", "no:cacheprovider", "--import-mode=importlib"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "AUTONOUS_REQUIRE_ENGINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "1 passed, 1 skipped" in run.stdout, run.stdout + run.stderr
    lines = run.stdout.splitlines()
    assert "1 of 44 shown" in lines
    assert "skipped: 2, killed again and again in one state" in lines
    assert "not run: 3, killed during a rollback" in lines
    assert run.returncode == pytest.ExitCode.TESTS_FAILED
