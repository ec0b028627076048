"""When an image that was built again is accepted: after its exam, or before it where nothing else could run."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import BinaryIO

import pytest

from supervisor.engine import EngineError
from supervisor.gates.exam import Candidate, Part, Result
from supervisor.gates.rehearsal import Rehearsal
from supervisor.gates.testrun import Cancelled
from supervisor.images.builds import ImageFacts
from supervisor.ledger import Ledger, NewUpdate, Origin, Revision
from supervisor.revisions import Revisions
from supervisor.rollout.rebuild import ImageRebuilder, Reexamination

PASSED = Part("comes up", True)


@dataclass
class Images:
    """An engine that gives each build an id of its own."""

    there: set[str] = field(default_factory=lambda: {"deps"})

    def image(self, reference: str) -> ImageFacts | None:
        return SimpleNamespace(id=reference, labels={}, size_bytes=1) if reference in self.there else None

    def images(self, labels: Mapping[str, str]) -> list[ImageFacts]:
        return []

    def remove_image(self, reference: str) -> None:
        self.there.discard(reference)

    def pull(self, reference: str, timeout: float) -> str | None:
        return None

    def import_image(self, tar: BinaryIO, *, tag: str, changes: Sequence[str] = ()) -> str:
        raise NotImplementedError

    def build(
        self,
        context: bytes,
        *,
        tag: str,
        labels: Mapping[str, str],
        network: bool,
        log: Callable[[str], None],
        timeout: float,
    ) -> str:
        image_id = f"again-{len(self.there)}"
        self.there.add(image_id)
        return image_id


@dataclass
class Exams:
    """An examiner whose candidates fail these parts; ``sat`` are the images that came."""

    fails: list[str] = field(default_factory=list)
    sat: list[str] = field(default_factory=list)
    meanwhile: Callable[[], None] = lambda: None
    uid: int = 0

    def examine(
        self, candidate: Candidate, *, waived: frozenset[str], cancelled: Callable[[], bool], another: bool
    ) -> Result:
        self.sat.append(candidate.image_id)
        self.meanwhile()
        if cancelled():
            raise Cancelled
        failed = [Part(name, False, "it did not") for name in self.fails if name not in waived]
        return Result((PASSED, *failed), "", waived)

    def rest(self) -> None:
        """Nothing waits."""


class Home:
    """A ledger with one revision whose image is gone."""

    def __init__(self, directory: Path) -> None:
        self.ledger = Ledger(directory / "supervisor.db")
        self.engine, self.exams = Images(), Exams()
        self.serving, self.stopped = True, False
        revisions = Revisions(directory / "revisions.git")
        revisions.create()
        commit = revisions.commit_files({"worker/a.py": b"a\n"}, message="first", when=1)
        made = {"sha": commit.sha, "tree": commit.tree, "deps_image_id": "deps", "image_id": "old", "image_tag": "t"}
        self.ledger.genesis(NewUpdate(origin=Origin.GENESIS), changes=made)
        self.rebuilder = ImageRebuilder(
            engine=self.engine,
            ledger=self.ledger,
            revisions=revisions,
            project="p",
            exam=Reexamination(Rehearsal(self.exams, directory / "exam", directory / "agent.db"), self.ledger),
            in_service=lambda: self.serving,
            stopping=lambda: self.stopped,
        )

    @property
    def revision(self) -> Revision:
        return self.ledger.good_revision()

    def told(self) -> list[str]:
        events = self.ledger.events(parent_id=self.revision.event_id)
        return [event.event_type for event in events if event.payload.get("rebuilt")]

    def until_examined(self) -> None:
        deadline = time.monotonic() + 10
        while any(thread.name == "exam" for thread in threading.enumerate()):
            assert time.monotonic() < deadline
            time.sleep(0.01)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    made = Home(tmp_path)
    yield made
    made.stopped = True
    made.until_examined()
    made.ledger.close()


def test_an_image_that_is_there_is_left_alone(home: Home) -> None:
    """Nothing is built, nobody examined."""
    home.engine.there.add("old")
    assert home.rebuilder.ensure_image(home.revision) == home.revision
    assert (home.exams.sat, home.told()) == ([], [])


def test_it_is_accepted_after_its_exam(home: Home) -> None:
    """While a worker serves there is time for that."""
    accepted = home.rebuilder.ensure_image(home.revision)
    assert accepted == home.revision
    assert home.exams.sat == [accepted.image_id]
    assert accepted.image_id != "old"
    assert home.told() == ["update.build.completed", "update.self_check.completed"]


def test_one_that_fails_its_exam_is_not_accepted(home: Home) -> None:
    """The ledger keeps the id that it had."""
    home.exams.fails = ["answers"]
    with pytest.raises(EngineError, match="not accepted: it failed the part 'answers'"):
        home.rebuilder.ensure_image(home.revision)
    assert home.revision.image_id == "old"
    assert home.told() == ["update.build.completed", "update.self_check.failed"]


def test_parts_that_it_was_never_asked_do_not_count(home: Home) -> None:
    """A newer supervisor may ask more than the one that let it through."""
    asked = {"candidate": [{"name": "comes up", "passed": True}]}
    home.ledger.amend(home.revision.tx_id, {"self_check_summary": asked})
    home.exams.fails = ["of tomorrow"]
    assert home.rebuilder.ensure_image(home.revision).image_id != "old"
    assert len(home.exams.sat) == 2


def test_it_is_run_at_once_where_nothing_serves(home: Home) -> None:
    """And examined as soon as something does; an event says that it was not before."""
    home.serving = False
    accepted = home.rebuilder.ensure_image(home.revision)
    assert home.revision == accepted
    assert home.exams.sat == []
    event = home.ledger.events(parent_id=accepted.event_id, newest_first=True, limit=1)[0]
    assert event.payload["accepted_unexamined"] is True
    home.serving = True
    home.until_examined()
    assert home.exams.sat == [accepted.image_id]
    assert home.told()[-1] == "update.self_check.completed"


def test_an_exam_that_is_owed_is_held_by_the_next_supervisor(home: Home) -> None:
    """Once: afterwards nothing is owed."""
    home.serving, home.stopped = False, True
    accepted = home.rebuilder.ensure_image(home.revision)
    home.until_examined()
    assert home.exams.sat == []
    home.serving, home.stopped = True, False
    home.rebuilder.catch_up()
    home.until_examined()
    home.rebuilder.catch_up()
    home.until_examined()
    assert home.exams.sat == [accepted.image_id]


def test_an_exam_gives_way_when_the_active_worker_ends(home: Home) -> None:
    """Bringing something up comes first; the next attempt does not wait for an exam."""

    def ends() -> None:
        home.serving = False

    home.exams.meanwhile = ends
    with pytest.raises(EngineError, match="cut short"):
        home.rebuilder.ensure_image(home.revision)
    assert home.revision.image_id == "old"
    assert home.rebuilder.ensure_image(home.revision).image_id != "old"
