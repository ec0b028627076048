"""An engine that did what it was asked, and whose reply was lost on the way."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.engine import Engine, EngineError, NameTaken
from supervisor.hostengine import DEFAULT_SOCKET
from supervisor.images.builds import Deps
from supervisor.specs import WORKER_UID, gate_spec
from tests.supervisor.localbot_support import short_directory
from tests.support.projects import new_project
from tests.support.proxy import EngineProxy


@pytest.fixture
def directory() -> Iterator[Path]:
    """Whose path leaves room for a socket's name."""
    with short_directory() as made:
        yield made


@pytest.mark.fault(15)
def test_a_container_that_was_made_though_nobody_was_told(engine: Engine, deps: Deps, directory: Path) -> None:
    """An error that is told; the container is found by its labels, and a second one cannot be made in its place."""
    project = new_project()
    spec = gate_spec(
        project=project, name=f"{project}-one", image_id=deps.image_id, uid=WORKER_UID, role="worker", command=("true",)
    )
    try:
        with EngineProxy(directory / "proxy", DEFAULT_SOCKET.resolve()) as proxy:
            cut = Engine(proxy.url)
            cut.version()
            proxy.lose_reply_to(b"/containers/create")
            with pytest.raises(EngineError):
                cut.run(spec)
            (found,) = cut.containers(project, role="worker")
            assert (found.name, found.status) == (spec.name, "created")
            with pytest.raises(NameTaken):
                cut.run(spec)
    finally:
        for view in engine.containers(project):
            engine.remove(view.id)
