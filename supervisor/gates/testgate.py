"""The tests as a gate: which runs there are for a candidate, and what they say together."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final, Protocol

from supervisor.gates import weakening
from supervisor.gates.judgement import BAD, Runs, Verdict, gates, judge, suspects
from supervisor.gates.testrun import Outcome, Report

_TRIES: Final = 3
#: As many may fail by accident, as tests do that wait or measure on a busy machine; more are no accident.
_MOST_UNSTEADY: Final = 5


class Runner(Protocol):
    """Runs tests in containers; see :class:`supervisor.gates.testrun.TestRunner`."""

    def run(
        self,
        image_id: str,
        *,
        tests: Mapping[str, bytes] | None = None,
        only: Iterable[str] = (),
        timeout: float,
        cancelled: Callable[[], bool],
    ) -> Report:
        """Run the image's own tests, or ``tests`` in their place."""


@dataclass(frozen=True)
class TestGate:
    """Runs the candidate's tests and base's tests on the candidate's code."""

    __test__ = False  # not a test class, whatever pytest thinks of its name

    runner: Runner
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
        only about tests that failed though the candidate did not touch them. A few tests that fail are tried a second
        time, alone; those that pass then do pass, and are named. Raises EngineError, Cancelled.
        """
        comparison = weakening.compare(base_tests, own_tests)
        own = self._run_twice(image_id)
        again = weakening.needs_base_run(base_tests, own_tests)
        of_base = None
        if again:
            of_base = self._run_twice(image_id, tests=base_tests, only=again, count=lambda n: gates(n, comparison))
        runs = Runs(own, of_base)
        # A name that base does not have was made up, or is new to a file: nothing of base's excuses it.
        doubtful = {n: excuses for n, excuses in suspects(runs, comparison).items() if _file(n) in base_tests}
        verdict = judge(runs, comparison, excused=self._excused_by(base_image_id, doubtful))
        return verdict, _log(runs, verdict)

    def _excused_by(self, base_image_id: str, doubtful: Mapping[str, frozenset[Outcome]]) -> set[str]:
        """Which of these tests base does not pass either, with what of base's excuses each.

        Base has to fail a test each time that it is asked: one bad moment excuses nobody. A skip is no accident, so
        once is enough. A test that base does not have, as with a new parameter, is not excused.
        """
        left, excused = dict(doubtful), set()
        for _ in range(_TRIES):
            if not left:
                break
            # Whole files: pytest runs nothing at all when one of the ids that it is given does not exist.
            outcomes = self._run(base_image_id, only=tuple({_file(node) for node in left})).outcomes
            found = {node: outcomes.get(node, outcomes.get(_file(node))) for node in left}
            excused |= {n for n, outcome in found.items() if outcome is Outcome.SKIPPED and outcome in left[n]}
            left = {n: left[n] for n, outcome in found.items() if outcome in BAD}
        return excused | left.keys()

    def _run_twice(
        self,
        image_id: str,
        *,
        tests: Mapping[str, bytes] | None = None,
        only: tuple[str, ...] = (),
        count: Callable[[str], bool] = lambda _: True,
    ) -> Report:
        """One run, and a second of the files in which a few of the tests that ``count`` failed."""
        first = self._run(image_id, tests=tests, only=only)
        bad = {node for node, outcome in first.outcomes.items() if outcome in BAD and count(node)}
        if first.trouble or not 0 < len(bad) <= _MOST_UNSTEADY:
            return first
        second = self._run(image_id, tests=tests, only=tuple({_file(node) for node in bad}))
        unsteady = frozenset(node for node in bad if second.outcomes.get(node) is Outcome.PASSED)
        return replace(
            first,
            outcomes={**first.outcomes, **dict.fromkeys(unsteady, Outcome.PASSED)},
            failures={node: text for node, text in first.failures.items() if node not in unsteady},
            log=f"{first.log}\n-- once more, what failed\n{second.log}",
            seconds=first.seconds + second.seconds,
            unsteady=unsteady,
        )

    def _run(self, image_id: str, *, tests: Mapping[str, bytes] | None = None, only: tuple[str, ...] = ()) -> Report:
        return self.runner.run(image_id, tests=tests, only=only, timeout=self.left(), cancelled=self.cancelled)


def _file(node: str) -> str:
    """The module of a node id; a module that cannot be imported is reported under this name."""
    return node.partition("::")[0]


def _log(runs: Runs, verdict: Verdict) -> str:
    def section(title: str, report: Report) -> str:
        return f"== {title}\n{report.log}\n{report.trouble}".rstrip()

    sections = [section("the candidate's tests", runs.own)]
    if runs.of_base is not None:
        sections.append(section("base's tests on the candidate's code", runs.of_base))
    sections.append(f"== verdict\n{verdict.reason or 'passed'}\n{json.dumps(verdict.summary, indent=1)}")
    return "\n\n".join(sections)
