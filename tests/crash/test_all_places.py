"""The supervisor is killed at every single place, before and after every ledger commit and engine call.

Takes long: `make crash` runs it. SEED gives another order and other draws, SEEDS how many draws on each course (3).
"""

import inspect
import itertools
import os
import random
from fnmatch import fnmatchcase
from importlib import import_module
from pathlib import Path
from typing import Final

import pytest

from supervisor.states import TRANSITIONS
from tests.crash.courses import COURSES, THERE_AND_BACK, WEDGES, Course
from tests.crash.elsewhere import SHOWN, deaths, shown
from tests.crash.road import Road
from tests.support import crashplaces
from tests.support.installation import Install

SEED: Final = int(os.environ.get("SEED", "0"))
SEEDS: Final = range(SEED, SEED + int(os.environ.get("SEEDS", "3")))
#: How often the supervisor dies in one draw.
DRAWN: Final = 3
#: Where deaths elsewhere are shown.
ELSEWHERE: Final = Path(__file__).with_name("off_the_road")

#: What each supervisor does at its very first start.
AT_THE_START: Final = ("ledger.migrate", "ledger.genesis", "ledger.fact", "engine.create_network")
_PARTS_AT_THE_START: Final = ("ledger.append.process.started",)
#: Nobody is killed there, and why.
OFF_THE_ROAD: Final = {
    "engine.pull": "of the base image, which all installations on an engine share: only an engine without one asks",
    "engine.import_image": "the same: only where no registry answers, either",
    "engine.tag": "nothing in service gives an image a second name",
}
#: Places of one name, each known only when it runs; those that an update comes by.
_PARTS: Final = {
    "engine.create.*": ("test", "worker", "toolbox"),
    "engine.start.*": ("test", "worker", "toolbox"),
    "ledger.*": ("worker.activated", "worker.drained"),
    "ledger.append.*": ("update.card.sent", "update.ending.told"),
}
#: And those that nobody is killed at, and why.
_PARTS_OFF_THE_ROAD: Final = {
    "exam": "made by the exam's own process, a child that no place of this file ends: as it sits beside a candidate, "
    "its death is judged, and tests/e2e/test_exam_process.py and test_hostile_candidates.py bring it about",
    "crash_loop.detected": "noted after the move that follows from a crash loop; nothing is derived from it",
    "external_trouble.started": "told again by whoever sees it next",
    "external_trouble.ended": "told again by whoever sees it next",
    "rescue.ended": "a minute after the rescue, told again by whoever sees it next",
    "rollback.attempted": "told of each attempt at a way back, beside its moves",
    "state.restored": "`supervisor restore` notes what it has done",
    "toolbox.restarted": "noted before a toolbox is made anew, and again by whoever does it next",
    "update.build.completed": "as the image of extras is made, or one again that is gone",
    "update.press": "a press that decides nothing",
    "update.rollback.failed": "told of an attempt that failed, and tried again",
}
_MOVE: Final = "ledger.*.*"
_KILL: Final = "engine.kill"


def places() -> list[str]:
    """All that an update comes by on its way there and back, by what the source says."""
    found = [*crashplaces.ledger_names(), *crashplaces.engine_names()]
    elsewhere = {*OFF_THE_ROAD, *AT_THE_START, *_PARTS, *shown(), _MOVE, _KILL}
    named = [name for name in found if name not in elsewhere]
    parts = [pattern.replace("*", part) for pattern, parts in _PARTS.items() for part in parts]
    return [death for name in (*named, *parts) for death in deaths(name)]


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
    killing = [(WEDGES, death) for death in deaths(_KILL)]
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


def test_every_move_of_the_table_is_on_a_course_or_shown_elsewhere() -> None:
    """And on no more than one of the two; none is taken that the table does not have."""
    taken = {move for course in COURSES for move in course.moves}
    off_course = {(a, b) for a, b in TRANSITIONS if f"ledger.{a}.{b}" in shown()}
    assert taken | off_course == TRANSITIONS.keys()
    assert not taken & off_course


def test_another_seed_draws_other_deaths() -> None:
    """And the same one the same."""
    assert [drawn(course, 1) for course in COURSES] == [drawn(course, 1) for course in COURSES]
    assert [drawn(course, 1) for course in COURSES] != [drawn(course, 2) for course in COURSES]


def test_every_place_of_the_source_is_accounted_for() -> None:
    """What is said to be elsewhere, or to have parts, is there at all."""
    found = {*crashplaces.ledger_names(), *crashplaces.engine_names()}
    assert {*OFF_THE_ROAD, *AT_THE_START, *_PARTS, _MOVE, _KILL} <= found
    assert not shown() & {*OFF_THE_ROAD, *AT_THE_START}
    assert all(any(fnmatchcase(place, name) for name in found) for place in shown())
    assert any(fnmatchcase(place, "ledger.lease.*") for place in places())


@pytest.mark.parametrize("pattern", _PARTS)
def test_every_part_of_a_place_is_accounted_for(pattern: str) -> None:
    """Each role that containers are made with, each event that is written by itself, is come by here or elsewhere."""
    parts = {"engine": crashplaces.roles(), "ledger.append": crashplaces.appended(), "ledger": crashplaces.noted()}
    kind = pattern.rpartition(".")[0]
    there = parts["engine" if kind.startswith("engine") else kind]
    others = {*shown(), *_PARTS_AT_THE_START}
    by_others = {part for part in there if pattern.replace("*", part) in others}
    assert {*_PARTS[pattern], *by_others, *(part for part in _PARTS_OFF_THE_ROAD if part in there)} == there
    assert not {*_PARTS[pattern], *by_others} & _PARTS_OFF_THE_ROAD.keys()


@pytest.mark.parametrize("test", SHOWN)
def test_what_is_shown_elsewhere_is(test: str) -> None:
    """By a test of this name, which takes its places from the table."""
    (source,) = (
        inspect.getsource(found)
        for file in ELSEWHERE.glob("test_*.py")
        if (found := getattr(import_module(f"tests.crash.off_the_road.{file.stem}"), test, None)) is not None
    )
    names = [name for name in SHOWN[test] if f'deaths("{name}")' in source]
    assert f'shown_by("{test}")' in source or names == list(SHOWN[test]) or "CANCELLED_WHILE" in source


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
@pytest.mark.parametrize("place", [death for place in (*AT_THE_START, *_PARTS_AT_THE_START) for death in deaths(place)])
def test_a_death_at_the_very_first_start(install: Install, tmp_path: Path, place: str) -> None:
    """``up`` says so, or gets there all the same; given again it does."""
    with Road(install, tmp_path, first_death=place) as road:
        assert not road.bomb.exists(), "nobody came by"
        assert road.installation.say("are you there?")
