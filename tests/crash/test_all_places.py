"""The supervisor is killed at every single place, before and after every ledger commit and engine call.

Takes long: `make crash` runs it, with SEED for another order.
"""

import itertools
import os
import random

import pytest

from supervisor.states import TRANSITIONS, Status
from tests.crash.road import WHOLE_CHAIN, Road
from tests.support.installation import Install

pytestmark = pytest.mark.exhaustive

_MOVES = [f"ledger.{a}.{b}" for a, b in itertools.pairwise(WHOLE_CHAIN)]
_OTHERS = [
    *("ledger.amend", "engine.build", "engine.create.test", "engine.start.test", "engine.remove"),
    *("ledger.worker", "engine.create.worker", "engine.start.worker", "engine.create.toolbox", "engine.start.toolbox"),
    *("ledger.lease", "engine.stop", "ledger.exit", "ledger.probation"),
]
PLACES = [f"{place}.{when}" for place in (*_MOVES, *_OTHERS) for when in ("before", "after")]
random.Random(int(os.environ.get("SEED", "0"))).shuffle(PLACES)


@pytest.fixture(scope="module")
def road(install: Install, tmp_path_factory: pytest.TempPathFactory) -> Road:
    """Up, with a keeper."""
    return Road(install, tmp_path_factory.mktemp("bombs"))


def test_the_moves_are_those_of_the_table() -> None:
    """The chain that is walked is legal, so every place exists."""
    moves = itertools.pairwise(WHOLE_CHAIN)
    assert all((Status(a), Status(b)) in TRANSITIONS for a, b in moves)


@pytest.mark.fault(1)
@pytest.mark.parametrize("place", PLACES)
def test_a_death_at(road: Road, place: str) -> None:
    """The same end as without it."""
    before = road.installation.active_sha()
    name = "killed_at_" + "".join(c if c.isalnum() else "_" for c in place)
    road.check(road.walk(name, [place]), before)
