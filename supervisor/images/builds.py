"""The three kinds of image, and what goes into each.

``base``
    Python and git: from the registry where one answers, else bootstrapped from the distribution's mirror. Named by
    its recipe, so that all installations on one engine share it.
``deps``
    The locked packages over a base, named by lock, recipe and base.
``<project>/worker``
    One revision of the worker's source with its bytecode over the dependency image, or what a patch changed over that.

Two builds of one context give two image ids, so an id is recorded, never computed.
"""

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Final, Protocol

from supervisor import apt
from supervisor.contract.providers import Extra
from supervisor.engine import BuildFailed, EngineError
from supervisor.images import hostpip
from supervisor.images.contexts import (
    RECIPES,
    contract_hash,
    digest,
    dockerfile,
    patch_context,
    patch_layer,
    recipe,
    tar_of,
    trusted_contract,
    worker_context,
)
from supervisor.revisions import policy
from supervisor.specs import LABEL_PROJECT, LABEL_ROLE, LABEL_SHA, LABEL_TX

REGISTRY_BASE: Final = "python:3.11-slim-bookworm"
ROLE_STAGE: Final = "deps-build"
LABEL_BASE: Final = "autonous.base"
LABEL_CONTRACT: Final = "autonous.contract"
LABEL_LOCK: Final = "autonous.lock"
LABEL_EXTRAS: Final = "autonous.extras"
LABEL_BASE_DIGEST: Final = "org.opencontainers.image.base.digest"

#: By which package an extra is known.
_EXTRA_PACKAGES: Final = {
    Extra.ANTHROPIC: "anthropic",
    Extra.GEMINI: "google-genai",
    Extra.EMBEDDINGS: "sqlite-vec",
}
_LOCKED: Final = re.compile(r"^[^\s#][^\n]*\n(?:[ \t][^\n]*\n)*", re.MULTILINE)
_REGISTRY_SECONDS: Final = 20.0
_BUILD_SECONDS: Final = 600.0
_BUILD_SHOWN: Final = ("Step ", "Downloading ", "Installing collected packages", "Setting up ")
_BOOTSTRAP_SHOWN: Final = ("I: running apt-get", "I: downloading", "I: extracting", "I: installing", "I: creating")
_SCREEN: Final = 100

Say = Callable[[str], None]


class ImagesUnavailable(Exception):
    """A base or dependency image cannot be had; the message is one line for the user."""


class ImageFacts(Protocol):
    """What is asked of an image that the engine has."""

    @property
    def id(self) -> str:
        """The engine's id of it."""

    @property
    def labels(self) -> Mapping[str, str]:
        """Its labels."""

    @property
    def size_bytes(self) -> int:
        """All its layers together."""


class ImageEngine(Protocol):
    """What is asked of an engine here; :class:`supervisor.engine.Engine` is one."""

    def image(self, reference: str) -> ImageFacts | None:
        """The image of that id or tag, or None."""

    def images(self, labels: Mapping[str, str]) -> Sequence[ImageFacts]:
        """All images with these labels."""

    def remove_image(self, reference: str) -> None:
        """Remove an image, and what only it stands on."""

    def pull(self, reference: str, timeout: float) -> str | None:
        """Fetch an image; its id, or None when no registry answers in ``timeout`` seconds."""

    def import_image(self, tar: BinaryIO, *, tag: str, changes: Sequence[str] = ()) -> str:
        """Make an image of a root file system; its id."""

    def build(
        self, context: bytes, *, tag: str, labels: Mapping[str, str], network: bool, log: Say, timeout: float
    ) -> str:
        """Build a context; the image's id. Raises BuildFailed."""


@dataclass(frozen=True)
class Deps:
    """The dependency image."""

    image_id: str
    tag: str


@dataclass(frozen=True)
class Trunk:
    """The last imported revision, which the images of later ones are layered on."""

    image_id: str
    sha: str
    files: Mapping[str, bytes]


@dataclass(frozen=True)
class BuiltImage:
    """What a build gave. Sizes in bytes; ``unique_bytes`` is what it added to the image below it."""

    image_id: str
    tag: str
    size_bytes: int
    unique_bytes: int


# -- base and dependencies


def base_tag() -> str:
    """The name of the base image that the recipe in this checkout makes."""
    return f"autonous-base:{digest(REGISTRY_BASE.encode(), recipe('base/Dockerfile'), recipe('base/bootstrap'))}"


