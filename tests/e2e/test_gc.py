"""What ``gc`` takes and what it never does, on the engine; and that what was taken can still be gone back to."""

import hashlib
import io
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import docker
import pytest
from docker.errors import NotFound

from supervisor.engine import engine_url
from supervisor.images.builds import LABEL_LOCK, Deps, base_tag, deps_tag
from supervisor.specs import LABEL_PROJECT
from tests.support import candidates
from tests.support.checkouts import copy_checkout, patch_of
from tests.support.installation import Install, Installation, wait_for
from tests.support.projects import new_project

LOCK = "images/deps/requirements.lock"


@pytest.fixture(scope="module")
def installation(install: Install, checkout: Path) -> Installation:
    """Up, after three promoted updates and one that failed."""
    made = install()
    made.up()
    for name in ("one", "two", "three"):
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
    assert len(told["images"]) == 1
    assert len(told["snapshots"]) == 2
    assert there(installation) == before


def test_with_few_revisions_nothing_goes_by_itself(installation: Installation) -> None:
    """Ten stay when nobody says how many."""
    assert installation.run("gc").expect(0).out == "Nothing to remove.\n"


def test_an_update_in_hand_keeps_its_image_and_its_base(installation: Installation, checkout: Path) -> None:
    """A staged update can still be approved after a ``gc`` that keeps next to nothing."""
    tx = installation.stage(candidates.adds_a_module(checkout, "four"))
    installation.submit(candidates.crashes_at_start(checkout), "--force")
    snapshots = sorted(installation.paths.snapshots.glob("*.db"))
    out = installation.run("gc", "--keep", "1").expect(0).out
    removed = [line for line in out.splitlines() if line.startswith("removed: image ")]
    assert len(removed) == 2  # one, and the first that failed
    assert len(there(installation)) == 5
    assert len(sorted(installation.paths.snapshots.glob("*.db"))) == 1 < len(snapshots)
    by_tx = {entry["tx_id"]: entry for entry in installation.history()}
    assert all(entry["image_id"] for entry in by_tx.values())
    events = installation.run("events", "--json").expect(0).out
    assert events.count("update.cleanup.completed") >= 2
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


# -- the default, over more revisions than it keeps

OfLock = Callable[[bytes], str]


@pytest.fixture(scope="module")
def dependencies(deps: Deps) -> Iterator[OfLock]:
    """Makes the image that a lock is looked for under: the usual one by another name, as no package differs."""
    api = docker.APIClient(base_url=engine_url(), version="auto")
    label = {LABEL_PROJECT: new_project()}  # nobody's, so that whoever tidies up after a killed run finds it

    def make(lock: bytes) -> str:
        tag = deps_tag(api.inspect_image(base_tag())["Id"], lock)
        text = io.BytesIO(f"FROM {deps.image_id}\n".encode())
        list(api.build(fileobj=text, tag=tag, labels={**label, LABEL_LOCK: hashlib.sha256(lock).hexdigest()}))
        return str(api.inspect_image(tag)["Id"])

    yield make
    for image in api.images(filters={"label": [f"{name}={value}" for name, value in label.items()]}):
        with suppress(NotFound):
            api.remove_image(image["Id"], force=True)
    api.close()


@pytest.mark.exhaustive
def test_by_default_ten_stay_and_what_they_and_n_minus_1_need(
    dependencies: OfLock, install: Install, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """N-1 and its dependencies however old, as long as it is N-1; then they go, and can still be gone back to."""
    checkout = copy_checkout(tmp_path_factory.mktemp("two-locks") / "checkout")
    lock = (checkout / LOCK).read_bytes()

    def locked(comment: bytes) -> str:
        (checkout / LOCK).write_bytes(lock + comment)
        return dependencies(lock + comment)

    def images_of(role: str) -> set[str]:
        return {image["tx_id"] or image["image_id"] for image in listed(made) if image["role"] == role}

    def removed() -> set[str]:
        gone = made.run("gc", "--json").expect(0).json["images"]
        return {image["tx_id"] or image["image_id"] for image in gone}

    first_deps = locked(b"# first\n")
    made = install(checkout)
    made.up()
    genesis = made.settled()["active"]["tx_id"]
    one = made.promote(candidates.adds_a_module(checkout, "one"))
    two = made.promote(candidates.answers(checkout, "I am the second."))
    second_deps = locked(b"# second\n")
    made.up()
    upgrade = made.run("upgrade", "--wait", "--json").expect(0).json["tx_id"]
    made.run("approve", upgrade, "--wait").expect(0)
    fails = patch_of(checkout, {"tests/worker/test_fails.py": "def test_fails() -> None:\n    assert False\n"})
    failed = {made.submit(fails, "--force")["tx_id"] for _ in range(9)}
    assert images_of("worker") == {genesis, one, two, upgrade, *failed}
    assert images_of("deps") == {first_deps, second_deps}

    # Ten: the nine and the active one. N-1 is the eleventh, and the first revision lies below it.
    assert removed() == {one}
    assert removed() == set()
    assert there(made) == {genesis, two, upgrade, *failed}
    assert images_of("deps") == {first_deps, second_deps}

    last = made.promote(candidates.adds_a_module(checkout, "last"))
    gone: set[str] = set()
    # The worker that was N-1 runs on its image until it is put away.
    wait_for(lambda: gone.update(removed()) or len(gone) == 3, 30, "all that was N-1's to go")  # type: ignore[func-returns-value]
    assert gone == {genesis, two, first_deps}
    assert there(made) == {upgrade, last, *failed}
    assert images_of("deps") == {second_deps}

    # The history forgets nothing, and every step back is one to a revision that is built again.
    assert len(made.history()) == 14
    made.run("rollback", last, "--wait").expect(0)
    made.run("rollback", upgrade, "--wait").expect(0)
    assert made.settled()["active"]["tx_id"] == two
    assert made.say("who are you?").startswith("I am the second.")
    made.run("rollback", two, "--wait").expect(0)
    assert made.settled()["active"]["tx_id"] == one
    assert {one, two} <= there(made)
