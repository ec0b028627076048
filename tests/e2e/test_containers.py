"""What the engine itself says of the containers of a running installation, and what can be done inside them."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from supervisor.specs import LABEL_PROJECT, WORKER_UID
from tests.support import candidates
from tests.support.installation import Install, Installation
from tests.support.watching import ContainerWatch, Seen, within

ROLES = ("worker", "toolbox", "test", "exam")
UID = os.getuid() or WORKER_UID
MIB = 1024 * 1024


@pytest.fixture(scope="module")
def installation(install: Install) -> Installation:
    """Up."""
    made = install()
    made.up()
    return made


@pytest.fixture(scope="module")
def watch(installation: Installation, checkout: Path) -> Iterator[ContainerWatch]:
    """Every container that an update made, from its tests to its worker."""
    with ContainerWatch(installation.project) as watching:
        installation.promote(candidates.answers(checkout, "I was watched."))
        yield watching


@pytest.fixture(params=ROLES)
def seen(request: pytest.FixtureRequest, watch: ContainerWatch) -> list[dict[str, Any]]:
    """What the engine said of the containers with one role."""
    found = [one.inspected for one in watch.of(request.param)]
    assert found, f"no container was a {request.param}"
    return found


@pytest.fixture
def worker(installation: Installation) -> str:
    """The active worker's container."""
    return str(installation.status()["active"]["container"])


def test_none_has_any_privilege(seen: list[dict[str, Any]]) -> None:
    """Not root, no capability, none to be gained, no namespace of the host."""
    for found in seen:
        host = found["HostConfig"]
        assert found["Config"]["User"] == f"{UID}:{UID}"
        assert (host["CapDrop"], host["CapAdd"] or []) == (["ALL"], [])
        assert (host["Privileged"], host["SecurityOpt"]) == (False, ["no-new-privileges:true"])
        assert (host["PidMode"], host["UTSMode"], host["UsernsMode"], host["IpcMode"]) == ("", "", "", "private")
        assert not host["Devices"]


def test_each_has_limits(seen: list[dict[str, Any]]) -> None:
    """Memory without swap, processes, processors, file size, log size."""
    for found in seen:
        host = found["HostConfig"]
        assert 0 < host["Memory"] <= 1024 * MIB
        assert host["MemorySwap"] == host["Memory"]
        assert 0 < host["PidsLimit"] <= 512
        assert host["NanoCpus"] > 0
        assert [limit["Name"] for limit in host["Ulimits"]] == ["fsize"]
        assert host["LogConfig"]["Config"]["max-size"] == "5m"


def test_the_engine_restarts_none(seen: list[dict[str, Any]]) -> None:
    """Who runs is the supervisor's decision alone."""
    assert {found["HostConfig"]["RestartPolicy"]["Name"] for found in seen} == {"no"}


def test_none_can_write_its_root(seen: list[dict[str, Any]]) -> None:
    """What can be written besides the mounts is a small /tmp in memory."""
    for found in seen:
        assert found["HostConfig"]["ReadonlyRootfs"] is True
        assert set(found["HostConfig"]["Tmpfs"]) == {"/tmp"}
        assert "size=" in found["HostConfig"]["Tmpfs"]["/tmp"]


def test_none_sees_the_engine_the_ledger_or_the_revisions(
    installation: Installation, seen: list[dict[str, Any]]
) -> None:
    """No mount is or holds the engine's socket, or anything that decides."""
    paths = installation.paths
    forbidden = [
        Path("/var/run/docker.sock").resolve(),
        paths.ledger,
        paths.revisions,
        paths.control_socket,
        paths.localbot_user_socket,
        paths.localbot_db,
    ]
    for found in seen:
        for mount in found["Mounts"]:
            source = Path(mount["Source"]).resolve()
            assert not [path for path in forbidden if path == source or path.is_relative_to(source)]