def deps_tag(base_id: str, lock: bytes | None = None) -> str:
    """The name of the dependency image that the recipe in this checkout makes of a lock, by default its own."""
    lock = checkout_lock() if lock is None else lock
    return f"autonous-deps:{digest(lock, recipe('deps/Dockerfile'), base_id.encode())}"


def checkout_lock(extras: Sequence[Extra] = ()) -> bytes:
    """The checkout's lock of what every worker has, and of these extras."""
    core = recipe("deps/requirements.lock")
    return with_extras(core.decode(), extras).encode() if extras else core


def with_extras(lock: str, extras: Sequence[Extra]) -> str:
    """A lock with what these extras need; of a package that it has already, it keeps its version."""
    blocks = _blocks(lock)
    for extra in extras:
        blocks = _blocks(recipe(f"deps/extras/{extra}.lock").decode()) | blocks
    return "".join(blocks[name] for name in sorted(blocks))


def extras_in(image: ImageFacts) -> tuple[Extra, ...]:
    """The extras that a dependency image has."""
    written = image.labels.get(LABEL_EXTRAS, "").split()
    return tuple(extra for extra in Extra if extra in written)


def _blocks(lock: str) -> dict[str, str]:
    """What a lock says of each package, by name."""
    return {block.partition("==")[0]: block for block in _LOCKED.findall(lock)}


def _extras_of(lock: bytes) -> str:
    names = _blocks(lock.decode()).keys()
    return " ".join(extra for extra, package in _EXTRA_PACKAGES.items() if package in names)


def ensure_base(engine: ImageEngine, say: Say) -> str:
    """The id of the base image, which is made when it is not there.

    Raises ImagesUnavailable.
    """
    tag = base_tag()
    if image := engine.image(tag):
        return image.id
    say("Making the base image (once)...")
    return _base_from_registry(engine, tag, say) or _base_from_mirror(engine, tag, say)


def ensure_deps(engine: ImageEngine, say: Say, lock: bytes | None = None) -> Deps:
    """The dependency image of a lock, by default of the checkout's, made with its base when they are not there.

    Raises ImagesUnavailable.
    """
    base_id = ensure_base(engine, say)
    lock = checkout_lock() if lock is None else lock
    tag = deps_tag(base_id, lock)
    if image := engine.image(tag):
        return Deps(image.id, tag)
    say("Making the dependency image (once for each lock; about a minute)...")
    host = {f"host/{name}": content for name, content in hostpip.host_files().items()}
    context = tar_of(
        {
            "Dockerfile": dockerfile("deps", base_id),
            "requirements.lock": lock,
            **host,
        }
    )
    try:
        image_id = engine.build(
            context,
            tag=tag,
            labels={
                LABEL_BASE_DIGEST: base_id,
                LABEL_LOCK: hashlib.sha256(lock).hexdigest(),
                LABEL_EXTRAS: _extras_of(lock),
            },
            network=True,
            log=_progress(say),
            timeout=_BUILD_SECONDS,
        )
    except BuildFailed as error:
        raise ImagesUnavailable(f"the dependency image could not be built: {_cause(error)}") from error
    finally:
        # Its first stage holds this machine's pip configuration, which may hold a password.
        for stage in engine.images({LABEL_ROLE: ROLE_STAGE}):
            with suppress(EngineError):  # another build stands on it just now, and removes it itself
                engine.remove_image(stage.id)
    return Deps(image_id, tag)


def _base_from_registry(engine: ImageEngine, tag: str, say: Say) -> str | None:
    say(f"  asking the registry for {REGISTRY_BASE}...")
    pulled = engine.pull(REGISTRY_BASE, _REGISTRY_SECONDS)
    if pulled is None:
        return None
    context = tar_of({"Dockerfile": dockerfile("base", pulled)})
    try:
        return engine.build(context, tag=tag, labels={}, network=True, log=_progress(say), timeout=_BUILD_SECONDS)
    except BuildFailed as error:
        say(f"  git could not be added to it: {_cause(error)}")
        return None


def _base_from_mirror(engine: ImageEngine, tag: str, say: Say) -> str:
    say("  no registry answers: bootstrapping from the distribution's mirror (about half a minute)...")
    _need_mmdebstrap(say)
    # Not in /tmp, which may be memory: the tar has some 150 MB.
    with tempfile.TemporaryDirectory(prefix="autonous-base-", dir="/var/tmp") as directory:
        root = Path(directory) / "root.tar"
        _bootstrap(root, say)
        say("  handing it to the engine...")
        labels = f'LABEL {LABEL_ROLE}=base org.opencontainers.image.title="autonous base"'
        with root.open("rb") as tar:
            return engine.import_image(tar, tag=tag, changes=["ENV LANG=C.UTF-8", labels])


