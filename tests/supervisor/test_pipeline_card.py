"""The card: what a person is shown before they approve, as plain data."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from supervisor.binding import digest
from supervisor.ledger import Ledger, Update
from supervisor.pipeline import card
from supervisor.states import Status
from tests.supervisor.fakes.updates import genesis, update_in

TESTS: dict[str, Any] = {
    "passed": 12,
    "failed": 0,
    "skipped": 1,
    "failing": [],
    "failing_on_base_too": ["tests/worker/test_net.py::test_flaky"],
    "gating": 9,
    "changed_expectations": ["tests/worker/test_a.py::test_reply"],
    "new_skips": ["tests/worker/test_a.py::test_slow"],
    "fewer_assertions": ["tests/worker/test_a.py::test_shape"],
    "seconds": 3.2,
}
EXAM: dict[str, Any] = {
    "candidate": [
        {"name": "comes up", "passed": True, "detail": "", "seconds": 1.0},
        {"name": "polls", "passed": False, "detail": "no answer", "seconds": 15.0},
        {"name": "answers its owner", "passed": True, "detail": "", "seconds": 0.1},
    ],
    "base_after": [{"name": "comes up", "passed": True, "detail": "", "seconds": 1.0}],
}
CHANGES = [{"path": "worker/agent.py", "kind": "modified", "added": 3, "deleted": 1}]


@pytest.fixture
def update(tmp_path: Path) -> Iterator[Update]:
    with Ledger(tmp_path / "supervisor.db") as ledger:
        made = update_in(ledger, Status.SELF_CHECKING, base=genesis(ledger), title="Greet by name")
        yield ledger.amend(made.tx_id, {"test_summary": TESTS, "changes": CHANGES, "why": "The owner asked"})


def test_the_card_has_what_a_person_decides_on(update: Update) -> None:
    """Title, why, files, tests, what was weakened, what the exam saw, and the digest."""
    assert card(update, {"self_check_summary": EXAM}) == {
        "title": "Greet by name",
        "why": "The owner asked",
        "files": CHANGES,
        "tests": {"passed": 12, "failed": 0, "skipped": 1},
        "changed_expectations": ["tests/worker/test_a.py::test_reply"],
        "new_skips": ["tests/worker/test_a.py::test_slow"],
        "fewer_assertions": ["tests/worker/test_a.py::test_shape"],
        "exam": ["comes up", "answers its owner"],
        "waived": [],
        "digest": digest(update.revision)[:12],
    }


def test_a_part_that_was_waived_is_on_the_card(update: Update) -> None:
    """It was not passed, and whoever approves is told so."""
    shown = card(update, {"self_check_summary": {**EXAM, "waived": ["polls"]}})
    assert shown["waived"] == ["polls"]
    assert "polls" not in shown["exam"]


def test_the_digest_is_the_beginning_of_what_is_bound(update: Update) -> None:
    """Short enough to be compared by eye; what is approved is the whole of it."""
    shown = card(update, {"self_check_summary": EXAM})["digest"]
    assert digest(update.revision).startswith(shown)
    assert len(shown) == 12


def test_the_card_can_be_stored(update: Update) -> None:
    """Plain data: it is the same after a way through JSON."""
    shown = card(update, {"self_check_summary": EXAM})
    assert json.loads(json.dumps(shown)) == shown
