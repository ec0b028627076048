"""The calls to the engine: Docker API 1.41 and later, the version is negotiated."""

import functools
import json
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from io import BytesIO
from typing import Any, BinaryIO, Final

import docker
import requests
import urllib3
from docker.errors import APIError, DockerException, ImageNotFound, NotFound, StreamParseError

from supervisor.crashpoints import around
from supervisor.engine.errors import (
    BuildFailed,
    ContainerGone,
    EngineError,
    EngineUnreachable,
    ImageMissing,
    NoSpace,
    SpecViolated,
    translated,
)
from supervisor.engine.values import ContainerView, ImageView, container_view, label_filters, machine_of
from supervisor.engine.watch import Watch
from supervisor.specs import LABEL_PROJECT, ContainerSpec, Machine, create_arguments, violations

DEFAULT_URL: Final = "unix:///var/run/docker.sock"
MINIMUM_API: Final = (1, 41)
_LOG_TAIL_LINES: Final = 40


def engine_url(environ: Mapping[str, str] = os.environ) -> str:
    """The socket to use: ``DOCKER_HOST`` or the usual place."""
    return environ.get("DOCKER_HOST") or DEFAULT_URL


class Engine:
    """A connection to one engine. May be used from several threads."""

    def __init__(self, url: str | None = None, *, timeout: float = 60) -> None:
        self._url = url or engine_url()
        self._timeout = timeout
        self._local = threading.local()

    # -- the engine itself

    def version(self) -> dict[str, str]:
        """Version and API version, asked over a new connection.

        Raises EngineUnreachable, and EngineError for an engine that is too old.
        """
        with translated(self._url), closing(self._connect()) as fresh:
            info = fresh.version()
        api = tuple(int(part) for part in info["ApiVersion"].split("."))
        if api < MINIMUM_API:
            needed = ".".join(map(str, MINIMUM_API))
            raise EngineError(f"the engine speaks API {info['ApiVersion']}; {needed} or later is needed")
        return {"version": info["Version"], "api": info["ApiVersion"]}

    # -- images

    def image(self, reference: str) -> ImageView | None:
        """The image of that id or tag, or None."""
        with translated(reference):
            try:
                found = self._api.inspect_image(reference)
            except ImageNotFound:
                return None
        return ImageView(
            id=found["Id"],
            tags=tuple(found.get("RepoTags") or ()),
            labels=found["Config"].get("Labels") or {},
            size_bytes=found["Size"],
            layers=tuple(found["RootFS"].get("Layers") or ()),
            created=found["Created"],
        )

    def images(self, labels: Mapping[str, str]) -> list[ImageView]:
        """All images with these labels."""
        with translated("list images"):
            listed = self._api.images(filters={"label": label_filters(labels)})
        found = (self.image(item["Id"]) for item in listed)
        return [image for image in found if image is not None]

    def image_history(self, reference: str) -> list[dict[str, Any]]:
        """The layers of an image with the commands that made them, newest first."""
        with translated(reference):
            return list(self._api.history(reference))

    def pull(self, reference: str, timeout: float) -> str | None:
        """Fetch an image from its registry; its id, or None when none answers in ``timeout`` seconds."""
        client = docker.APIClient(base_url=self._url, version="auto", timeout=timeout)
        try:
            with around("engine.pull"):
                for line in client.pull(reference, stream=True, decode=True):
                    if "error" in line:
                        return None
        except (
            DockerException,
            StreamParseError,
            requests.exceptions.RequestException,
            urllib3.exceptions.HTTPError,
        ):
            return None
        finally:
            client.close()
        image = self.image(reference)
        return image.id if image else None

    def import_image(self, tar: BinaryIO, *, tag: str, changes: Sequence[str] = ()) -> str:
        """Make an image of a root file system; gives its id."""
        repository, _, version = tag.rpartition(":")
        with around("engine.import_image"), translated(f"import {tag}"):
            # Not "from stream", which announces chunks and then sends none when the stream is a file with a length.
            answer = self._api.import_image_from_data(tar, repository=repository, tag=version, changes=list(changes))
        for line in answer.splitlines():
            message = json.loads(line)
            if "error" in message:
                raise EngineError(f"import {tag}: {message['error']}")
        image = self.image(tag)
        if image is None:
            raise ImageMissing(f"no such image after the import ({tag})")
        return image.id

    def build(
        self,
        context: bytes,
        *,
        tag: str,
        labels: Mapping[str, str],
        network: bool,
        log: Callable[[str], None],
        timeout: float,
    ) -> str:
        """Build a tar of a context with a Dockerfile in it; gives the image's id.

        ``log`` receives each line as it comes. Raises BuildFailed, also after ``timeout`` seconds of silence.
        """
        client = docker.APIClient(base_url=self._url, version="auto", timeout=timeout)
        tail: list[str] = []
        image_id = ""
        try:
            with around("engine.build"), translated(f"build {tag}"):
                for message in client.build(
                    fileobj=BytesIO(context),
                    custom_context=True,
                    tag=tag,
                    labels=dict(labels),
                    # The host's own, so that a proxy or an index that listens on this machine alone is reached.
                    network_mode="host" if network else "none",
                    timeout=timeout,  # without it this call alone waits for ever, whatever the client was told
                    rm=True,
                    forcerm=True,
                    decode=True,
                ):
                    if "error" in message:
                        if "no space left on device" in message["error"]:
                            raise NoSpace(f"no space left on the engine's disk (build {tag})")
                        raise BuildFailed(message["error"].strip(), "\n".join(tail))
                    image_id = message.get("aux", {}).get("ID", image_id)
                    for line in message.get("stream", "").splitlines():
                        if line.strip():
                            tail = [*tail[-_LOG_TAIL_LINES:], line]
                            log(line)
        except EngineUnreachable as error:
            if isinstance(error.__cause__, requests.exceptions.ReadTimeout | urllib3.exceptions.ReadTimeoutError):
                raise BuildFailed(f"no word from the build for {timeout:.0f} s", "\n".join(tail)) from error
            raise
        finally:
            client.close()
        if not image_id:
            raise BuildFailed("the build gave no image", "\n".join(tail))
        return image_id

    def tag(self, image_id: str, tag: str) -> None:
        """Give an image one more name."""
        repository, _, version = tag.rpartition(":")
        with around("engine.tag"), translated(image_id):
            self._api.tag(image_id, repository, version, force=True)

    def remove_image(self, reference: str) -> None:
        """Remove a name, and the image with the last one; nothing happens when it is not there."""
        with around("engine.remove_image"), translated(reference), suppress(ImageNotFound):
            self._api.remove_image(reference, force=True, noprune=False)

    # -- containers

    def create(self, spec: ContainerSpec) -> str:
        """Make a container, and see that it is what the spec says before anyone can start it; gives its id.

        Raises SpecViolated (the container is removed), NameTaken, ImageMissing.
        """
        with around(f"engine.create.{spec.role}"), translated(f"create {spec.name}"):
            asked = create_arguments(spec, self._machine)
            container_id: str = self._api.create_container_from_config(asked, name=spec.name)["Id"]
            inspected = self._api.inspect_container(container_id)
        if found := violations(spec, inspected, self._machine):
            self.remove(container_id)
            raise SpecViolated(f"{spec.name} was not made as specified: {'; '.join(found)}")
        return container_id

    def start(self, container_id: str, *, role: str = "any") -> None:
        """Start a container that was created; ``role`` is its crash point's."""
        with around(f"engine.start.{role}"), translated(container_id):
            self._api.start(container_id)

    def run(self, spec: ContainerSpec) -> str:
        """Create and start; gives the id."""
        container_id = self.create(spec)
        self.start(container_id, role=spec.role)
        return container_id

    def stop(self, container_id: str, *, seconds: int) -> None:
        """TERM, then KILL after ``seconds``. Nothing happens when it is gone."""
        with around("engine.stop"), suppress(ContainerGone), translated(container_id):
            self._api.stop(container_id, timeout=seconds)

    def kill(self, container_id: str) -> bool:
        """KILL at once. False when it was gone or dead: nothing happens then."""
        with around("engine.kill"), suppress(ContainerGone), translated(container_id):
            try:
                self._api.kill(container_id)
            except APIError as error:
                if "is not running" not in str(error.explanation):
                    raise
            else:
                return True
        return False

    def wait(self, container_id: str, *, timeout: float) -> int | None:
        """The exit code, or None when it still runs after ``timeout`` seconds."""
        with translated(container_id):
            try:
                return int(self._api.wait(container_id, timeout=timeout)["StatusCode"])
            except requests.exceptions.ReadTimeout:
                return None
            except requests.exceptions.ConnectionError as error:
                if "Read timed out" in str(error):
                    return None
                raise

    def remove(self, container_id: str) -> None:
        """Kill and remove. Nothing happens when it is gone."""
        with around("engine.remove"), suppress(ContainerGone), translated(container_id):
            try:
                self._api.remove_container(container_id, force=True, v=True)
            except APIError as error:
                if "already in progress" not in str(error.explanation):
                    raise

    def inspect(self, container_id: str) -> ContainerView | None:
        """What the engine knows of a container now, or None when it is gone."""
        with translated(container_id):
            try:
                return container_view(self._api.inspect_container(container_id))
            except NotFound:
                return None

    def containers(self, project: str, **labels: str) -> list[ContainerView]:
        """All containers of a project, dead ones too; more labels by their last word: ``role="worker"``."""
        wanted = {LABEL_PROJECT: project, **{f"autonous.{key}": value for key, value in labels.items()}}
        with translated("list containers"):
            listed = self._api.containers(all=True, filters={"label": label_filters(wanted)})
        # A container may go between the list and the look.
        found = (self.inspect(item["Id"]) for item in listed)
        return [view for view in found if view is not None]

    def logs(self, container_id: str, *, tail: int | None = None) -> str:
        """What a container printed, both streams in order."""
        with translated(container_id):
            text = self._api.logs(container_id, tail="all" if tail is None else tail, stdout=True, stderr=True)
        return str(text.decode(errors="replace"))

    def memory_bytes(self, container_id: str) -> int:
        """Resident memory of a container's processes now, without the page cache."""
        with translated(container_id):
            stats = self._api.stats(container_id, stream=False, one_shot=True)["memory_stats"]
        details = stats.get("stats", {})
        return int(details.get("total_rss", details.get("anon", stats.get("usage", 0))))

    # -- networks

    def ensure_network(self, name: str, project: str) -> None:
        """A bridge of the project's own, on which containers do not see each other."""
        with translated(f"network {name}"):
            if self._api.networks(names=[f"^{name}$"]):
                return
        with around("engine.create_network"), translated(f"network {name}"):
            self._api.create_network(
                name,
                driver="bridge",
                labels={LABEL_PROJECT: project},
                options={"com.docker.network.bridge.enable_icc": "false"},
                check_duplicate=True,
            )

    def networks(self, project: str) -> list[str]:
        """The names of a project's networks."""
        with translated("list networks"):
            found = self._api.networks(filters={"label": f"{LABEL_PROJECT}={project}"})
        return sorted(network["Name"] for network in found)

    def remove_network(self, name: str) -> None:
        """Remove a network that nobody is on. Nothing happens when it is gone."""
        with around("engine.remove_network"), suppress(ContainerGone), translated(f"network {name}"):
            self._api.remove_network(name)

    # -- the event stream

    def watch(self, project: str) -> Watch:
        """The stream of what happens to the project's containers from now on."""
        return Watch(self._url, project)

    @functools.cached_property
    def _machine(self) -> Machine:
        return machine_of(self._api.info())

    @property
    def _api(self) -> docker.APIClient:
        # One client for each thread: a requests session is not made for several.
        if not hasattr(self._local, "api"):
            self._local.api = self._connect()
        client: docker.APIClient = self._local.api
        return client

    def _connect(self) -> docker.APIClient:
        return docker.APIClient(base_url=self._url, version="auto", timeout=self._timeout)
