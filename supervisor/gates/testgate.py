"""The tests as a gate: which runs there are for a candidate, and what they say together."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from supervisor.gates import weakening
from supervisor.gates.judgement import Runs, Verdict, judge, suspects
from supervisor.gates.testrun import Outcome, Report, TestRunner


@dataclass(frozen=True)
class TestGate:
    """Runs the candidate's tests and base's tests on the candidate's code."""

    __test__ = False  # not a test class, whatever pytest thinks of its name

    runner: TestRunner
    left: Callable[[], float]
    cancelled: Callable[[], bool]

    def judge(
        self,
        image_id: str,
        *,
        base_image_id: str,
        own_tests: Mapping[str, bytes],
        base_tests: Mapping[str, bytes],
    ) -> tuple[Verdict, str]:
        """The verdict, and the log of all runs.

        Base's test files run again only where they differ from the candidate's. Base's own image is asked last, and
        only about tests that failed though the candidate did not touch them. Raises EngineError, Cancelled.
        """
        comparison = weakening.compare(base_tests, own_tests)
        own = self._run(image_id)
        again = weakening.needs_base_run(base_tests, own_tests)
        runs = Runs(own, self._run(image_id, tests=base_tests, only=again) if again else None)
        excused: set[str] = set()
        if doubtful := suspects(runs, comparison):
            on_base = self._run(base_image_id, only=tuple(doubtful))
            excused = {node for node in doubtful if on_base.outcomes.get(node) is not Outcome.PASSED}
        verdict = judge(runs, comparison, failing_on_base=excused)
        return verdict, _log(runs, verdict)

    def _run(self, image_id: str, *, tests: Mapping[str, bytes] | None = None, only: tuple[str, ...] = ()) -> Report:
        return self.runner.run(image_id, tests=tests, only=only, timeout=self.left(), cancelled=self.cancelled)


def _log(runs: Runs, verdict: Verdict) -> str:
    def section(title: str, report: Report) -> str:
        return f"== {title}\n{report.log}\n{report.trouble}".rstrip()

    sections = [section("the candidate's tests", runs.own)]
    if runs.of_base is not None:
        sections.append(section("base's tests on the candidate's code", runs.of_base))
    sections.append(f"== verdict\n{verdict.reason or 'passed'}\n{json.dumps(verdict.summary, indent=1)}")
    return "\n\n".join(sections)
