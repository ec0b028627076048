"""No container starts that is other than its spec says: the check on what a real engine made."""

import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import docker
import pytest

from supervisor.engine import Engine, SpecViolated, engine_url
from supervisor.images.builds import Deps
from supervisor.specs import WORKER_UID, ContainerSpec, Mount, create_arguments, gate_spec, violations
from tests.support.projects import new_project


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    """The SDK itself, which makes whatever it is asked for."""
    made = docker.APIClient(base_url=engine_url(), version="auto")
    yield made
    made.close()


@pytest.fixture
def spec(engine: Engine, deps: Deps, tmp_path: Path) -> Iterator[ContainerSpec]:
    """An honest spec with a mount, in a project of its own."""
    project = new_project()
    mounts = (Mount(tmp_path, "/data", read_only=True),)
    yield gate_spec(
        project=project,
        name=f"{project}-1",
        image_id=deps.image_id,
        uid=WORKER_UID,
        role="test",
        command=("true",),
        mounts=mounts,
    )
    for view in engine.containers(project):
        engine.remove(view.id)


def made_as(client: Any, spec: ContainerSpec, body: dict[str, Any]) -> list[str]:
    """What is wrong with the container that an engine makes of this, when that spec was meant."""
    container = client.create_container_from_config(body, name=f"{spec.project}-{uuid.uuid4().hex[:8]}")["Id"]
    return violations(spec, client.inspect_container(container))


def test_what_is_made_as_specified_may_start(client: Any, spec: ContainerSpec) -> None:
    """Nothing is found in an honest one."""
    assert made_as(client, spec, create_arguments(spec)) == []


@pytest.mark.parametrize(
    ("named", "changed"),
    [
        ("privileged", {"Privileged": True}),
        ("read-only root", {"ReadonlyRootfs": False}),
        ("added capabilities", {"CapAdd": ["SYS_ADMIN"]}),
        ("dropped capabilities", {"CapDrop": []}),
        ("security options", {"SecurityOpt": []}),
        ("security options", {"SecurityOpt": ["no-new-privileges:true", "seccomp=unconfined"]}),
        ("network", {"NetworkMode": "host"}),
        ("network", {"NetworkMode": "bridge"}),
        ("restart policy", {"RestartPolicy": {"Name": "always"}}),
        ("pid namespace", {"PidMode": "host"}),
        ("ipc namespace", {"IpcMode": "host"}),
        ("user namespace", {"UsernsMode": "host"}),
        ("devices", {"Devices": [{"PathOnHost": "/dev/null", "PathInContainer": "/dev/x", "CgroupPermissions": "r"}]}),
        ("binds", {"Binds": ["/var/run/docker.sock:/engine.sock"]}),
        ("published ports", {"PortBindings": {"80/tcp": [{"HostPort": "0"}]}}),
        ("memory", {"Memory": 0, "MemorySwap": 0}),
        ("pids", {"PidsLimit": -1}),
        ("mounts", {"Mounts": []}),
        ("mounts", {"Mounts": [{"Type": "bind", "Source": "/", "Target": "/data", "ReadOnly": True}]}),
    ],
)
def test_each_freedom_too_many_is_found(client: Any, spec: ContainerSpec, named: str, changed: dict[str, Any]) -> None:
    """And named."""
    body = create_arguments(spec)
    found = made_as(client, spec, {**body, "HostConfig": {**body["HostConfig"], **changed}})
    assert any(line.startswith(f"{named} is ") for line in found), found


@pytest.mark.parametrize(("named", "changed"), [("user", {"User": "0:0"}), ("user", {"User": ""})])
def test_another_user_is_found(client: Any, spec: ContainerSpec, named: str, changed: dict[str, Any]) -> None:
    """Root most of all, also as the one that is used when none is named."""
    found = made_as(client, spec, {**create_arguments(spec), **changed})
    assert any(line.startswith(f"{named} is ") for line in found), found


def test_another_image_is_found(client: Any, engine: Engine, spec: ContainerSpec) -> None:
    """Whatever the tag said."""
    other = next(image for image in engine.images({"autonous.role": "base"}))
    found = made_as(client, spec, {**create_arguments(spec), "Image": other.id})
    assert any(line.startswith("image is ") for line in found), found


@pytest.mark.parametrize(
    ("reason", "changed"),
    [
        ("it would run as root", {"uid": 0}),
        ("/engine.sock reaches the engine", {"mounts": (Mount(Path("/var/run/docker.sock"), "/engine.sock"),)}),
    ],
)
def test_a_spec_that_nobody_should_have_written_is_refused(
    engine: Engine, spec: ContainerSpec, reason: str, changed: dict[str, Any]
) -> None:
    """The container is removed before it could start."""
    with pytest.raises(SpecViolated, match=reason):
        engine.run(replace(spec, **changed))
    assert engine.containers(spec.project) == []
