"""Bases that move: a superseded update becomes another one on the new base, or says why not."""

import errno
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from supervisor.ledger import Ledger, NewUpdate, Origin, Update
from supervisor.pipeline.carryover import carry_over
from supervisor.revisions import Revisions, RevisionsUnusable
from supervisor.states import Status

S = Status
FIRST = {"worker/a.py": b"1\n2\n3\n4\n5\n6\n7\n", "worker/b.py": b"b\n"}
ROAD = (S.BUILDING, S.TESTING, S.SELF_CHECKING, S.STAGED, S.APPROVED, S.DEPLOYING, S.DEPLOYED_UNSTABLE, S.PROMOTED)


@dataclass
class Home:
    """A ledger and a repository with a first revision."""

    ledger: Ledger
    revisions: Revisions

    def made(self, files: dict[str, bytes], parent: str | None) -> dict[str, object]:
        commit = self.revisions.commit_files(files, message="a revision", when=1, parent=parent)
        image = {"image_id": commit.sha, "image_tag": f"p/worker:{commit.sha[:12]}", "deps_image_id": "deps"}
        return {"sha": commit.sha, "tree": commit.tree, **image}

    def update(self, files: dict[str, bytes], target: S, origin: Origin = Origin.CHAT) -> Update:
        """An update of the first revision's files."""
        base = self.ledger.updates()[-1]
        new = NewUpdate(origin=origin, title="greet", why="wanted", chat_id=7, base_sha=base.sha, base_tx_id=base.tx_id)
        update = self.ledger.create(new)
        self.ledger.amend(update.tx_id, self.made({**FIRST, **files}, base.sha))
        for status in ROAD[: ROAD.index(S.STAGED if target is S.SUPERSEDED else target) + 1]:
            update = self.ledger.move(update.tx_id, update.status, status)
        return self.ledger.move(update.tx_id, S.STAGED, target) if target is S.SUPERSEDED else update

    def carried(self, files: dict[str, bytes], **options: Origin) -> tuple[Update, list[Update]]:
        """What became of an update with these files, superseded by the promoted one."""
        update = self.update(files, S.SUPERSEDED, **options)
        again = carry_over(self.ledger, self.revisions, parent_id=None)
        assert carry_over(self.ledger, self.revisions, parent_id=None) == []
        return self.ledger.find(update.tx_id), again


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    with Ledger(tmp_path / "supervisor.db") as ledger:
        made = Home(ledger, Revisions(tmp_path / "revisions.git"))
        made.revisions.create()
        ledger.genesis(NewUpdate(origin=Origin.GENESIS), changes=made.made(FIRST, None))
        made.update({"worker/a.py": b"one\n2\n3\n4\n5\n6\n7\n"}, S.PROMOTED)
        yield made


def test_what_does_not_touch_the_same_is_carried_over(home: Home) -> None:
    """As an update of its own from the start, which says whence it comes, and whose patch fits the new base."""
    old, [new] = home.carried({"worker/a.py": b"1\n2\n3\n4\n5\n6\nseven\n"})
    assert (new.status, new.supersedes, new.base_sha) == ("created", old.tx_id, home.ledger.good_sha())
    assert (new.title, new.why, new.chat_id, new.origin) == ("greet", "wanted", 7, "chat")
    patch = home.ledger.patch(new.tx_id)
    applied = home.revisions.apply(
        str(new.base_sha), patch, tx_id=new.tx_id, title=new.title, why=new.why, when=new.created_at
    )
    assert home.revisions.files(applied.sha)["worker/a.py"] == b"one\n2\n3\n4\n5\n6\nseven\n"
    assert old.code is None


def test_a_conflict_is_told_by_file(home: Home) -> None:
    """And nothing is made."""
    old, new = home.carried({"worker/a.py": b"uno\n2\n3\n4\n5\n6\n7\n"})
    assert new == []
    assert old.code == "conflict"
    assert "worker/a.py: both changed the same lines" in str(old.last_error)


def test_what_is_there_already_is_not_made_again(home: Home) -> None:
    """The other update has changed the same in the same way."""
    old, new = home.carried({"worker/a.py": b"one\n2\n3\n4\n5\n6\n7\n"})
    assert new == []
    assert old.code == "nothing_left"


def test_what_the_checkout_brings_is_left_to_upgrade(home: Home) -> None:
    """It has another base than the good revision."""
    old, new = home.carried({"worker/b.py": b"c\n"}, origin=Origin.UPSTREAM)
    assert new == []
    assert "supervisor upgrade" in str(old.last_error)


def test_a_repository_that_cannot_be_used_says_nothing_about_an_update(home: Home, tmp_path: Path) -> None:
    """A full disk or a missing git is waited for: nothing is noted, and it is carried over afterwards."""
    old = home.update({"worker/a.py": b"1\n2\n3\n4\n5\n6\nseven\n"}, S.SUPERSEDED)
    away = (tmp_path / "revisions.git").rename(tmp_path / "away")
    with pytest.raises(RevisionsUnusable):
        carry_over(home.ledger, home.revisions, parent_id=None)
    assert home.ledger.find(old.tx_id).code is None
    away.rename(tmp_path / "revisions.git")
    assert len(carry_over(home.ledger, home.revisions, parent_id=None)) == 1


def test_no_room_for_a_merge_is_told_as_such(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """The directory that a merge is made in is no exception."""

    def full(*_: object, **__: object) -> str:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tempfile, "mkdtemp", full)
    with pytest.raises(RevisionsUnusable):
        home.revisions.merged(str(home.ledger.good_sha()), str(home.ledger.good_sha()), FIRST)