def _need_mmdebstrap(say: Say) -> None:
    if shutil.which("mmdebstrap"):
        return
    if os.getuid() != 0 or not apt.available():
        raise ImagesUnavailable(
            f"no registry answers for {REGISTRY_BASE}, and mmdebstrap, which makes a base image without one, is not "
            "installed; on Debian or Ubuntu: sudo apt-get install mmdebstrap"
        )
    say("  installing mmdebstrap with apt-get...")
    try:
        apt.install(["mmdebstrap"], say)
    except apt.PackagesUnavailable as error:
        raise ImagesUnavailable(str(error)) from error


def _bootstrap(target: Path, say: Say) -> None:
    last_error = "no reason given"
    with subprocess.Popen(
        [RECIPES / "base" / "bootstrap", target],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    ) as process:
        for line in process.stderr or ():
            if line.startswith("E: "):
                last_error = line.removeprefix("E: ").strip()
            elif line.startswith(_BOOTSTRAP_SHOWN):
                say(f"    {line.removeprefix('I: ').strip()}")
    if process.returncode != 0:
        raise ImagesUnavailable(f"the base image could not be bootstrapped: {last_error}")


# -- revisions


def build_revision(
    engine: ImageEngine,
    *,
    project: str,
    deps_image_id: str,
    sha: str,
    base_sha: str | None,
    tx_id: str,
    files: Mapping[str, bytes],
    trunk: Trunk | None,
    created: float,
    log: Say,
    timeout: float,
) -> BuiltImage:
    """Build the image of a revision whose tree is ``files``, as ``<project>/worker:<sha12>``.

    Layered on ``trunk`` where only changed files have to be added to it, so that a small patch makes a small image;
    over the dependency image otherwise. ``base_sha`` is None for an imported revision, ``created`` in seconds since
    the epoch, ``timeout`` in seconds of silence.
    Raises BuildFailed, and ValueError for a file that can not be part of a revision.
    """
    if strays := sorted(path for path in files if not policy.belongs(path)):
        raise ValueError(f"not of a worker's revision: {strays[0]}")
    contract = trusted_contract()
    tag = f"{project}/worker:{sha[:12]}"
    labels = {
        LABEL_PROJECT: project,
        LABEL_ROLE: "worker",
        LABEL_TX: tx_id,
        LABEL_SHA: sha,
        LABEL_BASE: base_sha or "",
        LABEL_CONTRACT: contract_hash(contract),
        LABEL_BASE_DIGEST: deps_image_id,
        "org.opencontainers.image.created": datetime.fromtimestamp(created, UTC).isoformat(timespec="seconds"),
        "org.opencontainers.image.revision": sha,
        "org.opencontainers.image.title": f"{project} worker",
    }
    fits = trunk is not None and _holds(engine, trunk, deps_image_id, contract_hash(contract))
    if trunk and fits and (changed := patch_layer(trunk.files, files)):
        parent_id, context = trunk.image_id, patch_context(trunk.image_id, changed, labels)
    else:
        parent_id, context = deps_image_id, worker_context(deps_image_id, {**files, **contract}, labels)
    image_id = engine.build(context, tag=tag, labels={}, network=False, log=log, timeout=timeout)
    size, below = (image.size_bytes if (image := engine.image(i)) else 0 for i in (image_id, parent_id))
    return BuiltImage(image_id, tag, size, size - below)


def _holds(engine: ImageEngine, trunk: Trunk, deps_image_id: str, contract: str) -> bool:
    """Whether the trunk's image is there and stands on these dependencies and this contract."""
    image = engine.image(trunk.image_id)
    return (
        image is not None
        and image.labels.get(LABEL_SHA) == trunk.sha
        and image.labels.get(LABEL_BASE_DIGEST) == deps_image_id
        and image.labels.get(LABEL_CONTRACT) == contract
    )


def _progress(say: Say) -> Callable[[str], None]:
    def log(line: str) -> None:
        if line.strip().startswith(_BUILD_SHOWN):
            say(f"  {line.strip()}"[:_SCREEN])

    return log


def _cause(error: BuildFailed) -> str:
    """The line of the build's log that says most."""
    told = [line.strip() for line in error.log.splitlines() if line.strip().startswith(("ERROR", "E: "))]
    return told[-1] if told else str(error)
