"""Containers as values: what is asked of the engine, and that no deviation of what it made goes unseen.

The engine here only writes down what it was asked for, in the shape in which the real one tells it back.
"""

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.engine.values import machine_of
from supervisor.paths import Paths
from supervisor.specs import (
    LABEL_PROJECT,
    LABEL_ROLE,
    NETWORK_TOOLBOX,
    OFFLINE,
    ContainerSpec,
    Limits,
    Mount,
    create_arguments,
    gate_spec,
    networked,
    toolbox_spec,
    violations,
    worker_spec,
)

HOME = Path("/home/owner/.local/state/autonous")
IMAGE = f"sha256:{'1' * 64}"
SECRET = "123456:not-for-anyone"
Inspected = dict[str, Any]

WORKER = worker_spec(
    paths=Paths(HOME),
    project="p",
    worker_id="p-worker-1",
    image_id=IMAGE,
    uid=10001,
    network="p-net",
    environment={"TELEGRAM_BOT_TOKEN": SECRET, "AUTONOUS_DB_PATH": "/state/agent.db"},
    labels={"autonous.worker": "p-worker-1"},
)
TOOLBOX = toolbox_spec(
    paths=Paths(HOME), project="p", worker_id="p-worker-1", image_id=IMAGE, uid=10001, labels={"autonous.sha": "s"}
)
GATE = gate_spec(project="p", name="p-test-1", image_id=IMAGE, uid=10001, role="test")
SPECS = {"worker": WORKER, "toolbox": TOOLBOX, "gate": GATE}


def inspected(spec: ContainerSpec) -> Inspected:
    """What the engine says of a container that it made exactly as it was asked to."""
    asked = copy.deepcopy(create_arguments(spec))
    host = asked["HostConfig"]
    unset: dict[str, Any] = dict.fromkeys(
        ("Binds", "PortBindings", "VolumesFrom", "CapAdd", "GroupAdd", "Devices", "DeviceCgroupRules", "DeviceRequests")
    )
    return {
        "Id": "c" * 64,
        "Image": asked["Image"],
        "Name": f"/{spec.name}",
        "Config": {key: asked[key] for key in ("User", "Env", "Labels", "Cmd", "Image", "StopSignal")},
        "HostConfig": {
            **unset,
            **host,
            "PidMode": "",
            "UTSMode": "",
            "UsernsMode": "",
            "CgroupnsMode": "host",
            "RestartPolicy": {**host["RestartPolicy"], "MaximumRetryCount": 0},
        },
        "Mounts": [
            {"Type": "bind", "Source": m["Source"], "Destination": m["Target"], "Mode": "", "RW": not m["ReadOnly"]}
            for m in host["Mounts"]
        ],
        "NetworkSettings": {"Networks": {spec.network: {}}},
    }


def altered(spec: ContainerSpec, path: str, value: object) -> Inspected:
    found = inspected(spec)
    *outer, last = path.split(".")
    place = found
    for key in outer:
        place = place[key]
    place[last] = value
    return found


@pytest.mark.parametrize("name", SPECS)
def test_what_was_made_as_it_was_asked_for_has_no_violation(name: str) -> None:
    """An honest engine's container may be started."""
    assert violations(SPECS[name], inspected(SPECS[name])) == []


