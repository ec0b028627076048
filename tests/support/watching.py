"""Looking at an installation's containers while they live, as the engine itself describes them."""

import threading
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import docker
from docker.errors import APIError

from supervisor.engine import engine_url
from supervisor.specs import LABEL_PROJECT, LABEL_ROLE


@dataclass
class Seen:
    """One container: what the engine said of it, and what its first process has in its environment."""

    role: str
    inspected: dict[str, Any]
    environ: bytes = b""


@dataclass
class ContainerWatch:
    """Inspects every container of a project as it starts, also those that are gone soon after."""

    project: str
    seen: dict[str, Seen] = field(default_factory=dict)

    def __enter__(self) -> Self:
        self._docker = docker.APIClient(base_url=engine_url(), version="auto")
        self._stream = self._docker.events(
            decode=True, filters={"type": "container", "event": "start", "label": f"{LABEL_PROJECT}={self.project}"}
        )
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(Exception):  # whatever the socket under the stream raises when it is closed
            self._stream.close()
        self._docker.close()

    def of(self, role: str) -> list[Seen]:
        """Those with this role."""
        return [seen for seen in list(self.seen.values()) if seen.role == role]

    def _watch(self) -> None:
        client = docker.APIClient(base_url=engine_url(), version="auto")
        with suppress(Exception):  # the end of the stream
            for event in self._stream:
                with suppress(APIError):  # gone already
                    self._look(client, event["Actor"]["ID"])
        client.close()

    def _look(self, client: Any, container: str) -> None:
        inspected = client.inspect_container(container)
        seen = Seen(inspected["Config"]["Labels"][LABEL_ROLE], inspected)
        self.seen[container] = seen
        run = client.exec_create(container, ["cat", "/proc/1/environ"])
        seen.environ = client.exec_start(run["Id"])


def within(client: Any, container: str, *command: str) -> str:
    """What a command prints inside a container, run as the container's own user."""
    run = client.exec_create(container, list(command))
    return str(client.exec_start(run["Id"]).decode(errors="replace"))
