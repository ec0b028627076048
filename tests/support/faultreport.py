"""What a run of the tests says of the faults by their numbers: which were shown, and which were not."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import pytest

from tests.support.faults import TITLES

_PROPERTY: Final = "fault"
#: The worst comes first: a fault is shown only by tests that all passed.
OUTCOMES: Final = ("failed", "error", "skipped", "passed")


def note(item: pytest.Item) -> None:
    """Have the reports of a test say which faults it injects, also those that another process sends."""
    for mark in item.iter_markers("fault"):
        item.user_properties += [(_PROPERTY, number) for number in mark.args]


def outcomes(stats: Mapping[str, Sequence[object]]) -> dict[int, str]:
    """The worst outcome by fault, of those that the run's reports are about."""
    found: defaultdict[int, set[str]] = defaultdict(set)
    for outcome in OUTCOMES:
        for report in stats.get(outcome, ()):
            if isinstance(report, pytest.TestReport):
                for name, number in report.user_properties:
                    if name == _PROPERTY and isinstance(number, int):
                        found[number].add(outcome)
    return {number: min(found[number], key=OUTCOMES.index) for number in sorted(found)}


def told(found: Mapping[int, str], wanted: Iterable[int] = TITLES) -> list[str]:
    """How many of the faults were shown, and a line for each that was not."""
    missing = {number: found.get(number, "not run") for number in wanted if found.get(number) != "passed"}
    total = len(list(wanted))
    lines = [f"{total - len(missing)} of {total} shown"]
    return lines + [f"{outcome}: {number}, {TITLES[number]}" for number, outcome in missing.items()]