DEVIATIONS: dict[str, tuple[str, object]] = {
    "privileged": ("HostConfig.Privileged", True),
    "an added capability": ("HostConfig.CapAdd", ["NET_ADMIN"]),
    "capabilities kept": ("HostConfig.CapDrop", None),
    "some capabilities kept": ("HostConfig.CapDrop", ["NET_RAW"]),
    "another image": ("Image", f"sha256:{'2' * 64}"),
    "root": ("Config.User", "0:0"),
    "root by name": ("Config.User", "root"),
    "no user": ("Config.User", ""),
    "root's group": ("Config.User", "10001"),
    "a further group": ("HostConfig.GroupAdd", ["999"]),
    "a writable root": ("HostConfig.ReadonlyRootfs", False),
    "new privileges": ("HostConfig.SecurityOpt", None),
    "no seccomp": ("HostConfig.SecurityOpt", ["no-new-privileges:true", "seccomp=unconfined"]),
    "no AppArmor": ("HostConfig.SecurityOpt", ["no-new-privileges:true", "apparmor=unconfined"]),
    "the host's network": ("HostConfig.NetworkMode", "host"),
    "another network": ("HostConfig.NetworkMode", "bridge"),
    "another container's network": ("HostConfig.NetworkMode", "container:abc"),
    "the host's processes": ("HostConfig.PidMode", "host"),
    "the host's memory": ("HostConfig.IpcMode", "host"),
    "the host's name": ("HostConfig.UTSMode", "host"),
    "the host's users": ("HostConfig.UsernsMode", "host"),
    "a device": ("HostConfig.Devices", [{"PathOnHost": "/dev/kvm"}]),
    "a rule for devices": ("HostConfig.DeviceCgroupRules", ["a *:* rwm"]),
    "a requested device": ("HostConfig.DeviceRequests", [{"Driver": "nvidia"}]),
    "a bind of the old kind": ("HostConfig.Binds", ["/:/host"]),
    "a published port": ("HostConfig.PortBindings", {"80/tcp": [{"HostPort": "80"}]}),
    "another's volumes": ("HostConfig.VolumesFrom", ["other"]),
    "a restart policy": ("HostConfig.RestartPolicy", {"Name": "always", "MaximumRetryCount": 0}),
    "no memory limit": ("HostConfig.Memory", 0),
    "more memory": ("HostConfig.Memory", 1 << 40),
    "no limit of processes": ("HostConfig.PidsLimit", None),
    "unlimited processes": ("HostConfig.PidsLimit", -1),
    "no limit of file sizes": ("HostConfig.Ulimits", None),
    "a larger limit of file sizes": ("HostConfig.Ulimits", [{"Name": "fsize", "Soft": 1, "Hard": 1 << 50}]),
    "a log without a limit": ("HostConfig.LogConfig", {"Type": "json-file", "Config": {}}),
    "another log": ("HostConfig.LogConfig", {"Type": "syslog", "Config": {}}),
    "an unlimited tmpfs": ("HostConfig.Tmpfs", {"/tmp": ""}),
    "a further tmpfs": ("HostConfig.Tmpfs", {"/tmp": "rw,nosuid,nodev,size=1,mode=1777", "/app": ""}),
    "no mount": ("Mounts", []),
    "the engine's socket": (
        "Mounts",
        [{"Source": "/var/run/docker.sock", "Destination": "/var/run/docker.sock", "RW": True}],
    ),
}


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("deviation", DEVIATIONS)
def test_each_deviation_is_found(name: str, deviation: str) -> None:
    """Whatever is other than in the spec is told, so that the container is never started."""
    spec = SPECS[name]
    if deviation == "no mount" and not spec.mounts:
        spec = replace(spec, mounts=(Mount(HOME / "state", "/state"),))
    assert violations(spec, altered(spec, *DEVIATIONS[deviation]))


@given(
    spec=st.sampled_from(list(SPECS.values())),
    chosen=st.lists(st.sampled_from(list(DEVIATIONS.values())), min_size=1, max_size=4),
)
def test_several_deviations_do_not_hide_each_other(spec: ContainerSpec, chosen: list[tuple[str, object]]) -> None:
    """Any combination of them is found."""
    found = inspected(replace(spec, mounts=spec.mounts or (Mount(HOME / "state", "/state"),)))
    spec = replace(spec, mounts=spec.mounts or (Mount(HOME / "state", "/state"),))
    for path, value in chosen:
        *outer, last = path.split(".")
        place = found
        for key in outer:
            place = place[key]
        place[last] = value
    assert violations(spec, found)


MOUNTS: dict[str, Callable[[list[dict[str, Any]]], object]] = {
    "another source": lambda mounts: mounts[0].update(Source="/etc"),
    "another target": lambda mounts: mounts[0].update(Destination="/elsewhere"),
    "writable": lambda mounts: mounts[-1].update(RW=not mounts[-1]["RW"]),
    "one less": lambda mounts: mounts.pop(),
    "one more": lambda mounts: mounts.append({"Source": "/", "Destination": "/host", "RW": False}),
    "a volume of the image's": lambda mounts: mounts.append(
        {"Type": "volume", "Source": "/var/lib/docker/volumes/x/_data", "Destination": "/data", "RW": True}
    ),
}


