"""What ``gc`` takes and what it never does, on the engine; and that what was taken can still be gone back to."""

from pathlib import Path
from typing import Any

import pytest

from tests.support import candidates
from tests.support.installation import Install, Installation, wait_for


@pytest.fixture(scope="module")
def installation(install: Install, checkout: Path) -> Installation:
    """Up, after four promoted updates and one that failed."""
    made = install()
    made.up()
    for name in ("one", "two", "three", "four"):
        made.promote(candidates.adds_a_module(checkout, name))
    made.submit(candidates.crashes_at_start(checkout))
    return made


def listed(installation: Installation) -> list[dict[str, Any]]:
    return list(installation.run("images", "--json").expect(0).json)


def there(installation: Installation) -> set[str]:
    """The images that the engine has of those that the history names."""
    images = {image["Id"] for image in installation.docker.images()}
    return {entry["tx_id"] for entry in installation.history() if entry["image_id"] in images}


def test_images_are_listed_with_what_keeps_them(installation: Installation) -> None:
    """Revision, update, sizes; the active one, N-1, the one that others are layered on, the dependencies."""
    images = {image["tx_id"]: image for image in listed(installation) if image["role"] == "worker"}
    history = installation.history()
    assert set(images) == {entry["tx_id"] for entry in history}
    active = next(entry for entry in history if entry["active"])
    assert [tx for tx, image in images.items() if image["active"]] == [active["tx_id"]]
    previous = next(entry for entry in history if entry["n_minus_1"])
    assert [tx for tx, image in images.items() if image["n_minus_1"]] == [previous["tx_id"]]
    assert "new images are layered on it" in images[history[-1]["tx_id"]]["reasons"]
    for entry in history:
        image = images[entry["tx_id"]]
        assert (image["image_id"], image["tag"]) == (entry["image_id"], entry["image_tag"])
        assert image["unique_bytes"] == entry["unique_bytes"]
    dependencies = [image for image in listed(installation) if image["role"] == "deps"]
    assert [bool(image["reasons"]) for image in dependencies] == [True]
    table = installation.run("images").expect(0).out
    assert active["image_tag"] in table


def test_a_dry_run_removes_nothing(installation: Installation) -> None:
    """It names what would go."""
    before = there(installation)
    told = installation.run("gc", "--keep", "1", "--dry-run", "--json").expect(0).json
    assert len(told["images"]) == 2
    assert len(told["snapshots"]) == 3
    assert there(installation) == before


def test_with_few_revisions_nothing_goes_by_itself(installation: Installation) -> None:
    """Ten stay when nobody says how many."""
    assert installation.run("gc").expect(0).out == "Nothing to remove.\n"


def test_an_update_in_hand_keeps_its_image_and_its_base(installation: Installation, checkout: Path) -> None:
    """A staged update can still be approved after a ``gc`` that keeps next to nothing."""
    tx = installation.stage(candidates.adds_a_module(checkout, "five"))
    installation.submit(candidates.crashes_at_start(checkout), "--force")
    snapshots = sorted(installation.paths.snapshots.glob("*.db"))
    out = installation.run("gc", "--keep", "1").expect(0).out
    removed = [line for line in out.splitlines() if line.startswith("removed: image ")]
    assert len(removed) == 3  # one, two, and the first that failed
    assert len(there(installation)) == 5
    assert len(sorted(installation.paths.snapshots.glob("*.db"))) == 1 < len(snapshots)
    by_tx = {entry["tx_id"]: entry for entry in installation.history()}
    assert all(entry["image_id"] for entry in by_tx.values())
    events = installation.run("events", "--json").expect(0).out
    assert events.count("update.cleanup.completed") >= 3
    installation.run("approve", tx, "--wait").expect(0)
    # What the promotion lets go of is in use until its containers are put away.
    wait_for(lambda: installation.run("gc", "--keep", "1", "--json").expect(0).json["images"], 30, "an image to remove")
    assert installation.settled()["active"]["tx_id"] == tx


def test_what_was_taken_can_be_gone_back_to(installation: Installation) -> None:
    """Step by step back to a revision whose image is gone: it is built again from its commit."""
    active = installation.settled()["active"]
    kept = there(installation)
    while active["tx_id"] in kept:
        installation.run("rollback", active["tx_id"], "--wait").expect(0)
        active = installation.settled()["active"]
    assert installation.say("are you there?")
    assert active["tx_id"] in there(installation)
