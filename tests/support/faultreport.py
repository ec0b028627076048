"""What a run of the tests says of the faults by their numbers: which were shown, and which were not.

A run of all tests leaves its record in pytest's cache; one that tries again those that failed completes it.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import pytest

from tests.support.faults import TITLES

#: Set for a run that tries again what failed in the run before.
AGAIN: Final = "AUTONOUS_TESTS_AGAIN"
_PROPERTY: Final = "fault"
_RECORD: Final = "faults/record"
#: The worst comes first: a fault is shown only by tests that all passed.
OUTCOMES: Final = ("failed", "error", "skipped", "passed")

#: By the test's name: how it ended, and the faults that it injects.
Record = dict[str, tuple[str, list[int]]]


def note(item: pytest.Item) -> None:
    """Have the reports of a test say which faults it injects, also those that another process sends."""
    for mark in item.iter_markers("fault"):
        item.user_properties += [(_PROPERTY, number) for number in mark.args]


def record(stats: Mapping[str, Sequence[object]]) -> Record:
    """The worst outcome of each test that injects a fault."""
    found: Record = {}
    for outcome in reversed(OUTCOMES):
        for report in stats.get(outcome, ()):
            if isinstance(report, pytest.TestReport):
                numbers = [n for name, n in report.user_properties if name == _PROPERTY and isinstance(n, int)]
                if numbers:
                    found[report.nodeid] = (outcome, numbers)
    return found


def kept(config: pytest.Config) -> Record | None:
    """The record of the run of all tests before this one; None when there is none."""
    cache = getattr(config, "cache", None)
    left = cache.get(_RECORD, None) if cache is not None else None
    return None if left is None else {test: (outcome, list(numbers)) for test, (outcome, numbers) in left.items()}


def keep(config: pytest.Config, found: Record | None) -> None:
    """Leave it for the run that tries again; with None there is nothing to complete."""
    cache = getattr(config, "cache", None)
    if cache is not None:
        cache.set(_RECORD, found)


def outcomes(found: Record) -> dict[int, Counter[str]]:
    """How many tests of each fault ended how."""
    counted: defaultdict[int, Counter[str]] = defaultdict(Counter)
    for outcome, numbers in found.values():
        for number in set(numbers):
            counted[number][outcome] += 1
    return {number: counted[number] for number in sorted(counted)}


def missing(found: Mapping[int, Counter[str]], wanted: Iterable[int] = TITLES) -> list[int]:
    """The faults that were not shown."""
    return [number for number in wanted if _worst(found.get(number)) != "passed"]


def told(found: Mapping[int, Counter[str]], wanted: Iterable[int] = TITLES) -> list[str]:
    """How many of the faults were shown, and a line for each with its outcome and how many tests ended so."""
    wanted = list(wanted)
    lines = [f"{len(wanted) - len(missing(found, wanted))} of {len(wanted)} shown"]
    for number in wanted:
        ends = found.get(number, Counter[str]())
        counts = ", ".join(f"{ends[outcome]} {outcome}" for outcome in OUTCOMES if ends[outcome])
        lines.append(f"{number:2}  {counts or _worst(None)}: {TITLES[number]}")
    return lines


def _worst(ends: Counter[str] | None) -> str:
    return next((outcome for outcome in OUTCOMES if ends and ends[outcome]), "not run")
