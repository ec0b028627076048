"""What containers look like, as values; nothing here talks to an engine.

A spec is made by one of the functions at the end, translated by :func:`create_arguments`, and compared by
:func:`violations` with what the engine says that it made, before the container is started.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from supervisor.paths import Paths

MIB: Final = 1024 * 1024
WORKER_UID: Final = 10001
#: Where a worker finds the sockets of the supervisor and of others that it talks to.
CONTRACT_TARGET: Final = "/run/autonous"

LABEL_PROJECT: Final = "autonous.project"
LABEL_ROLE: Final = "autonous.role"
LABEL_SHA: Final = "autonous.sha"
LABEL_TX: Final = "autonous.tx"
LABEL_WORKER: Final = "autonous.worker"
LABEL_INSTALLATION: Final = "autonous.installation"
LABEL_ENVIRONMENT: Final = "autonous.environment"
LABEL_GRANTS: Final = "autonous.grants"

#: Where, in what a worker and its toolboxes share, the one without a network has its socket.
OFFLINE: Final = "offline"
NETWORK_TOOLBOX: Final = "network-toolbox"

_ENGINE_SOCKETS: Final = ("docker.sock", "containerd.sock", "podman.sock")
_ENGINE_DIRECTORIES: Final = ("/run/containerd", "/var/run/containerd", "/run/podman", "/var/run/podman")
_LOG_CONFIG: Final[Mapping[str, Any]] = {"Type": "json-file", "Config": {"max-size": "5m", "max-file": "2"}}


@dataclass(frozen=True)
class Mount:
    """A directory of the host inside a container; not ``recursive``: without what is mounted below it there."""

    source: Path
    target: str
    read_only: bool = False
    recursive: bool = True


@dataclass(frozen=True)
class Limits:
    """What a container may use. Sizes in bytes."""

    memory: int = 512 * MIB
    pids: int = 256
    file_size: int = 1024 * MIB
    tmpfs: int = 64 * MIB
    cpus: float = 2.0


@dataclass(frozen=True)
class ContainerSpec:
    """A container to be made: always unprivileged, read-only, limited, and never restarted by the engine."""

    name: str
    image_id: str
    project: str
    role: str
    uid: int
    command: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    mounts: tuple[Mount, ...] = ()
    network: str = "none"
    limits: Limits = Limits()
    stop_signal: str = "SIGTERM"

    def all_labels(self) -> dict[str, str]:
        """The labels by which a container is found again."""
        return {**self.labels, LABEL_PROJECT: self.project, LABEL_ROLE: self.role}


@dataclass(frozen=True)
class Machine:
    """What of the engine's machine bears on every container."""

    cpus: float = math.inf
    selinux: bool = False  # the engine labels containers, and none of the owner's files is labelled for them


ORDINARY: Final = Machine()


def create_arguments(spec: ContainerSpec, machine: Machine = ORDINARY) -> dict[str, Any]:
    """The body of the engine's create call (Docker Engine API, ``POST /containers/create``)."""
    limits = spec.limits
    return {
        "Image": spec.image_id,
        "Cmd": list(spec.command) or None,
        "Env": [f"{name}={value}" for name, value in sorted(spec.environment.items())],
        "Labels": spec.all_labels(),
        "User": f"{spec.uid}:{spec.uid}",
        "StopSignal": spec.stop_signal,
        "HostConfig": {
            "NetworkMode": spec.network,
            "ReadonlyRootfs": True,
            "CapDrop": ["ALL"],
            "SecurityOpt": _security_options(machine),
            "Privileged": False,
            "Init": False,
            "IpcMode": "private",
            "RestartPolicy": {"Name": "no"},
            "Memory": limits.memory,
            "MemorySwap": limits.memory,
            "NanoCpus": int(min(limits.cpus, machine.cpus) * 1e9),
            "PidsLimit": limits.pids,
            "Tmpfs": _tmpfs(limits),
            "Ulimits": [{"Name": "fsize", "Soft": limits.file_size, "Hard": limits.file_size}],
            "LogConfig": dict(_LOG_CONFIG),
            "Mounts": [
                {
                    "Type": "bind",
                    "Source": str(mount.source),
                    "Target": mount.target,
                    "ReadOnly": mount.read_only,
                    "BindOptions": {"Propagation": "rprivate", "NonRecursive": not mount.recursive},
                }
                for mount in spec.mounts
            ],
        },
    }


