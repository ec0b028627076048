"""What a checkout brings, as an update: on a real ledger and repository; nothing is built here."""

import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from supervisor.images.builds import LABEL_CONTRACT, base_tag, deps_tag
from supervisor.images.contexts import contract_hash, trusted_contract
from supervisor.images.trunk import trunk_of
from supervisor.ledger import Ledger, NewUpdate, Origin, Update
from supervisor.pipeline.upgrade import Outcome, news, take_over
from supervisor.revisions import Revisions
from supervisor.states import Status

S = Status
FIRST = {"worker/a.py": b"1\n2\n3\n4\n5\n", "worker/b.py": b"b\n"}
ROAD = (S.BUILDING, S.TESTING, S.SELF_CHECKING, S.STAGED, S.APPROVED, S.DEPLOYING, S.DEPLOYED_UNSTABLE, S.PROMOTED)


@dataclass
class Image:
    id: str
    tags: tuple[str, ...] = ()
    labels: dict[str, str] = field(default_factory=dict)
    size_bytes: int = 1


class Home:
    """A ledger, a repository and the images that are asked for."""

    def __init__(self, directory: Path) -> None:
        self.ledger = Ledger(directory / "supervisor.db")
        self.revisions = Revisions(directory / "revisions.git")
        self.revisions.create()
        self.images = {base_tag(): Image("base"), "deps": Image("deps", (deps_tag("base"),))}
        commit = self.revisions.commit_files(FIRST, message="first", when=1)
        tx_id = str(uuid.uuid4())
        made = {"sha": commit.sha, "tree": commit.tree, "deps_image_id": "deps", **self.built(commit.sha)}
        self.ledger.genesis(NewUpdate(tx_id=tx_id, origin=Origin.GENESIS), changes=made)

    def built(self, sha: str) -> dict[str, object]:
        self.images[sha] = Image(sha, labels={LABEL_CONTRACT: contract_hash(trusted_contract())})
        return {"image_id": sha, "image_tag": f"p/worker:{sha[:12]}"}

    def image(self, reference: str) -> Image | None:
        return self.images.get(reference)

    def patched(self, files: dict[str, bytes]) -> Update:
        """What the agent made of itself: promoted."""
        good = self.ledger.good_revision()
        commit = self.revisions.commit_files(files, message="patch", when=time.time(), parent=good.sha)
        update = self.ledger.create(NewUpdate(origin=Origin.CHAT, base_sha=good.sha, base_tx_id=good.tx_id))
        self.ledger.amend(update.tx_id, {"sha": commit.sha, "tree": commit.tree, "deps_image_id": "deps"})
        return self.promote(update)

    def promote(self, update: Update) -> Update:
        self.ledger.amend(update.tx_id, self.built(self.ledger.find(update.tx_id).sha or ""))
        for source, target in zip((S.CREATED, *ROAD), ROAD, strict=False):
            self.ledger.move(update.tx_id, source, target)
        return self.ledger.find(update.tx_id)

    def upgrade(self, files: dict[str, bytes], deps: str = "deps") -> Outcome:
        return take_over(self.ledger, self.revisions, self, files, deps_image_id=deps, parent_id=None)

    def files(self) -> dict[str, bytes]:
        return self.revisions.files(self.ledger.good_revision().sha)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    made = Home(tmp_path)
    yield made
    made.ledger.close()


def created(outcome: Outcome) -> Update:
    assert outcome.update is not None, outcome
    return outcome.update


def test_nothing_new_is_said(home: Home) -> None:
    """No update, also when the agent has changed itself."""
    home.patched({**FIRST, "worker/own.py": b"own\n"})
    before = len(home.ledger.updates())
    assert home.upgrade(FIRST).status == "current"
    assert not news(home.ledger, home.revisions, home, FIRST)
    assert len(home.ledger.updates()) == before


def test_an_update_of_the_merge(home: Home) -> None:
    """On the active revision, with the agent's changes in it, ready for the pipeline."""
    own = home.patched({**FIRST, "worker/own.py": b"own\n"})
    brought = {**FIRST, "worker/b.py": b"B\n"}
    assert str(news(home.ledger, home.revisions, home, brought)) == "1 file"
    update = created(home.upgrade(brought))
    assert (update.status, update.origin, update.base_sha, update.deps_image_id) == (
        S.CREATED,
        Origin.UPSTREAM,
        own.sha,
        "deps",
    )
    assert home.revisions.files(update.sha or "") == {**brought, "worker/own.py": b"own\n"}
    assert b"+B" in home.ledger.patch(update.tx_id)
    assert [change["path"] for change in update.changes] == ["worker/b.py"]


def test_the_same_again_is_the_update_under_way(home: Home) -> None:
    """Until it is over; a command that is repeated does nothing twice."""
    brought = {**FIRST, "worker/b.py": b"B\n"}
    update = created(home.upgrade(brought))
    assert created(home.upgrade(brought)).tx_id == update.tx_id
    assert created(home.upgrade({**FIRST, "worker/b.py": b"BB\n"})).tx_id != update.tx_id
    home.ledger.move(update.tx_id, S.CREATED, S.CANCELLED)
    assert created(home.upgrade(brought)).tx_id != update.tx_id


