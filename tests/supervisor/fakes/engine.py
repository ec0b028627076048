"""A container engine in memory: images, containers with their states, and the stream of events.

It keeps the promises of :class:`supervisor.engine.Engine` that the supervisor builds on; ``test_pool_engine.py`` holds
both of them to these. What runs in a container is whatever ``launch`` makes of its spec.
"""

import queue
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final, Protocol

from supervisor.engine import (
    ContainerGone,
    ContainerView,
    EngineError,
    EngineEvent,
    EngineUnreachable,
    ImageMissing,
    ImageView,
    NameTaken,
)
from supervisor.specs import LABEL_PROJECT, ContainerSpec

KILLED: Final = 137
#: What the engine says of a container that it made and could not start.
NO_PROGRAM: Final = 127
NOT_STARTED: Final = 128


class Process(Protocol):
    """What runs in a container. It says by ``exited``, which it was launched with, when it ends by itself."""

    def start(self) -> None:
        """Begin. Raises EngineError where the real engine could not start such a one."""

    def terminate(self) -> None:
        """SIGTERM."""

    def kill(self) -> None:
        """SIGKILL: when this returns it does nothing any more."""


#: Makes the process of a container; the function that it is given is called with the exit code and the OOM flag.
Launch = Callable[[ContainerSpec, Callable[[int, bool], None]], Process]


class Idle:
    """A process that waits until it is told to end."""

    def __init__(self, spec: ContainerSpec, exited: Callable[[int, bool], None]) -> None:
        self._exited = exited

    def start(self) -> None:
        """Wait."""

    def terminate(self) -> None:
        """End at once, and in order."""
        self._exited(0, False)

    def kill(self) -> None:
        """There is nothing to stop."""


@dataclass
class _Container:
    id: str
    spec: ContainerSpec
    status: str = "created"
    exit_code: int = 0
    oom: bool = False
    started_at: float = 0.0
    finished_at: float = 0.0
    ended: threading.Event = field(default_factory=threading.Event)
    process: Process | None = None

    def view(self) -> ContainerView:
        return ContainerView(
            id=self.id,
            name=self.spec.name,
            image_id=self.spec.image_id,
            labels=self.spec.all_labels(),
            status=self.status,
            exit_code=self.exit_code,
            oom_killed=self.oom,
            started_at=self.started_at,
            finished_at=self.finished_at,
            pid=1 if self.status == "running" else 0,
        )


class FakeWatch:
    """An open event stream."""

    def __init__(self) -> None:
        self.events: queue.SimpleQueue[EngineEvent | Exception | None] = queue.SimpleQueue()

    def __iter__(self) -> Iterator[EngineEvent]:
        while (event := self.events.get()) is not None:
            if isinstance(event, Exception):
                raise event
            yield event

    def close(self) -> None:
        """End the iteration."""
        self.events.put(None)


