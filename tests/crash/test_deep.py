"""Not only the supervisor dies, and not only once: twice at one place, in its recovery, with workers, with everything.

Long, like the deaths at all places: `make crash` runs it.
"""

import os
import random

import pytest

from tests.crash.road import Road

#: Where a second death finds something half done: states of the roll-out, and what the start of a supervisor does.
PLACES = [
    "engine.build.after",
    "engine.start.test.after",
    "ledger.approved.deploying.after",
    "engine.start.worker.before",
    "engine.start.worker.after",
    "ledger.lease.before",
    "ledger.lease.after",
    "ledger.deploying.deployed_unstable.after",
    "ledger.deployed_unstable.promoted.before",
    "ledger.deployed_unstable.promoted.after",
    "ledger.promoted.rollback_pending.after",
    "ledger.rollback_pending.rolled_back.before",
]
random.Random(int(os.environ.get("SEED", "0"))).shuffle(PLACES)

#: What dies besides the supervisor, and where the next one dies in its turn.
DEATHS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "and once more there": ((), ("the same place",)),
    "and in its recovery": (("worker",), ("ledger.worker.after",)),
    "with the workers": (("worker",), ()),
    "with everything": (("worker", "toolbox", "test", "exam"), ()),
}
#: A move that is done is never done again, so nobody comes by its end twice.
ONCE = [place for place in PLACES if place.startswith("ledger.") and place.count(".") > 2 and place.endswith(".after")]


def possible(place: str, how: str) -> bool:
    """Whether the next supervisor comes by the second place."""
    return how != "and once more there" or place not in (*ONCE, "engine.start.worker.after", "ledger.lease.after")


def walk(road: Road, place: str, how: str) -> None:
    roles, then = DEATHS[how]
    places = [place, *(place if second == "the same place" else second for second in then)]
    name = "deep_" + "".join(c if c.isalnum() else "_" for c in f"{place}_{how}")
    road.walk(name, places, *roles)


@pytest.mark.exhaustive
@pytest.mark.parametrize(("place", "how"), [(place, how) for place in PLACES for how in DEATHS if possible(place, how)])
def test_every_place(road: Road, place: str, how: str) -> None:
    """The same chain and the same end as without it."""
    walk(road, place, how)
