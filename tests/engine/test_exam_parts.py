"""The exam examines: today's worker passes every part, and for each part there is a worker that fails in just that."""

import os
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from supervisor.engine import Engine
from supervisor.gates.exam import Candidate, Examiner, Result
from supervisor.gates.examstate import prepare
from supervisor.images.builds import Deps, Trunk, build_revision
from supervisor.paths import CHECKOUT, give
from supervisor.pipeline.upgrade import checkout_files
from supervisor.specs import WORKER_UID
from tests.supervisor.localbot_support import short_directory
from tests.support import failing_parts
from tests.support.exhaustive import but_for
from tests.support.projects import new_project
from tests.worker.support import open_store

UID = os.getuid() or WORKER_UID
#: What a worker does with its owner, its supervisor and its secrets; the others are left to `make crash`.
OFTEN = (
    *("comes up", "answers its owner", "submits a patch", "relays a press", "relays a rollback"),
    *("ignores a stranger", "leaks no secret", "lets go of the lease", "loses nothing"),
)
LONGEST_SECONDS = 8.0  # on a busy machine; about three on a quiet one


@dataclass
class Room:
    """Builds workers from this checkout, with some files otherwise, and examines them."""

    engine: Engine
    deps: Deps
    directory: Path
    project: str = field(default_factory=new_project)

    def __post_init__(self) -> None:
        self.files = checkout_files(CHECKOUT)
        self.base_sha = uuid.uuid4().hex + uuid.uuid4().hex[:8]
        self.base = self._image(self.base_sha, self.files, None)

    def examine(self, changed: Mapping[str, str]) -> Result:
        """The exam of a worker with these files."""
        sha, image_id = self.base_sha, self.base
        if changed:
            sha = uuid.uuid4().hex + uuid.uuid4().hex[:8]
            files = {**self.files, **{path: text.encode() for path, text in changed.items()}}
            image_id = self._image(sha, files, Trunk(image_id=self.base, sha=self.base_sha, files=self.files))
        state = self.directory / uuid.uuid4().hex[:4]
        state.mkdir()
        open_store(state / "agent.db").close()
        prepare(state / "agent.db")
        give(state / "agent.db", UID)
        give(state, UID)
        examiner = Examiner(self.engine, self.project, UID)
        return examiner.examine(Candidate(image_id, sha, state, epoch=1), self.directory / "room")

    def _image(self, sha: str, files: Mapping[str, bytes], trunk: Trunk | None) -> str:
        return build_revision(
            self.engine,
            project=self.project,
            deps_image_id=self.deps.image_id,
            sha=sha,
            base_sha=self.base_sha if trunk else None,
            tx_id=str(uuid.uuid4()),
            files=files,
            trunk=trunk,
            created=time.time(),
            log=lambda _: None,
            timeout=60,
        ).image_id


@pytest.fixture(scope="module")
def room(engine: Engine, deps: Deps) -> Iterator[Room]:
    with short_directory() as directory:
        directory.chmod(0o755)
        made = Room(engine, deps, directory)
        yield made
        for view in engine.containers(made.project):
            engine.remove(view.id)
        for image in engine.images({"autonous.project": made.project}):
            engine.remove_image(image.id)


def test_this_worker_passes_every_part(room: Room) -> None:
    """In a few seconds, and the exam leaves nothing behind."""
    result = room.examine({})
    assert result.failed is None, f"{result.failed}\n{result.log}"
    assert [part.name for part in result.parts] == list(failing_parts.PARTS)
    assert sum(part.seconds for part in result.parts) < LONGEST_SECONDS
    assert room.engine.containers(room.project) == []
    assert not (room.directory / "room").exists()


@pytest.mark.parametrize("part", but_for(OFTEN, failing_parts.PARTS))
def test_a_worker_that_fails_in_just_that(room: Room, part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it does otherwise ends the exam in this part, and in none before."""
    monkeypatch.setattr("supervisor.gates.exam.READY_SECONDS", 12.0)
    monkeypatch.setattr("supervisor.gates.exam.STEP_SECONDS", 4.0)
    monkeypatch.setattr("supervisor.gates.examtasks.STEP_SECONDS", 4.0)
    failed = room.examine(failing_parts.PARTS[part]).failed
    assert failed is not None
    assert failed.name == part, failed.detail
