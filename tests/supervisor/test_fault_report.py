"""The end of a run says of every fault whether it was shown."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.faultreport import AGAIN, missing, outcomes, record, told
from tests.support.faults import ROOT, TITLES

_CONFTEST = "from tests.conftest import pytest_collection_modifyitems, pytest_sessionfinish, pytest_terminal_summary\n"
_TESTS = """
import pytest

@pytest.mark.fault(1, 2)
def test_shown(): pass

@pytest.mark.fault(2)
def test_left_out(): pytest.skip("not here")
"""


def report(name: str, *numbers: int) -> pytest.TestReport:
    """Of a test that injects these faults."""
    return pytest.TestReport(
        nodeid=name,
        location=("x", 1, "x"),
        keywords={},
        outcome="passed",
        longrepr=None,
        when="call",
        user_properties=[("fault", number) for number in numbers] + [("other", 9)],
    )


def test_a_fault_is_shown_only_when_all_its_tests_passed() -> None:
    """Each has its line, with how many of its tests ended how; a test that broke down in its end did not pass."""
    stats: dict[str, list[object]] = {
        "passed": [report("a", 1, 2, 3), report("b", 1), report("c", 4)],
        "skipped": [report("d", 2, 3)],
        "failed": [report("e", 3)],
        "error": [report("c", 4)],
        "warnings": [object()],
    }
    found = outcomes(record(stats))
    assert missing(found, range(1, 6)) == [2, 3, 4, 5]
    assert told(found, range(1, 6)) == [
        "1 of 5 shown",
        " 1  2 passed: the supervisor killed before and after every ledger commit and every engine call of every state",
        " 2  1 skipped, 1 passed: killed again and again in one state",
        " 3  1 failed, 1 skipped, 1 passed: killed during a rollback",
        " 4  1 error: killed between green's start and the switch",
        " 5  not run: killed between the switch and its commit",
    ]
    assert missing(found, [1]) == []


@pytest.fixture
def some(tmp_path: Path) -> Path:
    """A directory with tests of its own, and the hooks of ours."""
    (tmp_path / "some").mkdir()
    (tmp_path / "some" / "conftest.py").write_text(_CONFTEST)
    (tmp_path / "some" / "test_some.py").write_text(_TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]\ntestpaths = some\nmarkers =\n    fault: injects\n    engine: x\n")
    return tmp_path


def run(directory: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pytest", "--import-mode=importlib", *arguments],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(ROOT), "AUTONOUS_REQUIRE_ENGINE": "1", AGAIN: "", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_whole_run_in_which_a_fault_was_skipped_fails_where_all_must_be_shown(some: Path) -> None:
    """Though every test is content, and whichever process ran it; the end of the run names what was not shown."""
    ended = run(some, "--numprocesses", "1", "-p", "no:cacheprovider")
    assert "1 passed, 1 skipped" in ended.stdout, ended.stdout + ended.stderr
    lines = ended.stdout.splitlines()
    assert "1 of 44 shown" in lines
    assert " 2  1 skipped, 1 passed: killed again and again in one state" in lines
    assert " 3  not run: killed during a rollback" in lines
    assert ended.returncode == pytest.ExitCode.TESTS_FAILED


def test_what_failed_and_passes_the_second_time_is_shown(some: Path) -> None:
    """The second run has one file, and its report and its end are those of both: what neither showed still fails."""
    everything = ", ".join(str(number) for number in TITLES)
    (some / "some" / "test_some.py").write_text(
        f"import os\nimport pytest\n\n@pytest.mark.fault({everything})\ndef test_most(): pass\n"
    )
    (some / "some" / "test_other.py").write_text(
        "import os\nimport pytest\n\n@pytest.mark.fault(3)\ndef test_it(): assert 'WELL' in os.environ\n"
    )
    other, again = "some/test_other.py", {AGAIN: "1", "WELL": "1"}
    first = run(some)
    assert "43 of 44 shown" in first.stdout, first.stdout + first.stderr
    assert " 3  1 failed, 1 passed: killed during a rollback" in first.stdout
    still = run(some, other, **{AGAIN: "1"})
    assert (" 3  1 failed, 1 passed" in still.stdout, still.returncode) == (True, pytest.ExitCode.TESTS_FAILED)
    second = run(some, other, **again)
    assert "44 of 44 shown" in second.stdout, second.stdout + second.stderr
    assert " 3  2 passed: killed during a rollback" in second.stdout
    assert second.returncode == pytest.ExitCode.OK

    (some / "some" / "test_some.py").write_text(_TESTS)
    run(some)
    incomplete = run(some, other, **again)
    assert "1 passed" in incomplete.stdout
    assert " 4  not run" in incomplete.stdout
    assert incomplete.returncode == pytest.ExitCode.TESTS_FAILED

    run(some, other)  # a part by itself, after which there is nothing to complete
    assert "not run" not in run(some, other, **again).stdout
