"""The supervisor is killed at every single place, before and after every ledger commit and engine call.

Takes long: `make crash` runs it. SEED gives another order and other draws, SEEDS how many draws on each course (3).
"""

import itertools
import os
import random
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

import pytest

from supervisor.states import TRANSITIONS
from tests.crash.courses import COURSES, OFF_COURSE, THERE_AND_BACK, WEDGES, Course
from tests.crash.road import Road
from tests.support import crashplaces
from tests.support.installation import Install

SEED: Final = int(os.environ.get("SEED", "0"))
SEEDS: Final = range(SEED, SEED + int(os.environ.get("SEEDS", "3")))
#: How often the supervisor dies in one draw.
DRAWN: Final = 3
_WHEN: Final = ("before", "after")

#: What each supervisor or a command does, and not the update: its places are come by elsewhere.
AT_THE_START: Final = ("ledger.migrate", "ledger.genesis", "ledger.fact", "engine.create_network")
OFF_THE_ROAD: Final = {
    "ledger.owner": "a bot of Telegram's is claimed",
    "ledger.grant": "a directory is opened",
    "ledger.grant.end": "a directory is closed",
    "ledger.card.spend": "a button is pressed",
    "ledger.ending.forget": "the bot does not take the words",
    "ledger.keep": "nothing runs",
    "ledger.kept.answered": "nothing runs",
    "ledger.kept.taken": "nothing has run",
    "ledger.notice": "something is away",
    "ledger.notice.told": "something was away",
    "ledger.attempt.back": "something was away in a step",
    "ledger.prune": "an owner's command",
    "ledger.append.*": "of whatever kind: those of an update are named below",
    "engine.pull": "there is no base image yet",
    "engine.import_image": "there is no base image yet",
    "engine.tag": "nobody does",
    "engine.remove_image": "gc",
    "engine.remove_network": "purge",
}
#: Places of one name, each known only when it runs.
_PARTS: Final = {
    "engine.create.*": ("test", "worker", "toolbox"),
    "engine.start.*": ("test", "worker", "toolbox"),
    "ledger.*": ("worker.activated", "worker.drained"),
}
_MOVE: Final = "ledger.*.*"
_KILL: Final = "engine.kill"
_APPENDED: Final = ("ledger.append.update.card.sent", "ledger.append.update.ending.told")


def places() -> list[str]:
    """All that an update comes by on its way there and back, by what the source says."""
    found = [*crashplaces.ledger_names(), *crashplaces.engine_names()]
    named = [name for name in found if name not in {*OFF_THE_ROAD, *AT_THE_START, *_PARTS, _MOVE, _KILL}]
    parts = [pattern.replace("*", part) for pattern, parts in _PARTS.items() for part in parts]
    return [f"{name}.{when}" for name in (*named, *parts, *_APPENDED) for when in _WHEN]


def moves() -> list[tuple[Course, str]]:
    """Each move of the table, on the first course that takes it."""
    seen: set[str] = set()
    found = []
    for course in COURSES:
        for place in course.places:
            if place not in seen:
                seen.add(place)
                found.append((course, place))
    return found


def every() -> list[tuple[Course, str]]:
    killing = [(WEDGES, f"{_KILL}.{when}") for when in _WHEN]
    cases = [*moves(), *killing, *((THERE_AND_BACK, place) for place in places())]
    random.Random(SEED).shuffle(cases)
    return cases


def drawn(course: Course, seed: int) -> list[str]:
    """Some places of a course, in its order."""
    numbers = random.Random(f"{seed} {course.name}").sample(range(len(course.places)), min(DRAWN, len(course.places)))
    return [course.places[number] for number in sorted(numbers)]


def name_of(*words: object) -> str:
    """A name for a module."""
    return "".join(c if c.isalnum() else "_" for c in "_".join(map(str, words))).lower()


def test_every_move_of_the_table_is_on_a_course() -> None:
    """Or it is said why it is on none; and no course takes another one."""
    taken = {move for course in COURSES for move in course.moves}
    assert taken | OFF_COURSE.keys() == TRANSITIONS.keys()
    assert not taken & OFF_COURSE.keys()


def test_another_seed_draws_other_deaths() -> None:
    """And the same one the same."""
    assert [drawn(course, 1) for course in COURSES] == [drawn(course, 1) for course in COURSES]
    assert [drawn(course, 1) for course in COURSES] != [drawn(course, 2) for course in COURSES]


def test_every_place_of_the_source_is_accounted_for() -> None:
    """What is said to be elsewhere, or to have parts, is there at all."""
    found = {*crashplaces.ledger_names(), *crashplaces.engine_names()}
    assert {*OFF_THE_ROAD, *AT_THE_START, *_PARTS, _MOVE, _KILL} <= found
    assert any(fnmatchcase(place, "ledger.lease.*") for place in places())


@pytest.mark.exhaustive
@pytest.mark.fault(1)
@pytest.mark.parametrize(("course", "place"), every(), ids=lambda it: it.name if isinstance(it, Course) else it)
def test_a_death_at(road: Road, course: Course, place: str) -> None:
    """The same end as without it."""
    road.walk(name_of("killed_at", place), [place], course=course)


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("course", "seed"), list(itertools.product(COURSES, SEEDS)), ids=lambda it: str(getattr(it, "name", it))
)
def test_deaths_as_they_are_drawn(road: Road, course: Course, seed: int) -> None:
    """Several at places of one course, in the order in which it comes by them: the same end as without them."""
    road.walk(name_of("drawn", seed, course.name), drawn(course, seed), course=course)


@pytest.mark.exhaustive
@pytest.mark.parametrize("place", [f"{place}.{when}" for place in AT_THE_START for when in _WHEN])
def test_a_death_at_the_very_first_start(install: Install, tmp_path: Path, place: str) -> None:
    """``up`` says so, or gets there all the same; given again it does."""
    with Road(install, tmp_path, first_death=place) as road:
        assert not road.bomb.exists(), "nobody came by"
        assert road.installation.say("are you there?")