def violations(spec: ContainerSpec, inspected: Mapping[str, Any], machine: Machine = ORDINARY) -> list[str]:
    """What the engine made other than the spec says; an empty list when the container may be started."""
    host = inspected["HostConfig"]
    config = inspected["Config"]
    limits = spec.limits
    expected = {
        "image": (inspected["Image"], spec.image_id),
        "user": (config["User"], f"{spec.uid}:{spec.uid}"),
        "privileged": (host["Privileged"], False),
        "read-only root": (host["ReadonlyRootfs"], True),
        "added capabilities": (host["CapAdd"] or [], []),
        "dropped capabilities": (host["CapDrop"], ["ALL"]),
        "security options": (host["SecurityOpt"], _security_options(machine)),
        "network": (host["NetworkMode"], spec.network),
        "restart policy": (host["RestartPolicy"]["Name"], "no"),
        "pid namespace": (host["PidMode"], ""),
        "ipc namespace": (host["IpcMode"], "private"),
        "uts namespace": (host["UTSMode"], ""),
        "user namespace": (host["UsernsMode"], ""),
        "added groups": (host["GroupAdd"] or [], []),
        "devices": (host["Devices"] or [], []),
        "device rules": (host["DeviceCgroupRules"] or [], []),
        "device requests": (host.get("DeviceRequests") or [], []),
        "binds": (host["Binds"] or [], []),
        "published ports": (host["PortBindings"] or {}, {}),
        "volumes from": (host["VolumesFrom"] or [], []),
        "memory": (host["Memory"], limits.memory),
        "pids": (host["PidsLimit"], limits.pids),
        "file size": (_ulimit(host, "fsize"), limits.file_size),
        "tmpfs": (host["Tmpfs"], _tmpfs(limits)),
        "log": (_log_config(host), _LOG_CONFIG),
        "mounts": (
            sorted((m["Source"], m["Destination"], not m["RW"]) for m in inspected["Mounts"]),
            sorted((str(m.source), m.target, m.read_only) for m in spec.mounts),
        ),
    }
    found = [f"{what} is {is_!r}, not {should!r}" for what, (is_, should) in expected.items() if is_ != should]
    found += [f"{mount.target} reaches the engine" for mount in spec.mounts if _reaches_engine(mount.source)]
    if spec.uid == 0:
        found.append("it would run as root")
    return found


def _reaches_engine(source: Path) -> bool:
    """Whether it is an engine's socket, or a directory that one is in."""
    directories = [Path("/run"), Path("/var/run"), *map(Path, _ENGINE_DIRECTORIES)]
    return source.name in _ENGINE_SOCKETS or any(directory.is_relative_to(source) for directory in directories)


def _security_options(machine: Machine) -> list[str]:
    return ["no-new-privileges:true", *(["label=disable"] if machine.selinux else [])]


def _log_config(host: Mapping[str, Any]) -> dict[str, Any]:
    """The driver and those of its options that are ours: a daemon may add its own."""
    made = host["LogConfig"]
    return {"Type": made["Type"], "Config": {key: (made["Config"] or {}).get(key) for key in _LOG_CONFIG["Config"]}}


def _ulimit(host: Mapping[str, Any], name: str) -> int | None:
    return next((limit["Hard"] for limit in host["Ulimits"] or () if limit["Name"] == name), None)


def _tmpfs(limits: Limits) -> dict[str, str]:
    return {"/tmp": f"rw,nosuid,nodev,size={limits.tmpfs},mode=1777"}  # noqa: S108 - inside the container


def worker_spec(
    *,
    paths: Paths,
    project: str,
    worker_id: str,
    image_id: str,
    uid: int,
    network: str,
    environment: Mapping[str, str],
    labels: Mapping[str, str],
) -> ContainerSpec:
    """The agent itself: network, secrets in its environment, its state, and the way to the supervisor."""
    return ContainerSpec(
        name=worker_id,
        image_id=image_id,
        project=project,
        role="worker",
        uid=uid,
        environment=environment,
        labels=labels,
        network=network,
        mounts=(
            Mount(paths.state, "/state"),
            Mount(paths.contract_directory, CONTRACT_TARGET, read_only=True),
            Mount(paths.toolbox(worker_id), "/run/toolbox"),
            Mount(paths.config, "/config", read_only=True),
        ),
    )


def toolbox_spec(
    *,
    paths: Paths,
    project: str,
    worker_id: str,
    image_id: str,
    uid: int,
    labels: Mapping[str, str],
    environment: Mapping[str, str] = MappingProxyType({}),
    granted: tuple[Mount, ...] = (),
) -> ContainerSpec:
    """Where the worker's tools run: no network, no secret, no state, limits of its own."""
    return ContainerSpec(
        name=f"{worker_id}-toolbox",
        image_id=image_id,
        project=project,
        role="toolbox",
        uid=uid,
        command=("python", "-m", "worker.tools"),
        environment=environment,
        labels=labels,
        mounts=(
            Mount(paths.workspace, "/workspace"),
            Mount(paths.toolbox(worker_id) / OFFLINE, "/run/toolbox"),
            *granted,
        ),
        limits=Limits(memory=1024 * MIB, pids=512, tmpfs=256 * MIB),
        stop_signal="SIGUSR1",  # on which it finishes what it has in hand
    )


def networked(spec: ContainerSpec, *, paths: Paths, worker_id: str, toolbox_id: str, network: str) -> ContainerSpec:
    """The same toolbox for one call, with a network, and with a socket that no other toolbox can reach."""
    room = paths.toolbox(worker_id)
    offline = Mount(room / OFFLINE, "/run/toolbox")
    return replace(
        spec,
        name=f"{worker_id}-{toolbox_id}",
        role=NETWORK_TOOLBOX,
        network=network,
        environment={**spec.environment, "AUTONOUS_TOOLBOX_NETWORK": "1"},
        mounts=tuple(Mount(room / toolbox_id, "/run/toolbox") if m == offline else m for m in spec.mounts),
    )


def gate_spec(
    *,
    project: str,
    name: str,
    image_id: str,
    uid: int,
    role: str,
    command: tuple[str, ...] = (),
    environment: Mapping[str, str] | None = None,
    mounts: tuple[Mount, ...] = (),
    labels: Mapping[str, str] | None = None,
) -> ContainerSpec:
    """A candidate before approval, in its tests or its exam: no network and no secret."""
    return ContainerSpec(
        name=name,
        image_id=image_id,
        project=project,
        role=role,
        uid=uid,
        command=command,
        environment=environment or {},
        mounts=mounts,
        labels=labels or {},
        limits=Limits(memory=1024 * MIB, tmpfs=256 * MIB),
    )
