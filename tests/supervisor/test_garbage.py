"""What keeps an image, reason by reason; on a real ledger, with images as values."""

import inspect
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import pytest

from supervisor.cli.images import gc
from supervisor.engine import ImageView
from supervisor.images.builds import LABEL_BASE_DIGEST
from supervisor.images.garbage import KEEP, collect, survey
from supervisor.ledger import Ledger, NewUpdate, NewWorker, Origin, Update
from supervisor.specs import LABEL_PROJECT, LABEL_TX
from supervisor.states import Status

S = Status
PROJECT = "mine"
ROAD = (
    S.CREATED,
    S.BUILDING,
    S.TESTING,
    S.SELF_CHECKING,
    S.STAGED,
    S.APPROVED,
    S.DEPLOYING,
    S.DEPLOYED_UNSTABLE,
    S.PROMOTED,
)


@dataclass
class Images:
    """The engine's images; one that another stands on is not removed, as on the engine."""

    kept: dict[str, ImageView] = field(default_factory=dict)

    def add(self, image_id: str, labels: Mapping[str, str], *layers: str) -> None:
        created = f"2026-01-01T00:{len(self.kept):02}:00Z"
        self.kept[image_id] = ImageView(image_id, (f"{image_id}:tag",), labels, 100, layers, created)

    def image(self, reference: str) -> ImageView | None:
        return self.kept.get(reference)

    def images(self, labels: Mapping[str, str]) -> list[ImageView]:
        return [image for image in self.kept.values() if labels.items() <= dict(image.labels).items()]

    def remove_image(self, reference: str) -> None:
        gone = self.kept[reference]
        above = [i.id for i in self.kept.values() if i.id != gone.id and i.layers[: len(gone.layers)] == gone.layers]
        assert not above, f"{above} stand on {reference}"
        del self.kept[reference]


class Home:
    """A ledger with a first revision, and the images of what is added."""

    def __init__(self, directory: Path) -> None:
        self.ledger = Ledger(directory / "supervisor.db")
        self.engine = Images()
        self.snapshots = directory / "snapshots"
        self.snapshots.mkdir()
        self.engine.add("deps", {}, "base", "deps")
        tx_id = str(uuid.uuid4())
        self.first = self.ledger.genesis(
            NewUpdate(tx_id=tx_id, origin=Origin.GENESIS, title="first"), changes=self._image("first", tx_id, "deps")
        )

    def update(self, name: str, status: Status, *, origin: Origin = Origin.CLI, deps: str = "deps") -> Update:
        """An update on the good revision, taken along the road to this status."""
        good = self.ledger.good_revision()
        new = NewUpdate(origin=origin, title=name, base_sha=good.sha, base_tx_id=good.tx_id)
        update = self.ledger.create(new)
        self.ledger.amend(update.tx_id, self._image(name, update.tx_id, deps))
        road = ROAD[: ROAD.index(status) + 1] if status in ROAD else (*ROAD[: ROAD.index(S.TESTING) + 1], status)
        for source, target in pairwise(road):
            self.ledger.move(update.tx_id, source, target)
        if status is S.PROMOTED:
            snapshot = self.snapshots / f"{update.tx_id}.db"
            snapshot.write_text(name)
            self.ledger.amend(update.tx_id, {"snapshot": str(snapshot)})
        return self.ledger.find(update.tx_id)

    def _image(self, name: str, tx_id: str, deps: str) -> dict[str, object]:
        labels = {LABEL_PROJECT: PROJECT, LABEL_TX: tx_id, LABEL_BASE_DIGEST: deps}
        layers = ("base", deps, "first") if name != "first" and deps == "deps" else ("base", deps)
        self.engine.add(name, labels, *layers, name)
        return {"sha": name * 5, "tree": name, "deps_image_id": deps, "image_id": name, "image_tag": f"{name}:tag"}

    def collect(self, keep: int = 1) -> set[str]:
        """The names of what went."""
        return {
            image.image_id for image in collect(self.ledger, self.engine, PROJECT, self.snapshots, keep=keep).images
        }

    def reasons(self, keep: int = 1) -> dict[str, tuple[str, ...]]:
        return {image.image_id: image.reasons for image in survey(self.ledger, self.engine, PROJECT, keep=keep)}


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    made = Home(tmp_path)
    yield made
    made.ledger.close()


def test_active_n_minus_1_and_trunk_stay(home: Home) -> None:
    """Whatever the count says; what lies between them goes."""
    for name in ("a", "b", "c", "d"):
        home.update(name, S.PROMOTED)
    home.update("bad", S.TEST_FAILED)
    reasons = home.reasons()
    assert "active" in reasons["d"]
    assert "N-1" in reasons["c"]
    assert "new images are layered on it" in reasons["first"]
    assert home.collect() == {"a", "b"}
    assert home.collect() == set()
    assert {u.image_id for u in home.ledger.updates()} == {"first", "a", "b", "c", "d", "bad"}  # rows stay as they are