def test_only_workers_have_a_network(watch: ContainerWatch, installation: Installation) -> None:
    """A bridge of the project's own, on which they do not see each other."""
    for role in ROLES:
        modes = {one.inspected["HostConfig"]["NetworkMode"] for one in watch.of(role)}
        assert modes == {f"{installation.project}-net" if role == "worker" else "none"}
    network = installation.docker.inspect_network(f"{installation.project}-net")
    assert network["Options"]["com.docker.network.bridge.enable_icc"] == "false"
    assert network["Labels"] == {LABEL_PROJECT: installation.project}


def test_what_containers_can_write(watch: ContainerWatch) -> None:
    """The toolbox its workspace, the worker its state; a test nothing but its report."""
    writable = {
        role: {mount["Destination"] for one in watch.of(role) for mount in one.inspected["Mounts"] if mount["RW"]}
        for role in ROLES
    }
    assert writable == {
        "worker": {"/state", "/run/toolbox"},
        "toolbox": {"/workspace", "/run/toolbox"},
        "test": {"/report"},
        "exam": {"/state", "/run/toolbox", "/workspace"},
    }


def test_images_are_named_by_id(watch: ContainerWatch, installation: Installation) -> None:
    """A tag may be moved; what a container was made from may not."""
    known = {entry["image_id"] for entry in installation.history()}
    for role in ROLES:
        for one in watch.of(role):
            assert one.inspected["Config"]["Image"] == one.inspected["Image"]
            assert one.inspected["Image"] in known


@pytest.mark.parametrize("suffix", ["", "-toolbox"])
def test_the_kernel_agrees(installation: Installation, worker: str, suffix: str) -> None:
    """The first process has no capability, can gain none, and runs under a filter of system calls."""
    status = within(installation.docker, worker + suffix, "cat", "/proc/1/status")
    facts = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert {facts[name] for name in ("CapEff", "CapPrm", "CapBnd", "CapInh")} == {"0" * 16}
    assert (facts["NoNewPrivs"], facts["Seccomp"]) == ("1", "2")
    assert facts["Uid"].split() == [str(UID)] * 4


@pytest.mark.parametrize("suffix", ["", "-toolbox"])
def test_the_source_cannot_be_written(installation: Installation, worker: str, suffix: str) -> None:
    """Not by the code that it is, nor by its tools."""
    out = within(installation.docker, worker + suffix, "sh", "-c", "echo x >/app/worker/__main__.py; echo x >/x; ls /x")
    assert out.count("Read-only file system") == 2
    assert "cannot access '/x'" in out


def test_a_toolbox_reaches_no_network(installation: Installation, worker: str) -> None:
    """Only the loopback is there."""
    toolbox = f"{worker}-toolbox"
    assert within(installation.docker, toolbox, "ls", "/sys/class/net").split() == ["lo"]
    code = "import socket; socket.create_connection(('192.0.2.1', 80), timeout=3)"
    assert "Network is unreachable" in within(installation.docker, toolbox, "python", "-c", code)


def test_a_toolbox_reaches_nothing_of_the_worker(installation: Installation, worker: str) -> None:
    """No state, no supervisor, none of its processes."""
    toolbox = f"{worker}-toolbox"
    out = within(installation.docker, toolbox, "sh", "-c", "ls -d /state /run/autonous /config 2>&1; echo end")
    assert out.count("No such file") == 3
    processes = within(installation.docker, toolbox, "sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '")
    assert "worker.tools" in processes
    assert "-m worker " not in processes


def test_what_was_watched_is_what_there_was(watch: ContainerWatch) -> None:
    """The tests of the candidate; its exam and base's, each with a toolbox of its own; a worker and a toolbox."""
    counts = {role: len(watch.of(role)) for role in ROLES}
    assert counts["test"] >= 2
    assert (counts["exam"], counts["worker"], counts["toolbox"]) == (4, 1, 1)
    assert all(isinstance(one, Seen) for one in watch.seen.values())
