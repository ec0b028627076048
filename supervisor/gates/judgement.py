"""What the reports of the test runs mean. Pure: values in, a verdict out."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from supervisor.gates import weakening
from supervisor.gates.testrun import Outcome, Report
from supervisor.gates.weakening import Comparison, from_node_id

BAD = (Outcome.FAILED, Outcome.ERROR)
_SHOWN = 5


@dataclass(frozen=True)
class Runs:
    """The reports there are: the candidate's own tests, and base's tests on the candidate's code where they differ."""

    own: Report
    of_base: Report | None = None

    def failing(self) -> dict[str, str]:
        """Node ids that failed in any run, with what pytest said."""
        found: dict[str, str] = {}
        for report in filter(None, (self.own, self.of_base)):
            found |= {n: report.failures.get(n, "") for n, outcome in report.outcomes.items() if outcome in BAD}
        return found


@dataclass(frozen=True)
class Verdict:
    """Whether the candidate passes, why not, and what a person should know either way."""

    passed: bool
    reason: str = ""
    failing: dict[str, str] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)


def suspects(runs: Runs, comparison: Comparison) -> frozenset[str]:
    """Failing tests that base has word for word: they gate only if base passes them now."""
    return frozenset(node for node in runs.failing() if _gates(node, comparison))


def judge(runs: Runs, comparison: Comparison, *, failing_on_base: Iterable[str] = ()) -> Verdict:
    """The verdict over all runs. ``failing_on_base`` are suspects that base itself does not pass now."""
    own, of_base = runs.own, runs.of_base
    excused = set(failing_on_base)
    failing = {
        node: text
        for node, text in own.failures.items() | _bad_without_text(own)
        if node not in excused and own.outcomes.get(node) in BAD
    }
    if of_base is not None:
        failing |= {
            node: of_base.failures.get(node, "")
            for node, outcome in of_base.outcomes.items()
            if outcome in BAD and node not in excused and _gates(node, comparison)
        }
    summary = _summary(own, of_base, comparison, sorted(failing), sorted(excused))
    reason = _reason(runs, comparison, failing)
    return Verdict(passed=not reason, reason=reason, failing=failing, summary=summary)


def _gates(node: str, comparison: Comparison) -> bool:
    return comparison.verdict(from_node_id(node)) is weakening.Verdict.UNCHANGED


def _reason(runs: Runs, comparison: Comparison, failing: dict[str, str]) -> str:
    if failing:
        names = sorted(failing)
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        return f"{len(names)} failed: {', '.join(names[:_SHOWN])}{more}"
    if runs.own.trouble:
        return runs.own.trouble
    if runs.of_base is not None and runs.of_base.trouble:
        return f"base's tests on the candidate: {runs.of_base.trouble}"
    if not runs.own.collected:
        return "tests_missing: no test was collected"
    ran = {from_node_id(node) for node in runs.own.outcomes}
    missing = sorted(comparison.gating - ran)
    if missing:
        shown = ", ".join("::".join(test) for test in missing[:_SHOWN])
        return f"tests_missing: {len(missing)} tests of base did not run: {shown}"
    return ""


def _bad_without_text(report: Report) -> set[tuple[str, str]]:
    return {(node, "") for node, outcome in report.outcomes.items() if outcome in BAD and node not in report.failures}


def _summary(
    own: Report, of_base: Report | None, comparison: Comparison, failing: list[str], excused: list[str]
) -> dict[str, Any]:
    return {
        "passed": own.count(Outcome.PASSED),
        "failed": len(failing),
        "skipped": own.count(Outcome.SKIPPED),
        "failing": failing,
        "failing_on_base_too": excused,
        "gating": len(comparison.gating),
        "changed_expectations": ["::".join(test) for test in (*comparison.changed, *comparison.deleted)],
        "new_skips": ["::".join(test) for test in comparison.new_skips],
        "fewer_assertions": ["::".join(less.test) for less in comparison.fewer_assertions],
        "seconds": round(own.seconds + (of_base.seconds if of_base else 0.0), 3),
    }
