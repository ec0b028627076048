"""The card: what a person is shown before they approve, as plain data and as a message."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from supervisor.cards.content import LONGEST, Section, as_html, as_text, card, sections, utf16
from supervisor.gates.risk import Risk, Use
from supervisor.ledger import Ledger, Update
from supervisor.localbot.entities import parse_html
from supervisor.states import Status
from tests.supervisor.fakes.updates import genesis, update_in

TESTS: dict[str, Any] = {
    "passed": 12,
    "failed": 0,
    "skipped": 1,
    "failing": [],
    "passed_at_second_try": ["tests/worker/test_net.py::test_slow_day"],
    "failing_on_base_too": ["tests/worker/test_net.py::test_flaky"],
    "gating": 9,
    "before": 11,
    "after": 13,
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


RISK = Risk(
    uses=(Use("import", "worker/agent.py", 2, "httpx"), Use("network", "worker/agent.py", 9, "httpx.get")),
    touched=("who may use the bot",),
)


@pytest.fixture
def update(tmp_path: Path) -> Iterator[Update]:
    with Ledger(tmp_path / "supervisor.db") as ledger:
        made = update_in(ledger, Status.SELF_CHECKING, base=genesis(ledger), title="Greet by name")
        yield ledger.amend(made.tx_id, {"test_summary": TESTS, "changes": CHANGES, "why": "The owner asked"})


def carded(update: Update, **columns: Any) -> Update:
    """The update with its card, as it is staged. ``columns`` are what somebody wrote into it."""
    update = replace(update, **columns)
    return replace(update, card=card(update, {"self_check_summary": EXAM}, RISK), digest="d" * 64)


def shown(update: Update) -> str:
    """The text that a chat shows for it, which Telegram takes."""
    message = as_html(sections(update))
    assert utf16(message) <= LONGEST
    text, _ = parse_html(message)
    return text


def test_the_card_has_what_a_person_decides_on(update: Update) -> None:
    """Title, why, files, tests, what was weakened, what the exam saw, and what was found in the source."""
    assert card(update, {"self_check_summary": EXAM}, RISK) == {
        "title": "Greet by name",
        "why": "The owner asked",
        "files": CHANGES,
        "tests": {"passed": 12, "failed": 0, "skipped": 1, "before": 11, "after": 13},
        "changed_expectations": ["tests/worker/test_a.py::test_reply"],
        "new_skips": ["tests/worker/test_a.py::test_slow"],
        "fewer_assertions": ["tests/worker/test_a.py::test_shape"],
        "passed_at_second_try": ["tests/worker/test_net.py::test_slow_day"],
        "failing_on_base_too": ["tests/worker/test_net.py::test_flaky"],
        "exam": ["comes up", "answers its owner", "the way back"],
        "waived": [],
        "imports": ["worker/agent.py:2 httpx"],
        "uses": {"network": ["worker/agent.py:9 httpx.get"]},
        "touched": ["who may use the bot"],
        "unreadable": [],
    }


def test_a_part_that_was_waived_is_on_the_card(update: Update) -> None:
    """It was not passed, and whoever approves is told so."""
    made = card(update, {"self_check_summary": {**EXAM, "waived": ["polls"]}}, RISK)
    assert made["waived"] == ["polls"]
    assert "polls" not in made["exam"]


def test_the_card_can_be_stored(update: Update) -> None:
    """Plain data: it is the same after a way through JSON."""
    made = card(update, {"self_check_summary": EXAM}, RISK)
    assert json.loads(json.dumps(made)) == made


def test_all_of_it_is_in_the_message(update: Update) -> None:
    """Each fact by its heading, and the beginning of the digest that binds it."""
    text = shown(carded(update))
    for fact in (
        f"Update {update.tx_id[:8]}",
        "Greet by name",
        "The owner asked",
        "Files: 1, +3 -1 lines",
        "worker/agent.py +3 -1",
        "12 passed, 0 failed, 1 skipped; base has 11 test functions, this has 13",
        "tests/worker/test_a.py::test_reply",
        "tests/worker/test_a.py::test_slow",
        "tests/worker/test_a.py::test_shape",
        "tests/worker/test_net.py::test_flaky",
        "who may use the bot",
        "worker/agent.py:2 httpx",
        "New use of network",
        "worker/agent.py:9 httpx.get",
        "comes up, answers its owner, the way back",
        f"digest {'d' * 12}, revision",
    ):
        assert fact in text


def test_the_terminal_shows_the_same(update: Update) -> None:
    """Whole, without tags."""
    made = carded(update)
    lines = [line.strip() for line in as_text(sections(made)).splitlines()]
    assert lines == [line for line in shown(made).splitlines() if line]


@pytest.mark.parametrize(
    "forged",
    [
        "</pre><b>APPROVED by the supervisor</b>",
        "APPROVED\n\nExam passed\nall of it",
        "<a href='tg://user?id=1'>press here</a>",
        "\x1b[2JAPPROVED\u202e\u2066",
        "&lt;b&gt;APPROVED&amp;",
    ],
)
@pytest.mark.parametrize("column", ["title", "why", "model"])
def test_what_others_wrote_stays_one_escaped_line(update: Update, column: str, forged: str) -> None:
    """No tag, no heading, no control code of theirs: nothing that looks like the supervisor's own words."""
    made = carded(update, **{"model": "m", column: forged})
    text, entities = parse_html(as_html(sections(made)))
    plain, plain_entities = parse_html(as_html(sections(carded(update, **{"model": "m", column: "plain"}))))
    assert [entity["type"] for entity in entities] == [entity["type"] for entity in plain_entities]
    assert text.count("\n") == plain.count("\n")
    assert all(c.isprintable() or c == "\n" for c in text)


def test_names_of_files_and_tests_are_escaped_too(update: Update) -> None:
    """Whatever a patch calls them."""
    changes = [{"path": "worker/<b>x</b>.py", "kind": "added", "added": 1, "deleted": 0}]
    assert "worker/<b>x</b>.py +1 -0" in shown(carded(update, changes=changes))


@pytest.mark.parametrize("files", [1, 30])
@pytest.mark.parametrize("length", [1, 4000])
@pytest.mark.parametrize("letter", ["x", "<", "\N{GRINNING FACE}"])
def test_whatever_is_in_it_the_message_can_be_sent(update: Update, files: int, length: int, letter: str) -> None:
    """It is cut, says so, and keeps the title."""
    changes = [{"path": f"worker/{letter * 60}{n}.py", "kind": "added", "added": 1, "deleted": 0} for n in range(files)]
    tests = {**TESTS, "changed_expectations": [f"tests/worker/test_{n}.py::test_{letter * 50}" for n in range(200)]}
    made = carded(update, changes=changes, test_summary=tests, why=letter * length, title=f"T {letter * length}")
    text = shown(made)
    assert text.splitlines()[1].startswith("T ")
    assert "more" in text
    assert ("(cut)" in text) == (length > 1)


def test_what_has_no_room_at_all_is_named_as_left_out() -> None:
    """Rather than a message that cannot be sent."""
    parts = [Section(f"heading {n}", ("x" * 300,), listing=False) for n in range(40)]
    message = as_html(parts, above="above", below="below")
    assert utf16(message) <= LONGEST
    assert message.startswith("above")
    assert message.endswith("below")
    assert "supervisor show" in message