def test_ten_stay_where_nobody_says_how_many(home: Home) -> None:
    """Of thirteen updates the oldest three go, image and snapshot; what the others are layered on stays."""
    for number in range(13):
        home.update(f"n{number}", S.PROMOTED)
    done = collect(home.ledger, home.engine, PROJECT, home.snapshots)
    assert {image.image_id for image in done.images} == {"n0", "n1", "n2"}
    assert len(done.snapshots) == 3
    assert home.engine.kept.keys() == {"deps", "first", *(f"n{number}" for number in range(3, 13))}
    assert inspect.signature(gc).parameters["keep"].default == KEEP == 10


def test_the_newest_stay(home: Home) -> None:
    """As many as are asked for, however they ended."""
    for name in ("a", "b", "c", "d"):
        home.update(name, S.PROMOTED)
    home.update("bad", S.TEST_FAILED)
    assert home.collect(keep=4) == {"a"}


@pytest.mark.parametrize("status", [S.BUILDING, S.TESTING, S.SELF_CHECKING, S.STAGED, S.APPROVED, S.DEPLOYING])
def test_what_an_update_in_hand_needs_stays(home: Home, status: Status) -> None:
    """Its image and its base's, though newer ones are many."""
    for name in ("a", "b"):
        home.update(name, S.PROMOTED)
    home.update("inhand", status)
    home.update("bad", S.TEST_FAILED)
    assert home.collect() == set()  # a is N-1, b is active and the base
    assert "the base of update" in " ".join(home.reasons()["b"])


def test_an_image_of_an_update_that_is_being_built_stays(home: Home) -> None:
    """Before the ledger knows its id; an image that no update in hand explains goes."""
    update = home.update("bad", S.BUILDING)
    home.engine.add("unrecorded", {LABEL_PROJECT: PROJECT, LABEL_TX: update.tx_id}, "x")
    home.engine.add("leftover", {LABEL_PROJECT: PROJECT, LABEL_TX: "another"}, "y")
    home.engine.add("foreign", {LABEL_PROJECT: "theirs", LABEL_TX: "another"}, "z")
    assert home.collect() == {"leftover"}
    assert {"unrecorded", "foreign"} <= home.engine.kept.keys()


def test_what_a_worker_runs_on_stays(home: Home) -> None:
    """Also when its revision is long past."""
    for name in ("a", "b", "c"):
        home.update(name, S.PROMOTED)
    home.ledger.register_worker(NewWorker(worker_id="w", sha="aaaaa", image_id="a", credential="c"))
    home.update("bad", S.TEST_FAILED)
    assert home.collect() == set()


def test_dependencies_stay_while_a_kept_revision_stands_on_them(home: Home) -> None:
    """And go with the last one, unless another installation stands on them as well."""
    home.engine.add("newdeps", {}, "base", "newdeps")
    for name in ("a", "b"):
        home.update(name, S.PROMOTED, origin=Origin.UPSTREAM, deps="newdeps")
    assert "kept revisions stand on it" in home.reasons(keep=3)["deps"]
    home.update("c", S.PROMOTED, origin=Origin.UPSTREAM, deps="newdeps")
    home.engine.add("theirs", {LABEL_PROJECT: "theirs", LABEL_BASE_DIGEST: "deps"}, "q")
    assert "first" in home.collect()
    assert home.reasons()["deps"] == ("another installation uses it",)
    home.engine.remove_image("theirs")
    assert home.collect() == {"deps"}
    assert "newdeps" in home.engine.kept


def test_what_kept_images_are_layered_on_stays(home: Home) -> None:
    """A former trunk, as long as an image above it is kept."""
    for name in ("a", "b", "c"):
        home.update(name, S.PROMOTED)
    home.engine.add("newdeps", {}, "base", "newdeps")
    home.update("up", S.PROMOTED, origin=Origin.UPSTREAM, deps="newdeps")
    assert home.collect() == {"a", "b"}
    assert "kept images are layered on it" in home.reasons()["first"][0]


def test_snapshots_go_by_the_same_count(home: Home) -> None:
    """The oldest first; the ledger forgets where they were."""
    updates = [home.update(name, S.PROMOTED) for name in ("a", "b", "c")]
    done = collect(home.ledger, home.engine, PROJECT, home.snapshots, keep=2)
    assert [file.stem for file in done.snapshots] == [updates[0].tx_id]
    assert sorted(file.stem for file in home.snapshots.iterdir()) == sorted(u.tx_id for u in updates[1:])
    assert home.ledger.find(updates[0].tx_id).snapshot is None


def test_a_dry_run_changes_nothing(home: Home) -> None:
    """It tells the same."""
    for name in ("a", "b", "c"):
        home.update(name, S.PROMOTED)
    told = collect(home.ledger, home.engine, PROJECT, home.snapshots, keep=1, dry_run=True)
    assert {image.image_id for image in told.images} == {"a"}
    assert "a" in home.engine.kept
    assert len(list(home.snapshots.iterdir())) == 3
    assert home.collect() == {"a"}


def test_each_removal_is_an_event(home: Home) -> None:
    """Below the update that the image was made for."""
    update = home.update("a", S.PROMOTED)
    home.update("b", S.PROMOTED)
    home.update("c", S.PROMOTED)
    home.collect()
    told = home.ledger.events(parent_id=update.event_id, newest_first=True, limit=1)[0]
    assert (told.event_type, told.payload["image_id"]) == ("update.cleanup.completed", "a")
