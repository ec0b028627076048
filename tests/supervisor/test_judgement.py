"""What the reports mean: the whole way from two versions of the tests and the runs over them to a verdict.

The tests' sources are compared for real; the runner is one that holds ready what each run would have reported.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import pytest

from supervisor.gates.judgement import Runs, Verdict, judge, suspects
from supervisor.gates.testgate import TestGate
from supervisor.gates.testrun import Outcome, Report
from supervisor.gates.weakening import compare

PASSED, FAILED, SKIPPED, ERROR = Outcome.PASSED, Outcome.FAILED, Outcome.SKIPPED, Outcome.ERROR
Files = dict[str, bytes]
Outcomes = dict[str, Outcome]

A = "tests/worker/test_a.py"
ONE = "def test_one():\n    assert answer() == 'ok'\n"
TWO = "def test_two():\n    assert answer() != ''\n    assert answer()\n"


def files(*sources: str, **others: str) -> Files:
    found = {A: "\n\n".join(sources).encode()}
    return found | {f"tests/worker/{name}.py": source.encode() for name, source in others.items()}


def report(outcomes: Outcomes, *, trouble: str = "", missing: Iterable[str] = ()) -> Report:
    tests = {node for node in outcomes if "::" in node}
    failures = {node: f"why {node} failed" for node, how in outcomes.items() if how in (FAILED, ERROR)}
    return Report(frozenset(tests | set(missing)), outcomes, failures, trouble, "log", 1.0)


def one_two(one: Outcome = PASSED, two: Outcome = PASSED) -> Outcomes:
    return {f"{A}::test_one": one, f"{A}::test_two": two}


@dataclass
class Runner:
    """Gives the report of the candidate's tests, of base's tests on the candidate, and of base's image."""

    own: Report
    of_base: Report = field(default_factory=Report)
    second: Report | None = None  # of the candidate's tests, when they run once more
    on_base: list[Report] = field(default_factory=list)
    asked: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)

    def run(
        self,
        image_id: str,
        *,
        tests: Mapping[str, bytes] | None = None,
        only: Iterable[str] = (),
        timeout: float,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> Report:
        self.asked.append((image_id, tuple(sorted(only))))
        if image_id == "base":
            return self.on_base.pop(0) if len(self.on_base) > 1 else self.on_base[0]
        if tests is not None:
            return self.of_base
        return self.second if self.second is not None and only else self.own


def verdict(
    own_tests: Files,
    own: Report,
    *,
    base_tests: Files | None = None,
    of_base: Report | None = None,
    on_base: object = (),
    second: Report | None = None,
) -> tuple[Verdict, Runner]:
    """What the gate says. ``on_base`` is one report, or one for each time that base is asked."""
    reports = [on_base] if isinstance(on_base, Report) else list(on_base)  # type: ignore[call-overload]
    runner = Runner(own, of_base or Report(), second, reports)
    gate = TestGate(runner, left=lambda: 10.0, cancelled=lambda: False)
    found, _ = gate.judge(
        "candidate", base_image_id="base", own_tests=own_tests, base_tests=base_tests or files(ONE, TWO)
    )
    return found, runner


BOTH = files(ONE, TWO)


def test_a_candidate_that_passes_everything_passes() -> None:
    """Nothing of base's runs again when no test was touched."""
    found, runner = verdict(BOTH, report(one_two()))
    assert found.passed
    assert found.reason == ""
    assert runner.asked == [("candidate", ())]
    assert found.summary == {
        "passed": 2,
        "failed": 0,
        "skipped": 0,
        "failing": [],
        "failing_on_base_too": [],
        "passed_at_second_try": [],
        "gating": 2,
        "before": 2,
        "after": 2,
        "changed_expectations": [],
        "new_skips": [],
        "fewer_assertions": [],
        "seconds": 1.0,
    }


def test_a_failing_test_fails_the_candidate_and_is_named() -> None:
    """With the words of pytest, once base has passed the same test."""
    found, _ = verdict(BOTH, report(one_two(two=FAILED)), on_base=report(one_two()))
    assert not found.passed
    assert found.reason == f"1 failed: {A}::test_two"
    assert found.failing == {f"{A}::test_two": f"why {A}::test_two failed"}
    assert found.summary["failing"] == [f"{A}::test_two"]


def test_a_new_test_of_the_candidates_own_has_to_pass() -> None:
    """Nothing of base's excuses it, and base is not asked."""
    new = "def test_new():\n    assert False\n"
    own = {**one_two(), f"{A}::test_new": FAILED}
    found, runner = verdict(files(ONE, TWO, new), report(own), of_base=report(one_two()))
    assert found.reason == f"1 failed: {A}::test_new"
    assert "base" not in [image for image, _ in runner.asked]


def test_one_bad_moment_fails_nobody_and_is_named() -> None:
    """A test that fails beside others on a busy machine is tried once more; only its file runs again."""
    found, runner = verdict(BOTH, report(one_two(two=FAILED)), second=report(one_two()))
    assert found.passed
    assert found.summary["passed_at_second_try"] == [f"{A}::test_two"]
    assert runner.asked == [("candidate", ()), ("candidate", (A,))]


def test_a_test_that_fails_twice_fails() -> None:
    """And many that fail at once are no accident: they are not tried again."""
    found, _ = verdict(BOTH, report(one_two(two=FAILED)), second=report(one_two(two=FAILED)), on_base=report(one_two()))
    assert found.reason == f"1 failed: {A}::test_two"
    many = {f"{A}::test_two[{number}]": FAILED for number in range(6)}
    _, runner = verdict(BOTH, report({f"{A}::test_one": PASSED, **many}), second=report(one_two()), on_base=report({}))
    assert ("candidate", (A,)) not in runner.asked


RUINED = {
    "exits at import": (report({}, trouble="the test run was cut short before its end"), "the test run was cut short"),
    "left no report": (report({}, trouble="the tests left no report"), "the tests left no report"),
    "collected nothing": (report({}), "tests_missing: no test was collected"),
    "one was not run": (
        report(
            {f"{A}::test_one": PASSED}, missing=[f"{A}::test_two"], trouble="tests_missing: 1 of 2 tests did not run"
        ),
        "tests_missing: 1 of 2",
    ),
    "one was not even collected": (
        report({f"{A}::test_one": PASSED}),
        f"tests_missing: 1 tests of base did not run: {A}::test_two",
    ),
    "ran out of memory": (
        report(one_two(), trouble="the tests ran out of memory (exit code 137)"),
        "the tests ran out",
    ),
}


@pytest.mark.parametrize("name", RUINED)
def test_a_run_that_is_not_whole_never_passes(name: str) -> None:
    """An exit at import, a collection of nothing, a test that is missing: the exit code says nothing."""
    own, reason = RUINED[name]
    found, _ = verdict(BOTH, own, on_base=report(one_two()))
    assert not found.passed
    assert found.reason.startswith(reason)


def test_an_untouched_test_of_base_gates_on_the_candidates_code() -> None:
    """Though the candidate's own tests pass: base's version of the file runs where the file was changed."""
    own_tests = files(ONE, TWO, "def test_new():\n    pass\n")
    own = report({**one_two(), f"{A}::test_new": PASSED})
    found, runner = verdict(own_tests, own, of_base=report(one_two(one=FAILED)), on_base=report(one_two()))
    assert found.reason == f"1 failed: {A}::test_one"
    assert runner.asked == [("candidate", ()), ("candidate", (A,)), ("candidate", (A,)), ("base", (A,))]


def test_a_changed_expectation_does_not_gate_and_is_listed() -> None:
    """The patch says that test_one holds no longer: base's version may fail, and a person is told."""
    own_tests = files(ONE.replace("'ok'", "'fine'"), TWO)
    found, runner = verdict(own_tests, report(one_two()), of_base=report(one_two(one=FAILED)))
    assert found.passed
    assert found.summary["changed_expectations"] == [f"{A}::test_one"]
    assert found.summary["gating"] == 1
    assert runner.asked == [("candidate", ()), ("candidate", (A,))]


def test_a_changed_expectation_has_to_hold_in_its_new_form() -> None:
    """The candidate's own version of the test gates."""
    own_tests = files(ONE.replace("'ok'", "'fine'"), TWO)
    found, _ = verdict(own_tests, report(one_two(one=FAILED)), of_base=report(one_two(one=FAILED)))
    assert found.reason == f"1 failed: {A}::test_one"


def test_a_deleted_test_does_not_gate_and_is_listed() -> None:
    """It runs nevertheless, in base's version, for whoever reads the log."""
    own = report({f"{A}::test_one": PASSED})
    found, _ = verdict(files(ONE), own, of_base=report(one_two(two=FAILED)))
    assert found.passed
    assert found.summary["changed_expectations"] == [f"{A}::test_two"]


def test_a_whole_file_that_is_deleted_is_listed_test_by_test() -> None:
    """Each of its tests is a changed expectation."""
    base_tests = {**files(ONE), "tests/worker/test_b.py": TWO.encode()}
    of_base = report({"tests/worker/test_b.py::test_two": FAILED})
    found, _ = verdict(files(ONE), report({f"{A}::test_one": PASSED}), base_tests=base_tests, of_base=of_base)
    assert found.passed
    assert found.summary["changed_expectations"] == ["tests/worker/test_b.py::test_two"]


def test_a_failure_that_base_has_too_is_excused_and_listed() -> None:
    """A test gates only if base passes it now: a failing one says nothing about the candidate."""
    found, _ = verdict(BOTH, report(one_two(two=FAILED)), on_base=report(one_two(two=FAILED)))
    assert found.passed
    assert found.summary["failing_on_base_too"] == [f"{A}::test_two"]
    assert found.summary["failed"] == 0


def test_one_bad_moment_of_base_excuses_nobody() -> None:
    """Base has to fail each time that it is asked."""
    flaky = [report(one_two(two=FAILED)), report(one_two())]
    found, _ = verdict(BOTH, report(one_two(two=FAILED)), on_base=flaky)
    assert found.reason == f"1 failed: {A}::test_two"


def test_a_base_that_gives_no_report_excuses_nobody() -> None:
    """Nothing is known of base then."""
    found, _ = verdict(BOTH, report(one_two(two=FAILED)), on_base=report({}, trouble="the tests left no report"))
    assert not found.passed


def test_a_test_that_the_candidates_code_makes_skip_gates() -> None:
    """Unchanged, passing on base, skipped on the candidate: code that skips its tests does not pass them."""
    found, _ = verdict(BOTH, report(one_two(two=SKIPPED)), on_base=report(one_two()))
    assert not found.passed
    assert found.reason.startswith("tests_skipped: 1 ")
    assert found.summary["new_skips"] == [f"{A}::test_two"]


def test_a_test_that_base_skips_too_is_no_news() -> None:
    """It may be skipped for what the container lacks."""
    found, _ = verdict(BOTH, report(one_two(two=SKIPPED)), on_base=report(one_two(two=SKIPPED)))
    assert found.passed
    assert found.summary["new_skips"] == []


def test_a_skip_of_base_does_not_excuse_a_failure() -> None:
    """A failure is excused by a failure only."""
    found, _ = verdict(BOTH, report(one_two(two=FAILED)), on_base=report(one_two(two=SKIPPED)))
    assert not found.passed


def test_a_module_that_the_candidate_breaks_gates() -> None:
    """Its tests were not touched, and cannot even be collected any more; base imports it."""
    own = report({f"{A}::test_one": PASSED, "tests/worker/test_b.py": ERROR})
    tests = files(ONE, test_b=TWO)
    on_base = report({"tests/worker/test_b.py::test_two": PASSED})
    found, _ = verdict(tests, own, base_tests=tests, on_base=on_base)
    assert found.reason == "1 failed: tests/worker/test_b.py"


def test_new_skips_and_fewer_assertions_are_told() -> None:
    """They do not gate; whoever approves is told."""
    skipping = "import pytest\n\n@pytest.mark.skip\n" + ONE
    weaker = "def test_two():\n    assert answer()\n"
    found, _ = verdict(
        files(skipping, weaker), report(one_two(one=SKIPPED)), of_base=report(one_two()), on_base=report(one_two())
    )
    assert found.passed
    assert found.summary["new_skips"] == [f"{A}::test_one"]
    assert found.summary["fewer_assertions"] == [f"{A}::test_two"]
    assert found.summary["changed_expectations"] == [f"{A}::test_one", f"{A}::test_two"]


def test_a_failure_of_a_made_up_test_is_a_failure() -> None:
    """A report may name whatever it likes; what it calls failed is failed."""
    own = {**one_two(), "tests/worker/test_nowhere.py::test_x": FAILED}
    found, _ = verdict(BOTH, report(own), on_base=report(one_two()))
    assert found.reason == "1 failed: tests/worker/test_nowhere.py::test_x"


def test_long_lists_are_cut_in_the_reason() -> None:
    """One line names a few, and says how many there are."""
    names = [f"{A}::test_{number:02}" for number in range(12)]
    found, _ = verdict(BOTH, report({**one_two(), **dict.fromkeys(names, FAILED)}), on_base=report(one_two()))
    assert found.reason == f"12 failed: {', '.join(names[:5])} and 7 more"
    assert set(found.failing) == set(names)


def test_parameters_belong_to_their_test() -> None:
    """One failing case of an untouched test gates by its own id."""
    case = f"{A}::test_two[b::c]"
    own = {f"{A}::test_one": PASSED, f"{A}::test_two[a]": PASSED, case: FAILED}
    base = {f"{A}::test_one": PASSED, f"{A}::test_two[a]": PASSED, case: PASSED}
    found, _ = verdict(BOTH, report(own), on_base=report(base))
    assert found.reason == f"1 failed: {case}"


def test_trouble_of_bases_tests_on_the_candidate_is_told_as_such() -> None:
    """A candidate that ends the process only when base's tests run does not pass."""
    own_tests = files(ONE, TWO, "def test_new():\n    pass\n")
    own = report({**one_two(), f"{A}::test_new": PASSED})
    found, _ = verdict(own_tests, own, of_base=report({}, trouble="the tests left no report"))
    assert found.reason == "base's tests on the candidate: the tests left no report"


@pytest.mark.parametrize("own", list(Outcome))
@pytest.mark.parametrize("on_base", list(Outcome))
def test_every_pair_of_outcomes_of_an_untouched_test(own: Outcome, on_base: Outcome) -> None:
    """The whole table: what passes passes; a failure only by a failure, a skip also by a skip of base's."""
    found, _ = verdict(BOTH, report(one_two(two=own)), on_base=report(one_two(two=on_base)))
    bad = (FAILED, ERROR)
    excused = on_base in bad if own in bad else own is SKIPPED and on_base is not PASSED
    assert found.passed is (own is PASSED or excused)


def test_a_verdict_without_base_is_pure() -> None:
    """The same reports give the same verdict, whatever was asked before."""
    runs = Runs(report(one_two(two=FAILED)))
    comparison = compare(BOTH, BOTH)
    assert set(suspects(runs, comparison)) == {f"{A}::test_two"}
    assert judge(runs, comparison) == judge(runs, comparison)
    assert judge(runs, comparison, excused={f"{A}::test_two"}).passed