@pytest.mark.parametrize("change", MOUNTS)
def test_each_deviation_of_a_mount_is_found(change: str) -> None:
    """Source, target, direction and number of mounts."""
    found = inspected(WORKER)
    MOUNTS[change](found["Mounts"])
    assert any(line.startswith("mounts is") for line in violations(WORKER, found))


def test_the_order_of_mounts_means_nothing() -> None:
    """Engines tell them in any order."""
    found = inspected(WORKER)
    found["Mounts"].reverse()
    assert violations(WORKER, found) == []


# -- specs that must never be made, however honestly an engine makes them


@pytest.mark.parametrize(
    "source",
    [
        "/var/run/docker.sock",
        "/run/docker.sock",
        "/run/user/1000/docker.sock",
        "/run/containerd/containerd.sock",
        "/run/podman/podman.sock",
        "/run",
        "/var/run",
        "/var",
        "/",
        "/run/containerd",
    ],
)
def test_a_spec_that_reaches_the_engine_is_refused(source: str) -> None:
    """Its socket, under whatever name in the container, and every directory that one is in."""
    spec = replace(WORKER, mounts=(*WORKER.mounts, Mount(Path(source), "/innocent", read_only=True)))
    assert violations(spec, inspected(spec)) == ["/innocent reaches the engine"]


def test_a_spec_that_runs_as_root_is_refused() -> None:
    """Even when the spec asks for it."""
    spec = replace(GATE, uid=0)
    assert violations(spec, inspected(spec)) == ["it would run as root"]


# -- what each kind is given


@pytest.mark.parametrize("name", SPECS)
def test_every_container_is_hardened(name: str) -> None:
    """Whatever kind it is: unprivileged, read-only, without capabilities, limited, never restarted by the engine."""
    host = create_arguments(SPECS[name])["HostConfig"]
    assert host["ReadonlyRootfs"] is True
    assert host["Privileged"] is False
    assert host["CapDrop"] == ["ALL"]
    assert host["SecurityOpt"] == ["no-new-privileges:true"]  # and with it the engine's own seccomp profile
    assert host["RestartPolicy"] == {"Name": "no"}
    assert host["IpcMode"] == "private"
    assert 0 < host["Memory"] == host["MemorySwap"]
    assert 0 < host["PidsLimit"] <= 512
    assert {limit["Name"] for limit in host["Ulimits"]} == {"fsize"}
    assert host["LogConfig"]["Config"] == {"max-size": "5m", "max-file": "2"}
    assert all("nosuid,nodev,size=" in options for options in host["Tmpfs"].values())
    assert "Binds" not in host


@pytest.mark.parametrize("name", SPECS)
def test_every_container_is_made_by_the_image_id_and_found_by_its_labels(name: str) -> None:
    """Never by a tag, which may be moved; and project and role cannot be overridden by other labels."""
    spec = replace(SPECS[name], labels={LABEL_PROJECT: "other", LABEL_ROLE: "other", "kept": "yes"})
    asked = create_arguments(spec)
    assert asked["Image"] == IMAGE
    assert asked["Labels"] == {LABEL_PROJECT: "p", LABEL_ROLE: spec.role, "kept": "yes"}
    assert asked["User"] == "10001:10001"


def test_only_the_worker_has_a_network_the_state_and_secrets() -> None:
    """The toolbox and the gates have no network, no secret, no state and no way to the supervisor."""
    assert WORKER.network == "p-net"
    assert {m.target: m.read_only for m in WORKER.mounts} == {
        "/state": False,
        "/run/autonous": True,
        "/run/toolbox": False,
        "/config": True,
    }
    assert (TOOLBOX.network, GATE.network) == ("none", "none")
    assert {m.target for m in TOOLBOX.mounts} == {"/workspace", "/run/toolbox"}
    assert GATE.mounts == ()
    assert dict(TOOLBOX.environment) == dict(GATE.environment) == {}


def test_worker_and_toolbox_share_nothing_but_their_socket() -> None:
    """No directory of the host is in both, the one for the socket between them aside."""
    shared = [(w.source, t.source) for w in WORKER.mounts for t in TOOLBOX.mounts if t.source.is_relative_to(w.source)]
    room = Paths(HOME).toolbox("p-worker-1")
    assert shared == [(room, room / OFFLINE)]


