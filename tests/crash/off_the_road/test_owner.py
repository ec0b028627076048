"""What an owner does on the machine: takes it down, has old events and images removed."""

import json
import sqlite3
from contextlib import closing
from typing import Final

import pytest

from supervisor.contract import EventType
from tests.crash.courses import COURSES
from tests.crash.elsewhere import shown_by
from tests.crash.road import Road
from tests.support.checkouts import CHECKOUT, patch_of

pytestmark = pytest.mark.exhaustive

FAILS: Final = next(course for course in COURSES if course.name == "its tests fail")


def test_as_the_supervisor_is_told_to_end(road: Road) -> None:
    """``down`` given again ends all, and the update in hand goes on with the next ``up``."""
    tx = ""
    for number, place in enumerate(shown_by("test_as_the_supervisor_is_told_to_end")):
        name = f"taken_down_{number}"
        slow = "import time\n\n\ndef test_slow() -> None:\n    time.sleep(20)\n"  # until the death has come
        road.hold("engine.start.test.after")
        tx = road.submit(name, patch_of(CHECKOUT, {f"tests/worker/test_{name}.py": slow}))
        road.until_held()
        road.dies_at(place, lambda: road.installation.run("down"))
        road.installation.down()
        assert road.installation.containers() == []
        assert road.installation.status_of(tx) == "testing"
        road.hold("engine.start.test.after")
        road.installation.up()
        road.until_held()
        road.bomb.unlink()
        road.decide("cancel", tx)
    road.at_rest()


def test_as_old_events_are_removed(road: Road) -> None:
    """The command given again removes what is left, once."""
    old = 1_600_000_000.0
    before, after = shown_by("test_as_old_events_are_removed")
    command = ("prune", "--older-than", "30", "--yes")
    for first in (1000, 2000):
        with closing(sqlite3.connect(road.installation.paths.ledger, timeout=10)) as database, database:
            rows = [(first + number, old, "worker.ready") for number in range(3)]
            database.executemany("INSERT INTO events VALUES (?, ?, NULL, ?, '{}')", rows)
        road.command_dies_at(before if first == 1000 else after, *command)
        left = json.loads(road.installation.run(*command, "--json").expect(0).out)["supervisor"]
        assert left == (3 if first == 1000 else 0)
    pruned = [event.payload["removed"] for event in road.events(EventType.EVENTS_PRUNED)]
    assert pruned == [3, 3]
    assert json.loads(road.installation.run(*command, "--json").expect(0).out)["supervisor"] == 0
    road.at_rest()


def test_as_images_are_removed(road: Road) -> None:
    """The next ``gc`` finishes it, and what runs has its image all the while."""
    gc = ("gc", "--keep", "1")

    def due() -> set[str]:
        told = road.installation.run(*gc, "--dry-run", "--json").expect(0).json
        return {image["image_id"] for image in told["images"]}

    number = 0
    places = shown_by("test_as_images_are_removed")
    while len(due()) < len(places):
        number += 1
        road.installation.submit(FAILS.patch(f"to_be_removed_{number}"))
    for place in places:
        before = due()
        road.command_dies_at(place, *gc)
        assert bool(before - due()) == (place != "engine.remove_image.before")
        assert_all_have_their_images(road)
    road.installation.run(*gc).expect(0)
    assert due() == set()
    assert_all_have_their_images(road)
    road.at_rest()


def assert_all_have_their_images(road: Road) -> None:
    """Every container that runs, and what can be gone back to."""
    for role in ("worker", "toolbox"):
        for container in road.installation.containers(role):
            assert road.installation.docker.inspect_image(container["Image"])
