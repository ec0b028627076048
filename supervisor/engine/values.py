"""What the engine says of images, containers and events, as values of our own."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from supervisor.specs import Machine


@dataclass(frozen=True)
class ImageView:
    """What the engine knows of an image. Sizes in bytes."""

    id: str
    tags: tuple[str, ...]
    labels: Mapping[str, str]
    size_bytes: int
    layers: tuple[str, ...]
    created: str


@dataclass(frozen=True)
class ContainerView:
    """What the engine knows of a container. Times in seconds since the epoch, 0 when there is none."""

    id: str
    name: str
    image_id: str
    labels: Mapping[str, str]
    status: str
    exit_code: int
    oom_killed: bool
    started_at: float
    finished_at: float
    pid: int

    @property
    def running(self) -> bool:
        """Whether its process lives (a paused one does)."""
        return self.status in ("running", "paused", "restarting")


@dataclass(frozen=True)
class EngineEvent:
    """One line of the engine's event stream: something happened to a container of this project."""

    action: str
    container_id: str
    name: str
    labels: Mapping[str, str]


def container_view(inspected: Mapping[str, Any]) -> ContainerView:
    """A container, of what the engine's inspect call gives."""
    state = inspected["State"]
    return ContainerView(
        id=inspected["Id"],
        name=inspected["Name"].removeprefix("/"),
        image_id=inspected["Image"],
        labels=inspected["Config"].get("Labels") or {},
        status=state["Status"],
        exit_code=state["ExitCode"],
        oom_killed=state["OOMKilled"],
        started_at=_seconds(state["StartedAt"]),
        finished_at=_seconds(state["FinishedAt"]),
        pid=state["Pid"],
    )


def machine_of(info: Mapping[str, Any]) -> Machine:
    """What of the engine's ``/info`` bears on every container."""
    options = info.get("SecurityOptions") or ()
    return Machine(cpus=info.get("NCPU") or math.inf, selinux=any("name=selinux" in option for option in options))


def _seconds(stamp: str) -> float:
    if stamp.startswith("0001-"):
        return 0.0
    # The engine writes nanoseconds, one digit group more than datetime reads.
    head, _, fraction = stamp.rstrip("Z").partition(".")
    return datetime.fromisoformat(f"{head}+00:00").timestamp() + float(f"0.{fraction or 0}")


def label_filters(labels: Mapping[str, str]) -> list[str]:
    """Labels in the form of the engine's filters."""
    return [f"{key}={value}" for key, value in labels.items()]
