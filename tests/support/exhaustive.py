"""Which cases `make test` runs, and which are left to `make crash`, since they are as their neighbours are."""

from collections.abc import Collection, Iterable

import pytest


def but_for(kept: Collection[str], cases: Iterable[str]) -> list[object]:
    """The cases by name, as parameters: all are exhaustive but those that are ``kept``."""
    cases = list(cases)
    assert set(kept) <= set(cases), f"{set(kept) - set(cases)} are no cases"
    return [pytest.param(case, marks=() if case in kept else pytest.mark.exhaustive) for case in cases]
