"""What is told of an update on its way through the gates."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from supervisor.contract import Progress
from supervisor.ledger import Ledger, Update
from supervisor.states import Status
from supervisor.updates.progress import LONGEST_EVIDENCE, evidence, follow
from tests.supervisor.fakes.updates import genesis, update_in, way


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(tmp_path / "supervisor.db") as opened:
        genesis(opened)
        yield opened


def steps(ledger: Ledger, update: Update) -> list[Progress]:
    """Everything that is told now."""
    waits = iter([False, True])
    return list(follow(ledger, update, wait=lambda: None, stopped=lambda: next(waits)))


def base_of(ledger: Ledger) -> Update:
    return ledger.updates()[-1]


def test_the_steps_of_an_update_that_is_staged(ledger: Ledger) -> None:
    """Each has its words; the last one is final, though two events came with the same move."""
    update = update_in(ledger, Status.CREATED, base=base_of(ledger))
    summary = {"passed": 212, "failed": 0, "skipped": 3}
    for source, target in pairwise(way(Status.STAGED)):
        changes = {"test_summary": summary} if source is Status.TESTING else {}
        ledger.move(update.tx_id, source, target, changes=changes, payload={"duration_ms": 620})
    told = steps(ledger, update)
    assert [step.text for step in told if step.text] == [
        "applied",
        "built in 0.6 s",
        "212 tests passed, 3 skipped",
        "exam passed",
        "waiting for you",
    ]
    assert [step.final for step in told] == [False] * (len(told) - 1) + [True]
    assert (told[-1].status, told[-1].event, told[-1].evidence) == ("staged", "update.artifact.staged", "")


def test_a_failed_gate_is_told_with_its_evidence(ledger: Ledger) -> None:
    """The reason is the text; the names of the tests and the end of the log are the evidence."""
    update = update_in(ledger, Status.TESTING, base=base_of(ledger))
    ledger.move(
        update.tx_id,
        Status.TESTING,
        Status.TEST_FAILED,
        changes={
            "last_error": "1 failed: tests/worker/test_a.py::test_b\n\nAssertionError: 1 == 2",
            "test_summary": {"passed": 3, "failed": 1, "failing": ["tests/worker/test_a.py::test_b"]},
        },
        payload={"error": "1 failed: tests/worker/test_a.py::test_b"},
    )
    last = steps(ledger, update)[-1]
    assert (last.status, last.final, last.text) == ("test_failed", True, "1 failed: tests/worker/test_a.py::test_b")
    assert "tests/worker/test_a.py::test_b" in last.evidence
    assert last.evidence.endswith("AssertionError: 1 == 2")


def test_evidence_has_a_limit_and_keeps_the_end(ledger: Ledger) -> None:
    """What is cut is the middle, also of text whose characters take several bytes."""
    update = update_in(ledger, Status.TESTING, base=base_of(ledger))
    names = [f"tests/worker/test_a.py::test_{number}" for number in range(100)]
    failed = ledger.move(
        update.tx_id,
        Status.TESTING,
        Status.TEST_FAILED,
        changes={"last_error": "100 failed\n" + "é" * 9000 + "the end", "test_summary": {"failing": names}},
    )
    text = evidence(failed)
    assert LONGEST_EVIDENCE - 4 <= len(text.encode()) <= LONGEST_EVIDENCE
    assert text.startswith("100 failed\n")
    assert "and 80 more" in text
    assert text.endswith("the end")


def test_nothing_is_held_against_an_update_that_did_not_fail(ledger: Ledger) -> None:
    """A superseded one has a reason, and no evidence to learn from."""
    update = update_in(ledger, Status.SUPERSEDED, base=base_of(ledger))
    assert evidence(ledger.amend(update.tx_id, {"last_error": "another was quicker"})) == ""