def test_a_conflict_creates_nothing(home: Home) -> None:
    """It is told by file."""
    home.patched({**FIRST, "worker/b.py": b"own\n"})
    before = len(home.ledger.updates())
    outcome = home.upgrade({**FIRST, "worker/b.py": b"theirs\n"})
    assert (outcome.status, outcome.update) == ("conflict", None)
    assert [conflict.path for conflict in outcome.conflicts] == ["worker/b.py"]
    assert len(home.ledger.updates()) == before


def test_what_no_revision_may_hold(home: Home) -> None:
    """The checkout is trusted, and still no binary gets in."""
    outcome = home.upgrade({**FIRST, "worker/c.py": b"\0"})
    assert (outcome.status, outcome.code) == ("refused", "binary_denied")


def test_the_import_is_the_base_of_the_next_merge(home: Home) -> None:
    """What the first upgrade brought and the agent changed since is its own now; the second keeps it."""
    second = {**FIRST, "worker/b.py": b"B\n"}
    upgraded = home.promote(created(home.upgrade(second)))
    assert trunk_of(home.ledger, upgraded.sha or "").tx_id == upgraded.tx_id
    home.patched({**second, "worker/b.py": b"own\n"})
    third = created(home.upgrade({**second, "worker/a.py": b"A\n"}))
    assert home.revisions.files(third.sha or "") == {"worker/a.py": b"A\n", "worker/b.py": b"own\n"}


def test_a_roll_back_takes_the_base_of_the_merge_back(home: Home) -> None:
    """The upgrade that was undone is brought again by the next one, not taken for something the agent removed."""
    brought = {**FIRST, "worker/b.py": b"B\n", "worker/new.py": b"new\n"}
    upgraded = home.promote(created(home.upgrade(brought)))
    home.ledger.move(upgraded.tx_id, S.PROMOTED, S.ROLLBACK_PENDING)
    home.ledger.move(upgraded.tx_id, S.ROLLBACK_PENDING, S.ROLLED_BACK, restored=upgraded.base_sha)
    assert home.files() == FIRST
    assert len(news(home.ledger, home.revisions, home, brought).files) == 2
    again = created(home.upgrade(brought))
    assert home.revisions.files(again.sha or "") == brought


def test_new_dependencies_alone_make_an_update(home: Home) -> None:
    """With the files as they are, on the new image; afterwards there is nothing more to do."""
    home.images["deps"].tags = ("autonous-deps:another",)
    home.images["new"] = Image("new", (deps_tag("base"),))
    assert str(news(home.ledger, home.revisions, home, FIRST)) == "dependencies"
    update = created(home.upgrade(FIRST, deps="new"))
    assert (update.deps_image_id, update.changes) == ("new", [])
    home.promote(update)
    assert home.upgrade(FIRST, deps="new").status == "current"


def test_a_new_contract_alone_makes_an_update(home: Home) -> None:
    """An image of the same files with the contract of now."""
    home.images[home.ledger.good_revision().image_id].labels[LABEL_CONTRACT] = "another"
    assert str(news(home.ledger, home.revisions, home, FIRST)) == "the contract with the supervisor"
    home.promote(created(home.upgrade(FIRST)))
    assert home.upgrade(FIRST).status == "current"


def test_other_dependencies_stay_with_those_who_have_them(home: Home) -> None:
    """An image under another id that holds the same lock is no reason to change."""
    update = created(home.upgrade({**FIRST, "worker/b.py": b"B\n"}, deps="the same lock under another id"))
    assert update.deps_image_id == "deps"


def with_packages(home: Home) -> Update:
    """The agent has asked for a package, and got it."""
    asked = home.patched({**FIRST, "worker/requirements.in": b"humanize\n"})
    home.images["own-deps"] = Image("own-deps", ("autonous-deps:own",))
    return home.ledger.amend(asked.tx_id, {"deps_image_id": "own-deps", "lock": "a lock with humanize"})


def test_packages_that_the_agent_asked_for_are_kept(home: Home) -> None:
    """Through one upgrade after the other, as long as the checkout's lock stays as it was."""
    with_packages(home)
    assert home.upgrade(FIRST).status == "current"
    for content in (b"B\n", b"BB\n"):
        brought = {**FIRST, "worker/b.py": content}
        update = home.promote(created(home.upgrade(brought)))
        assert update.deps_image_id == "own-deps"
        assert home.ledger.lock(update.tx_id) == "a lock with humanize"
        assert home.upgrade(brought).status == "current"


def test_a_new_lock_without_the_agents_packages_is_a_conflict(home: Home) -> None:
    """Named, and nothing is created: with that lock the agent's own code could not start."""
    with_packages(home)
    home.images["deps"] = Image("deps", ("autonous-deps:of-before",))
    before = len(home.ledger.updates())
    outcome = home.upgrade({**FIRST, "worker/b.py": b"B\n"}, deps="new-deps")
    assert outcome.status == "conflict"
    assert "humanize" in outcome.conflicts[0].reason
    assert len(home.ledger.updates()) == before
