"""Updates that must not get anywhere: each ends before approval with a reason, and the running worker never notices."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from supervisor.gates.exam import READY_SECONDS
from tests.support import candidates
from tests.support.checkouts import CHECKOUT, patch_of
from tests.support.installation import Install, Installation
from worker.models.dummy import OFFLINE_REPLY

BAD = CHECKOUT / "examples" / "bad.patch"
FAILING = "tests/worker/test_models_dummy.py::test_the_last_step_repeats"


@pytest.fixture(scope="module")
def installation(install: Install) -> Installation:
    """Up, with its first revision."""
    made = install()
    made.up()
    return made


@pytest.fixture
def blue(installation: Installation) -> dict[str, Any]:
    """The worker that is active before anything is handed in."""
    return dict(installation.status()["active"])


def assert_untouched(installation: Installation, blue: dict[str, Any]) -> None:
    """The same worker with the same lease answers as before, and nobody else is there."""
    status = installation.status()
    assert status["active"] == blue
    assert (status["standby"], status["pending"]) == (None, [])
    assert [c["Name"].removeprefix("/") for c in installation.containers()] == [blue["container"]]
    assert installation.say("still there?") == OFFLINE_REPLY


def test_failing_tests(installation: Installation, blue: dict[str, Any]) -> None:
    """The failing test and what it said are in `show`; the command exits with 1."""
    result = installation.run("submit", str(BAD), "--wait", "--json").expect(1)
    tx = result.json["tx_id"]
    assert result.json["status"] == "test_failed"
    assert FAILING in result.json["reason"]
    shown = installation.run("show", tx).expect(0).out
    assert FAILING in shown
    assert "AssertionError" in shown
    assert installation.show(tx)["test_summary"]["failing"] == [FAILING]
    assert_untouched(installation, blue)


@pytest.mark.fault(
    38,
    what="refused without a build; `--force` lifts that",
    user="`failed_before`, and which update it was",
    within="at once",
)
def test_a_change_that_failed_is_not_tried_again_by_itself(installation: Installation, blue: dict[str, Any]) -> None:
    """The same change is refused without a build; with --force it is judged anew."""
    first = installation.submit(BAD.read_bytes(), "--force")
    again = installation.submit(BAD.read_bytes())
    assert (again["status"], again["code"]) == ("refused", "failed_before")
    assert first["tx_id"][:8] in again["reason"]
    assert installation.show(again["tx_id"])["image_id"] is None
    assert installation.submit(BAD.read_bytes(), "--force")["status"] == "test_failed"
    assert_untouched(installation, blue)


@pytest.mark.exhaustive
def test_tests_that_a_patch_takes_away_are_told(
    installation: Installation, checkout: Path, blue: dict[str, Any]
) -> None:
    """They do not gate any more, so a person has to know: each is on the card."""
    emptied = {candidates.MODEL_TESTS: '"""Nothing to see here."""\n\n\ndef test_nothing() -> None: ...\n'}
    tx = installation.stage(patch_of(checkout, emptied))
    card = installation.show(tx)["card"]
    assert FAILING in card["changed_expectations"]
    assert len(card["changed_expectations"]) > 5
    installation.run("cancel", tx).expect(0)
    assert_untouched(installation, blue)


@pytest.mark.fault(
    25,
    what="the exam finds it; in service the deploy fails, blue goes on",
    user="`self_check_failed`, or `deploy_failed` with its last words",
    within=f"the time to get ready, {READY_SECONDS:g} s",
)
@pytest.mark.fault(
    28,
    what="refused by the supervisor, and never made active",
    user="`self_check_failed`, or `deploy_failed` with what it said",
    within="at once",
)
@pytest.mark.fault(24)
@pytest.mark.parametrize(
    ("make", "reason", "last_words"),
    [
        (candidates.crashes_at_start, "it exited by itself with code 1", "broken at its very start"),
        (candidates.claims_to_be_another, "it says that it is 'ffffffffffff'", ""),
        (candidates.never_ready, f"it did not get ready within {READY_SECONDS:g} s", ""),
    ],
)
def test_what_does_not_come_up_fails_in_the_exam(
    installation: Installation,
    checkout: Path,
    blue: dict[str, Any],
    make: Callable[[Path], bytes],
    reason: str,
    last_words: str,
) -> None:
    """Its tests passed; the exam says what it did instead, with what it printed."""
    answer = installation.submit(make(checkout))
    assert answer["status"] == "self_check_failed"
    assert reason in answer["reason"]
    shown = installation.run("show", answer["tx_id"]).expect(0).out
    assert reason in shown
    assert last_words in shown
    assert_untouched(installation, blue)


@pytest.mark.exhaustive
def test_a_loop_that_wedges_once_active_ends_with_blue(
    installation: Installation, checkout: Path, blue: dict[str, Any]
) -> None:
    """Mostly in the exam, which may also be quicker than it; either way the reason can be read and blue answers."""
    answer = installation.submit(candidates.wedges_after_activation(checkout, seconds=0.02))
    tx = answer["tx_id"]
    if answer["status"] == "staged":
        installation.run("approve", tx, "--wait").expect(1)
    shown = installation.show(tx)
    assert shown["status"] in ("self_check_failed", "rolled_back", "deploy_failed")
    assert "no beat from its loop" in installation.run("show", tx).expect(0).out
    active = installation.settled()["active"]
    assert active["container"] == blue["container"]
    assert installation.say("still there?") == OFFLINE_REPLY
