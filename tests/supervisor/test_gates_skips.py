"""A test of base's that does not run for a candidate has not been passed, however it was kept from running."""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet

import pytest

from supervisor.gates.judgement import BAD, Runs, Verdict, judge, suspects
from supervisor.gates.testrun import Outcome, Report
from supervisor.gates.weakening import Comparison, compare

FILE = "tests/worker/test_a.py"
SOURCE = (
    b"import pytest\n\n@pytest.mark.skipif(x(), reason='')\ndef test_one(): assert f()\n\ndef test_two(): assert g()\n"
)
ONE, TWO = f"{FILE}::test_one", f"{FILE}::test_two"
SAME = compare({FILE: SOURCE}, {FILE: SOURCE})


def ran(outcomes: Mapping[str, Outcome]) -> Runs:
    """A run with these outcomes and nothing wrong with it."""
    return Runs(Report(collected=frozenset(outcomes), outcomes=outcomes))


def judged(
    outcomes: Mapping[str, Outcome], comparison: Comparison = SAME, excused: AbstractSet[str] = frozenset()
) -> Verdict:
    return judge(ran(outcomes), comparison, excused=excused)


SKIPPED = {ONE: Outcome.SKIPPED, TWO: Outcome.PASSED}


def test_a_skipped_test_of_base_is_asked_of_base() -> None:
    """A failure or a skip of base's excuses a skip, only a failure excuses a failure."""
    assert suspects(ran(SKIPPED), SAME) == {ONE: BAD | {Outcome.SKIPPED}}
    both = {ONE: Outcome.SKIPPED, TWO: Outcome.FAILED}
    assert suspects(ran(both), SAME) == {ONE: BAD | {Outcome.SKIPPED}, TWO: BAD}


def test_a_skip_that_base_does_not_make_fails() -> None:
    """The reason names it, and so does the card's list."""
    verdict = judged(SKIPPED)
    assert not verdict.passed
    assert verdict.reason == f"tests_skipped: 1 tests that base passes were skipped: {ONE}"
    assert verdict.summary["new_skips"] == [ONE]


def test_a_skip_that_base_makes_too_passes() -> None:
    """It is nothing new."""
    verdict = judged(SKIPPED, excused={ONE})
    assert verdict.passed
    assert (verdict.summary["new_skips"], verdict.summary["failing_on_base_too"]) == ([], [])


def test_a_skip_in_the_run_of_bases_tests_counts() -> None:
    """Though the candidate's own copy of the test ran."""
    runs = Runs(ran({ONE: Outcome.PASSED, TWO: Outcome.PASSED}).own, ran(SKIPPED).own)
    assert suspects(runs, SAME).keys() == {ONE}
    assert not judge(runs, SAME).passed


def test_a_failure_is_not_hidden_by_a_skip() -> None:
    """When one run fails it and the other skips it, only a failure of base's excuses it."""
    runs = Runs(ran({ONE: Outcome.FAILED, TWO: Outcome.PASSED}).own, ran(SKIPPED).own)
    assert suspects(runs, SAME) == {ONE: BAD}


def test_a_new_test_that_is_skipped_is_told_and_does_not_gate() -> None:
    """Base has nothing to say about it."""
    new = "tests/worker/test_new.py"
    comparison = compare({FILE: SOURCE}, {FILE: SOURCE, new: b"def test_three(): help_me()\n"})
    outcomes = {ONE: Outcome.PASSED, TWO: Outcome.PASSED, f"{new}::test_three": Outcome.SKIPPED}
    verdict = judged(outcomes, comparison)
    assert verdict.passed
    assert verdict.summary["new_skips"] == [f"{new}::test_three"]
    assert judged({**outcomes, new: Outcome.SKIPPED}, comparison).passed


@pytest.mark.parametrize("excused", [frozenset(), frozenset({FILE})], ids=["base runs it", "base skips it"])
def test_a_module_that_skips_itself(excused: AbstractSet[str]) -> None:
    """Passes only when base's does so as well; its tests are not missing then."""
    assert judged({FILE: Outcome.SKIPPED}, excused=excused).passed is bool(excused)


def test_a_parameter_that_is_skipped_counts_for_its_test() -> None:
    """One of many is enough, and is named."""
    outcomes = {f"{ONE}[1]": Outcome.PASSED, f"{ONE}[2]": Outcome.SKIPPED, TWO: Outcome.PASSED}
    verdict = judged(outcomes)
    assert f"{ONE}[2]" in verdict.reason
    assert verdict.summary["new_skips"] == [ONE]


def test_lists_in_the_summary_are_short_and_counts_whole() -> None:
    """A report may name thousands."""
    verdict = judged({f"{ONE}[{n}]": Outcome.FAILED for n in range(5000)})
    assert (verdict.summary["failed"], len(verdict.summary["failing"])) == (5000, 200)