def test_a_toolbox_with_a_network_is_the_same_but_for_that() -> None:
    """Its mounts and limits are those of the other one, whose socket it does not see, nor the other way round."""
    spec = networked(TOOLBOX, paths=Paths(HOME), worker_id="p-worker-1", toolbox_id="net-1", network="p-tools-net")
    room = Paths(HOME).toolbox("p-worker-1")
    assert (spec.name, spec.role, spec.network) == ("p-worker-1-net-1", NETWORK_TOOLBOX, "p-tools-net")
    assert {m.target for m in spec.mounts} == {m.target for m in TOOLBOX.mounts}
    assert {m.source for m in spec.mounts} ^ {m.source for m in TOOLBOX.mounts} == {room / "net-1", room / OFFLINE}
    assert (spec.limits, dict(spec.environment)) == (TOOLBOX.limits, {"AUTONOUS_TOOLBOX_NETWORK": "1"})


def test_no_container_is_given_the_ledger() -> None:
    """Nor the home around it, the repository, the snapshots or the logs."""
    paths = Paths(HOME)
    private = (paths.ledger, paths.revisions, paths.snapshots, paths.logs, paths.control_socket, paths.localbot_db)
    for spec in SPECS.values():
        for mount in spec.mounts:
            assert not any(kept.is_relative_to(mount.source) for kept in private), mount


def test_secrets_are_in_the_environment_and_nowhere_else() -> None:
    """Not in the name, the command, the labels or a mount."""
    asked = create_arguments(WORKER)
    assert f"TELEGRAM_BOT_TOKEN={SECRET}" in asked.pop("Env")
    assert SECRET not in str(asked)


def test_the_same_spec_asks_for_the_same() -> None:
    """Whatever the order in which its environment was put together."""
    other = replace(WORKER, environment=dict(sorted(WORKER.environment.items(), reverse=True)))
    assert create_arguments(other) == create_arguments(WORKER)


@given(limits=st.builds(Limits, *[st.integers(1, 2**40)] * 4, st.floats(0.01, 64)))
def test_limits_are_asked_for_as_they_are(limits: Limits) -> None:
    """In the units of the engine, and memory without swap."""
    host = create_arguments(replace(GATE, limits=limits))["HostConfig"]
    assert (host["Memory"], host["MemorySwap"], host["PidsLimit"]) == (limits.memory, limits.memory, limits.pids)
    assert host["Ulimits"] == [{"Name": "fsize", "Soft": limits.file_size, "Hard": limits.file_size}]
    assert host["NanoCpus"] == pytest.approx(limits.cpus * 1e9, abs=1)
    spec = replace(GATE, limits=limits)
    assert violations(spec, inspected(spec)) == []


@pytest.mark.parametrize(("cpus", "asked"), [(1, 1_000_000_000), (2, 2_000_000_000), (64, 2_000_000_000)])
def test_no_more_processors_are_asked_for_than_there_are(cpus: int, asked: int) -> None:
    """An engine refuses a container that wants more than its machine has."""
    machine = machine_of({"NCPU": cpus})
    assert create_arguments(WORKER, machine)["HostConfig"]["NanoCpus"] == asked


def test_selinux_labels_are_switched_off_where_the_engine_sets_them() -> None:
    """The owner's files carry no label that a container could read; elsewhere the option would be a deviation."""
    machine = machine_of({"NCPU": 4, "SecurityOptions": ["name=seccomp,profile=default", "name=selinux"]})
    made = inspected(WORKER)
    made["HostConfig"]["SecurityOpt"] = create_arguments(WORKER, machine)["HostConfig"]["SecurityOpt"]
    assert made["HostConfig"]["SecurityOpt"] == ["no-new-privileges:true", "label=disable"]
    assert violations(WORKER, made, machine) == []
    assert violations(WORKER, made)
    assert violations(WORKER, inspected(WORKER), machine)


def test_what_a_daemon_adds_to_the_log_is_no_deviation() -> None:
    """Its default options are added to ours; ours must stand as they are."""
    added = {"max-size": "5m", "max-file": "2", "labels": "x", "compress": "true"}
    assert violations(WORKER, altered(WORKER, "HostConfig.LogConfig.Config", added)) == []
    for config in ({**added, "max-size": "5g"}, {"max-file": "2"}, None):
        assert violations(WORKER, altered(WORKER, "HostConfig.LogConfig.Config", config))