class FakeEngine:
    """The engine. ``calls`` are the names of the methods that were called and what each was about.

    ``changed`` is called after everything that changes what is there, so that a test can interrupt the caller.
    """

    def __init__(self, launch: Launch = Idle) -> None:
        self.changed: Callable[[], None] = lambda: None
        self.calls: list[tuple[str, str]] = []
        self.networks: set[str] = set()
        self._launch = launch
        self._lock = threading.RLock()
        self._images: dict[str, ImageView] = {}
        self._containers: dict[str, _Container] = {}
        self._watches: list[tuple[str, FakeWatch]] = []
        self._silent: set[str] = set()
        self._away = False

    # -- what a test does to it

    def add_image(self, image_id: str, tag: str, labels: dict[str, str]) -> None:
        """Have an image, as if it had been built."""
        with self._lock:
            self._images[image_id] = ImageView(image_id, (tag,), labels, 1000, (image_id,), "2026-01-01T00:00:00Z")

    def remove_image(self, image_id: str) -> None:
        """Lose an image, as by a clean-up from outside."""
        with self._lock:
            self._images.pop(image_id, None)

    def go_away(self) -> None:
        """Answer nobody any more; what runs goes on."""
        with self._lock:
            self._away = True
            for _, watch in self._watches:
                watch.events.put(EngineUnreachable("the engine closed its event stream"))
            self._watches.clear()

    def come_back(self) -> None:
        """Answer again."""
        with self._lock:
            self._away = False

    def fail_silently(self, name: str) -> None:
        """Tell nobody when this container ends, as if that event had been lost."""
        self._silent.add(name)

    def crash(self, name: str, *, code: int = 1, oom: bool = False) -> None:
        """End a container's process from inside."""
        container = self._get(name)
        if container.process is not None:
            container.process.kill()
        self._exited(container, code, oom)

    def spec(self, name: str) -> ContainerSpec:
        """What a container was made of. Raises ContainerGone."""
        return self._get(name).spec

    # -- the engine's methods

    def version(self) -> dict[str, str]:
        """What it is."""
        self._call("version", "")
        return {"version": "fake", "api": "1.41"}

    def image(self, reference: str) -> ImageView | None:
        """The image of that id or tag, or None."""
        self._call("image", reference)
        with self._lock:
            found = self._images.get(reference)
            return found or next((image for image in self._images.values() if reference in image.tags), None)

    def ensure_network(self, name: str, project: str) -> None:
        """A bridge of the project's own."""
        self._call("ensure_network", name)
        self.networks.add(name)

    def run(self, spec: ContainerSpec) -> str:
        """Create and start; gives the id. Raises NameTaken, ImageMissing; what cannot be started stays as created."""
        self._call("run", spec.name)
        with self._lock:
            if self._find(spec.name) is not None:
                raise NameTaken(f"the name is taken (create {spec.name})")
            if spec.image_id not in self._images:
                raise ImageMissing(f"no such image (create {spec.name})")
            container = _Container(secrets.token_hex(32), spec)
            container.process = process = self._launch(spec, lambda code, oom: self._exited(container, code, oom))
            self._containers[container.id] = container
        self.changed()
        if spec.network not in ("none", *self.networks):
            self._never_started(container, NOT_STARTED)
            raise ContainerGone(f"not there any more ({container.id})")
        with self._lock:
            container.status, container.started_at = "running", time.time()
        try:
            process.start()
        except EngineError:
            self._never_started(container, NO_PROGRAM)
            raise
        self.changed()
        return container.id

    def inspect(self, container_id: str) -> ContainerView | None:
        """What the engine knows of a container now, or None when it is gone."""
        self._call("inspect", container_id)
        with self._lock:
            found = self._find(container_id)
            return found.view() if found else None

    def containers(self, project: str, **labels: str) -> list[ContainerView]:
        """All containers of a project, dead ones too."""
        self._call("containers", project)
        wanted = {LABEL_PROJECT: project, **{f"autonous.{key}": value for key, value in labels.items()}}
        with self._lock:
            views = [container.view() for container in self._containers.values()]
        return [view for view in views if wanted.items() <= dict(view.labels).items()]

    def stop(self, container_id: str, *, seconds: int) -> None:
        """TERM, then KILL after ``seconds``. Nothing happens when it is gone."""
        self._call("stop", container_id)
        found = self._find(container_id)
        if found is None or found.process is None:
            return
        found.process.terminate()
        if not found.ended.wait(seconds):
            found.process.kill()
            self._exited(found, KILLED, False)
        self.changed()

    def kill(self, container_id: str) -> bool:
        """KILL at once. False when it was gone or dead: nothing happens then."""
        self._call("kill", container_id)
        found = self._find(container_id)
        ran = False
        if found is not None and found.process is not None and not found.ended.is_set():
            found.process.kill()
            self._exited(found, KILLED, False)
            ran = True
        self.changed()
        return ran

    def wait(self, container_id: str, *, timeout: float) -> int | None:
        """The exit code, or None when it still runs after ``timeout`` seconds. Raises ContainerGone."""
        self._call("wait", container_id)
        found = self._get(container_id)
        return found.exit_code if found.ended.wait(timeout) else None

    def remove(self, container_id: str) -> None:
        """Kill and remove. Nothing happens when it is gone."""
        self._call("remove", container_id)
        found = self._find(container_id)
        if found is None:
            return
        if found.process is not None and not found.ended.is_set():
            found.process.kill()
            self._exited(found, KILLED, False)
        with self._lock:
            self._containers.pop(found.id, None)
        self._tell(found, "destroy")
        self.changed()

    def logs(self, container_id: str, *, tail: int | None = None) -> str:
        """What a container printed: one line. Raises ContainerGone."""
        self._call("logs", container_id)
        return f"the last words of {self._get(container_id).spec.name}\n"

    def watch(self, project: str) -> FakeWatch:
        """What happens to the project's containers from now on."""
        self._call("watch", project)
        watch = FakeWatch()
        with self._lock:
            self._watches.append((project, watch))
        return watch

    # -- inside

    def _call(self, method: str, what: str) -> None:
        if self._away:
            raise EngineUnreachable(f"the engine does not answer ({what})")
        self.calls.append((method, what))

    def _find(self, reference: str) -> _Container | None:
        with self._lock:
            found = self._containers.get(reference)
            return found or next((c for c in self._containers.values() if c.spec.name == reference), None)

    def _get(self, reference: str) -> _Container:
        found = self._find(reference)
        if found is None:
            raise ContainerGone(f"not there any more ({reference})")
        return found

    def _never_started(self, container: _Container, code: int) -> None:
        """It stays as it was made, and there is nothing to wait for."""
        with self._lock:
            container.status, container.started_at, container.exit_code = "created", 0.0, code
            container.ended.set()

    def _exited(self, container: _Container, code: int, oom: bool) -> None:
        with self._lock:
            if container.ended.is_set():
                return
            container.status, container.exit_code, container.oom = "exited", code, oom
            container.finished_at = time.time()
            container.ended.set()
        self._tell(container, "die")

    def _tell(self, container: _Container, action: str) -> None:
        if container.spec.name in self._silent:
            return
        labels = container.spec.all_labels()
        event = EngineEvent(action, container.id, container.spec.name, labels)
        with self._lock:
            for project, watch in self._watches:
                if project == labels[LABEL_PROJECT]:
                    watch.events.put(event)
