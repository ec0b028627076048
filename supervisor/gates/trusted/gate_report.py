"""A pytest plug-in that reports by node id, one JSON object a line, to the file that GATE_REPORT names.

It runs inside the candidate's container, mounted read-only from the trusted tree. The candidate's code shares the
process and could forge its lines: tests are evidence, and the exam, outside the container, is the wall.
"""

import json
import os
from pathlib import Path

import pytest

_LONGEST_FAILURE = 4000
_IDS_A_LINE = 100


def _write(line: dict[str, object]) -> None:
    with Path(os.environ["GATE_REPORT"]).open("a", encoding="utf-8") as report:
        report.write(json.dumps(line) + "\n")


def pytest_collection_finish(session: pytest.Session) -> None:
    """All ids, before the first test runs: what is missing later did not run."""
    ids = [item.nodeid for item in session.items]
    for start in range(0, max(1, len(ids)), _IDS_A_LINE):
        _write({"collected": ids[start : start + _IDS_A_LINE]})


def pytest_collectreport(report: pytest.CollectReport) -> None:
    """A module that cannot be imported, or skips itself, has no tests to miss; it is named by itself."""
    if report.failed:
        _write({"id": report.nodeid, "outcome": "error", "text": str(report.longrepr)[-_LONGEST_FAILURE:]})
    elif report.skipped:
        _write({"id": report.nodeid, "outcome": "skipped"})


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Each test's call, and set-up or tear-down where those decide."""
    if report.when == "call" or report.outcome != "passed":
        outcome = report.outcome if report.when == "call" or report.skipped else "error"
        text = str(report.longrepr)[-_LONGEST_FAILURE:] if report.failed else ""
        _write({"id": report.nodeid, "outcome": outcome, "text": text, "seconds": report.duration})


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(exitstatus: int) -> None:
    """The last line; without it the run was cut short."""
    _write({"finished": int(exitstatus)})
