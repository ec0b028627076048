"""What the reports of the test runs mean. Pure: values in, a verdict out."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from supervisor.gates import weakening
from supervisor.gates.testrun import Outcome, Report
from supervisor.gates.weakening import Comparison, from_node_id

BAD: Final = frozenset({Outcome.FAILED, Outcome.ERROR})
_SHOWN: Final = 5
_LISTED: Final = 200  # names in one list of the summary, whose counts are whole


@dataclass(frozen=True)
class Runs:
    """The reports there are: the candidate's own tests, and base's tests on the candidate's code where they differ."""

    own: Report
    of_base: Report | None = None

    def failing(self) -> dict[str, str]:
        """Node ids that failed in any run, with what pytest said."""
        found: dict[str, str] = {}
        for report in self._reports():
            found |= {n: report.failures.get(n, "") for n, outcome in report.outcomes.items() if outcome in BAD}
        return found

    def skipped(self) -> frozenset[str]:
        """Node ids that were skipped in any run."""
        return frozenset(
            node
            for report in self._reports()
            for node, outcome in report.outcomes.items()
            if outcome is Outcome.SKIPPED
        )

    def _reports(self) -> Iterator[Report]:
        yield self.own
        if self.of_base is not None:
            yield self.of_base


@dataclass(frozen=True)
class Verdict:
    """Whether the candidate passes, why not, and what a person should know either way."""

    passed: bool
    reason: str = ""
    failing: dict[str, str] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)


def suspects(runs: Runs, comparison: Comparison) -> dict[str, frozenset[Outcome]]:
    """Tests that base has word for word and that failed or were skipped: they gate only if base passes them now.

    With each comes what base has to make of it for it to be excused: a failure only by one, a skip also by a skip.
    """
    skipped = {node: BAD | {Outcome.SKIPPED} for node in runs.skipped()}
    failing = dict.fromkeys(runs.failing(), BAD)
    return {node: excuses for node, excuses in (skipped | failing).items() if gates(node, comparison)}


def judge(runs: Runs, comparison: Comparison, *, excused: Iterable[str] = ()) -> Verdict:
    """The verdict over all runs. ``excused`` are suspects that base itself does not pass now."""
    own, of_base = runs.own, runs.of_base
    excused = frozenset(excused)
    failing = {
        node: text
        for node, text in own.failures.items() | _bad_without_text(own)
        if node not in excused and own.outcomes.get(node) in BAD
    }
    if of_base is not None:
        failing |= {
            node: of_base.failures.get(node, "")
            for node, outcome in of_base.outcomes.items()
            if outcome in BAD and node not in excused and gates(node, comparison)
        }
    skipped = frozenset(node for node in runs.skipped() if node not in excused)
    gating = sorted(node for node in skipped if gates(node, comparison))
    return Verdict(
        passed=not (reason := _reason(runs, comparison, sorted(failing), gating, excused)),
        reason=reason,
        failing=failing,
        summary=_summary(runs, comparison, sorted(failing), skipped, excused),
    )


def gates(node: str, comparison: Comparison) -> bool:
    """Whether the test is one of base's that the patch leaves as it was."""
    return comparison.verdict(from_node_id(node)) is weakening.Verdict.UNCHANGED


def _reason(runs: Runs, comparison: Comparison, failing: list[str], skipped: list[str], excused: frozenset[str]) -> str:
    if failing:
        return f"{len(failing)} failed: {_some(failing)}"
    if runs.own.trouble:
        return runs.own.trouble
    if runs.of_base is not None and runs.of_base.trouble:
        return f"base's tests on the candidate: {runs.of_base.trouble}"
    if not runs.own.collected:
        return "tests_missing: no test was collected"
    if skipped:
        return f"tests_skipped: {len(skipped)} tests that base passes were skipped: {_some(skipped)}"
    ran = {from_node_id(node) for node in runs.own.outcomes}
    # A whole module that base skips too is excused under its own name.
    missing = sorted("::".join(test) for test in comparison.gating - ran if test[0] not in excused)
    if missing:
        return f"tests_missing: {len(missing)} tests of base did not run: {_some(missing)}"
    return ""


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{', '.join(names[:_SHOWN])}{more}"


def _bad_without_text(report: Report) -> set[tuple[str, str]]:
    return {(node, "") for node, outcome in report.outcomes.items() if outcome in BAD and node not in report.failures}


def _summary(
    runs: Runs, comparison: Comparison, failing: list[str], skipped: frozenset[str], excused: frozenset[str]
) -> dict[str, Any]:
    own, of_base = runs.own, runs.of_base
    # As they show in the source, and as they happened: a skip may hang on what the candidate's code does.
    new_skips = {"::".join(test) for test in comparison.new_skips} | {node.partition("[")[0] for node in skipped}
    return {
        "passed": own.count(Outcome.PASSED),
        "failed": len(failing),
        "skipped": own.count(Outcome.SKIPPED),
        "failing": failing[:_LISTED],
        "failing_on_base_too": sorted(excused & runs.failing().keys())[:_LISTED],
        "passed_at_second_try": sorted(own.unsteady | (of_base.unsteady if of_base else frozenset()))[:_LISTED],
        "gating": len(comparison.gating),
        "before": len(comparison.verdicts) - comparison.count(weakening.Verdict.NEW),
        "after": len(comparison.verdicts) - comparison.count(weakening.Verdict.DELETED),
        "changed_expectations": ["::".join(test) for test in (*comparison.changed, *comparison.deleted)],
        "new_skips": sorted(new_skips)[:_LISTED],
        "fewer_assertions": ["::".join(less.test) for less in comparison.fewer_assertions],
        "seconds": round(own.seconds + (of_base.seconds if of_base else 0.0), 3),
    }
