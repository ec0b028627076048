"""What a test run that was killed left in the engine is removed by the next one, and nothing else is."""

import os
import signal
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import docker
import pytest

from supervisor.engine import Engine, engine_url
from supervisor.images.builds import Deps
from supervisor.images.contexts import tar_of
from supervisor.specs import LABEL_PROJECT, gate_spec
from tests.support.faults import ROOT
from tests.support.leftout import leave_out
from tests.support.privateengine import own_processes, sweep_engines, why_not
from tests.support.projects import abandoned, new_project, sweep

_PRINT = "from tests.support.projects import new_project; print(new_project())"
_ENGINE = """
import os
from tests.support.privateengine import PrivateEngine

engine = PrivateEngine()
engine.start()
print(engine.url, flush=True)
os._exit(0)
"""


@pytest.fixture
def of_the_dead() -> str:
    """The name of a project whose process has ended."""
    told = subprocess.run([sys.executable, "-c", _PRINT], capture_output=True, check=True, cwd=ROOT)
    return told.stdout.decode().strip()


def test_only_a_name_of_ours_can_be_abandoned(of_the_dead: str) -> None:
    """Of a process that has ended, in our namespace of processes."""
    namespace = of_the_dead.split("-")[1]
    assert abandoned(of_the_dead)
    assert not abandoned(new_project())
    assert not abandoned("autonous")
    assert not abandoned(f"mine-{of_the_dead}")
    assert not abandoned(of_the_dead.replace(namespace, f"{namespace}0"))


def test_what_an_abandoned_project_has_is_removed(engine: Engine, deps: Deps, of_the_dead: str) -> None:
    """Containers, dead or not, networks and images, by their label; those of a living process stay."""
    for project in (own := new_project(), of_the_dead):
        file = tar_of({"Dockerfile": f"FROM {deps.image_id}\nLABEL of={project}\n".encode()})
        labels = {LABEL_PROJECT: project}
        image = engine.build(
            file, tag=f"{project}/worker:1", labels=labels, network=False, log=lambda _: None, timeout=60
        )
        engine.ensure_network(f"{project}-net", project)
        for number, command in enumerate(("true", "sleep 600")):
            name = f"{project}-{number}"
            spec = gate_spec(
                project=project, name=name, image_id=image, uid=10001, role="test", command=("sh", "-c", command)
            )
            engine.run(replace(spec, network=f"{project}-net"))
    try:
        assert of_the_dead in sweep()
        assert of_the_dead not in sweep()
        for project, left in ((of_the_dead, 0), (own, 1)):
            labelled = {"label": f"{LABEL_PROJECT}={project}"}
            assert len(engine.containers(project)) == 2 * left
            assert len(engine.images({LABEL_PROJECT: project})) == left
            with closing(docker.APIClient(base_url=engine_url(), version="auto")) as client:
                assert len(client.networks(filters=labelled)) == left
    finally:
        for view in engine.containers(own):
            engine.remove(view.id)
        engine.remove_network(f"{own}-net")
        engine.remove_image(f"{own}/worker:1")


def test_the_processes_of_an_abandoned_project_end(deps: Deps, of_the_dead: str) -> None:
    """A supervisor would make anew what is removed. One of a living test run goes on."""
    sleep = [sys.executable, "-c", "import time; time.sleep(600)"]
    own, left = (
        subprocess.Popen(sleep, env={**os.environ, "AUTONOUS_PROJECT": name}) for name in (new_project(), of_the_dead)
    )
    try:
        assert of_the_dead in sweep()
        assert left.wait(10) == -signal.SIGKILL
        assert own.poll() is None
    finally:
        for process in (own, left):
            process.kill()
            process.wait()


def test_an_abandoned_private_engine_ends() -> None:
    """With its processes and its directory."""
    if reason := why_not():
        leave_out(reason)
    told = subprocess.run([sys.executable, "-c", _ENGINE], capture_output=True, check=True, cwd=ROOT)
    root = Path(told.stdout.decode().strip().removeprefix("unix://")).parent
    assert own_processes(root)
    assert str(root) in sweep_engines()
    assert not own_processes(root)
    assert not root.exists()
    assert str(root) not in Path("/proc/mounts").read_text()
