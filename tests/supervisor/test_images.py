import hashlib
import io
import tarfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import pytest

from supervisor.contract.providers import Extra
from supervisor.engine import BuildFailed
from supervisor.images import hostpip
from supervisor.images.builds import (
    REGISTRY_BASE,
    Deps,
    ImagesUnavailable,
    Trunk,
    base_tag,
    build_revision,
    checkout_lock,
    ensure_base,
    ensure_deps,
    extras_in,
)
from supervisor.images.contexts import patch_context, patch_layer, tar_of, trusted_contract, worker_context
from supervisor.paths import CHECKOUT
from supervisor.pipeline.dependencies import pins

FILES = {"worker/__init__.py": b"", "worker/app.py": b"x = 1\n", "tests/worker/test_app.py": b"def test(): ...\n"}
GENESIS = "a" * 40
PATCHED = "b" * 40
CREATED = 1_800_000_000.0


@dataclass(frozen=True)
class StoredImage:
    id: str
    labels: Mapping[str, str]
    context: Mapping[str, bytes]
    size_bytes: int = 0

    @property
    def parent(self) -> str:
        return self.context["Dockerfile"].split(b"ARG BASE=")[1].splitlines()[0].decode()

    @property
    def app(self) -> dict[str, bytes]:
        return {name.removeprefix("app/"): c for name, c in self.context.items() if name.startswith("app/")}


@dataclass
class StoringEngine:
    """An engine that keeps what it is given and builds nothing; a build inherits its parent's labels."""

    registry: bool = True
    failing: str = ""
    tags: dict[str, StoredImage] = field(default_factory=dict)
    said_network: list[bool] = field(default_factory=list)

    def image(self, reference: str) -> StoredImage | None:
        return self.tags.get(reference) or next((i for i in self.tags.values() if i.id == reference), None)

    def images(self, labels: Mapping[str, str]) -> list[StoredImage]:
        return [i for i in self.tags.values() if labels.items() <= i.labels.items()]

    def remove_image(self, reference: str) -> None:
        self.tags = {tag: i for tag, i in self.tags.items() if reference not in (tag, i.id)}

    def pull(self, reference: str, timeout: float) -> str | None:
        return self._store(reference, {}, {}) if self.registry else None

    def import_image(self, tar: BinaryIO, *, tag: str, changes: Sequence[str] = ()) -> str:
        return self._store(tag, {}, {"root": tar.read()})

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
        self.said_network.append(network)
        if self.failing:
            raise BuildFailed("the command returned a non-zero code: 1", self.failing)
        files = untar(context)
        if tag.startswith("autonous-deps:"):
            self._store("stage", {"autonous.role": "deps-build"}, files)
        parent = self.image(StoredImage("", {}, files).parent)
        written = files["Dockerfile"].decode().rpartition("LABEL ")[2]
        own = dict(pair.split("=", 1) for pair in written.replace('"', "").split() if "=" in pair)
        below = parent.size_bytes if parent else 0
        return self._store(tag, {**(parent.labels if parent else {}), **own, **labels}, files, below)

    def _store(self, tag: str, labels: Mapping[str, str], context: Mapping[str, bytes], below: int = 0) -> str:
        digest = hashlib.sha256(f"{len(self.tags)}{tag}".encode()).hexdigest()
        size = below + sum(len(c) for name, c in context.items() if name.startswith("app/"))
        self.tags[tag] = StoredImage(f"sha256:{digest}", labels, context, size)
        return f"sha256:{digest}"

    def revision(self, sha: str, files: Mapping[str, bytes], trunk: Trunk | None, *, deps: str) -> StoredImage:
        built = build_revision(
            self,
            project="demo",
            deps_image_id=deps,
            sha=sha,
            base_sha=GENESIS,
            tx_id="tx-1",
            files=files,
            trunk=trunk,
            created=CREATED,
            log=quiet,
            timeout=1,
        )
        image = self.image(built.tag)
        assert image is not None
        assert image.id == built.image_id
        assert built.size_bytes == image.size_bytes
        assert built.unique_bytes == sum(map(len, image.app.values()))
        return image


def untar(context: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(context)) as tar:
        return {m.name: stream.read() for m in tar if (stream := tar.extractfile(m))}


def quiet(line: str) -> None:
    pass


@pytest.fixture
def engine() -> StoringEngine:
    return StoringEngine()


@pytest.fixture
def deps(engine: StoringEngine) -> str:
    return ensure_deps(engine, quiet).image_id


@pytest.fixture
def trunk(engine: StoringEngine, deps: str) -> Trunk:
    return Trunk(engine.revision(GENESIS, FILES, None, deps=deps).id, GENESIS, FILES)


# -- contexts


def test_a_context_is_the_same_bytes_each_time() -> None:
    """Neither the order of the files nor the time of the call shows."""
    backwards = dict(reversed(FILES.items()))
    assert worker_context("sha256:1", FILES, {"a": "b"}) == worker_context("sha256:1", backwards, {"a": "b"})


def test_files_in_a_context_are_read_only_and_belong_to_root() -> None:
    """Whatever the checkout's modes are, nobody in a container can write the source."""
    with tarfile.open(fileobj=io.BytesIO(tar_of({"app/worker/a.py": b"1"}))) as tar:
        members = {m.name: (m.isdir(), m.mode, m.uid, m.gid) for m in tar}
    assert members == {
        "app": (True, 0o555, 0, 0),
        "app/worker": (True, 0o555, 0, 0),
        "app/worker/a.py": (False, 0o444, 0, 0),
    }


def test_a_label_cannot_break_out_of_its_line() -> None:
    """Quotes, backslashes and variables in a value stay characters."""
    dockerfile = untar(worker_context("sha256:1", FILES, {"k": 'a"b\\c$d'}))["Dockerfile"].decode()
    assert dockerfile.splitlines()[-1] == 'LABEL k="a\\"b\\\\c\\$d"'


def instructions(context: bytes) -> list[str]:
    """The lines of a context's Dockerfile, without its comments."""
    text = untar(context)["Dockerfile"].decode().replace("\\\n", "")
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def test_nothing_runs_when_a_patch_is_built() -> None:
    """There is no RUN, so a build hook has nothing to hook into, and the build is soon over."""
    assert [line.split()[0] for line in instructions(patch_context("sha256:1", FILES, {}))] == [
        *("ARG", "FROM", "COPY", "LABEL")
    ]


def test_a_whole_source_is_compiled_by_a_python_that_looks_for_nothing_in_it() -> None:
    """Isolated, so no module of the source is imported; what the labels say is no part of what builds can share."""
    lines = instructions(worker_context("sha256:1", FILES, {"k": "v"}))
    assert [line.split()[0] for line in lines] == ["ARG", "FROM", "USER", "COPY", "RUN", "USER", "LABEL"]
    assert lines[4].startswith("RUN ulimit ")
    assert "python -I -S -m compileall " in lines[4]
    assert lines[5] == "USER 10001"


def test_the_layer_of_a_patch_holds_changed_and_added_files_only() -> None:
    """What is the same stays in the layer below."""
    new = {**FILES, "worker/app.py": b"x = 2\n", "worker/more.py": b""}
    assert patch_layer(FILES, new) == {"worker/app.py": b"x = 2\n", "worker/more.py": b""}


def test_no_layer_makes_a_deletion_or_nothing() -> None:
    """A layer that only adds files cannot take one away, and an empty one cannot be built."""
    assert patch_layer(FILES, {"worker/app.py": b"x = 2\n"}) is None
    assert patch_layer(FILES, FILES) is None


# -- revisions


def test_genesis_holds_the_whole_source_and_the_trusted_contract(engine: StoringEngine, deps: str) -> None:
    """One layer over the dependency image, named and labelled by its commit, built without a network."""
    image = engine.revision(GENESIS, FILES, None, deps=deps)
    assert image.parent == deps
    assert image.app == {**FILES, **trusted_contract()}
    assert "supervisor/contract/messages.py" in image.app
    assert engine.tags["demo/worker:aaaaaaaaaaaa"] is image
    assert engine.said_network[-1] is False
    assert (
        image.labels.items()
        >= {
            "autonous.project": "demo",
            "autonous.role": "worker",
            "autonous.tx": "tx-1",
            "autonous.sha": GENESIS,
            "autonous.base": GENESIS,
            "org.opencontainers.image.revision": GENESIS,
            "org.opencontainers.image.created": "2027-01-15T08:00:00+00:00",
            "org.opencontainers.image.base.digest": deps,
        }.items()
    )


def test_a_patch_adds_its_own_files_to_the_imported_revision(engine: StoringEngine, deps: str, trunk: Trunk) -> None:
    """A one-line change makes an image that is one small layer larger."""
    image = engine.revision(PATCHED, {**FILES, "worker/app.py": b"x = 2\n"}, trunk, deps=deps)
    assert image.parent == trunk.image_id
    assert image.app == {"worker/app.py": b"x = 2\n"}
    assert image.labels["autonous.sha"] == PATCHED


def test_a_deletion_takes_the_full_shape(engine: StoringEngine, deps: str, trunk: Trunk) -> None:
    """The deleted file is in no layer of the new image."""
    left = {path: content for path, content in FILES.items() if path != "tests/worker/test_app.py"}
    image = engine.revision(PATCHED, left, trunk, deps=deps)
    assert image.parent == deps
    assert image.app == {**left, **trusted_contract()}


@pytest.mark.parametrize("label", ["autonous.contract", "autonous.sha", "org.opencontainers.image.base.digest"])
def test_a_trunk_that_is_not_what_it_should_be_is_not_built_on(
    engine: StoringEngine, deps: str, trunk: Trunk, label: str
) -> None:
    """Another contract, another commit or other dependencies below it: the full shape is used."""
    stale = StoredImage(trunk.image_id, {**engine.tags["demo/worker:aaaaaaaaaaaa"].labels, label: "other"}, {})
    engine.tags["demo/worker:aaaaaaaaaaaa"] = stale
    image = engine.revision(PATCHED, {**FILES, "worker/app.py": b"x = 2\n"}, trunk, deps=deps)
    assert image.parent == deps
    assert image.app.items() >= trusted_contract().items()


def test_a_trunk_that_is_gone_is_not_built_on(engine: StoringEngine, deps: str, trunk: Trunk) -> None:
    """An image that was removed from outside is no reason to fail."""
    engine.remove_image(trunk.image_id)
    assert engine.revision(PATCHED, {**FILES, "worker/app.py": b""}, trunk, deps=deps).parent == deps


@pytest.mark.parametrize(
    "path",
    [
        *("supervisor/contract/messages.py", "conftest.py", "workers/x.py"),
        *("worker/__pycache__/app.cpython-311.pyc", "worker/app.pyc"),
    ],
)
def test_a_revision_cannot_bring_trusted_files_nor_bytecode(engine: StoringEngine, deps: str, path: str) -> None:
    """Policy refuses such a patch; should it ever get this far, nothing is built."""
    with pytest.raises(ValueError, match=path):
        engine.revision(PATCHED, {**FILES, path: b""}, None, deps=deps)


# -- base and dependencies


def test_images_that_are_there_are_used_as_they_are(engine: StoringEngine, deps: str) -> None:
    """The second call asks nobody and says nothing."""
    engine.registry, engine.failing = False, "nothing may be built"
    assert ensure_deps(engine, pytest.fail).image_id == deps


def test_the_base_comes_from_the_registry_where_one_answers(engine: StoringEngine) -> None:
    """The pulled image gets what is missing in it, under the name of the recipe."""
    base = ensure_base(engine, quiet)
    assert engine.tags[base_tag()].id == base
    assert engine.tags[base_tag()].parent == engine.tags[REGISTRY_BASE].id


def test_the_dependency_image_is_named_by_what_is_in_it() -> None:
    """Over another base it is another image."""
    one, two = StoringEngine(), StoringEngine()
    two.tags["other"] = StoredImage("sha256:0", {}, {})
    first, second = ensure_deps(one, quiet), ensure_deps(two, quiet)
    assert isinstance(first, Deps)
    assert first.tag != second.tag
    assert first.tag.startswith("autonous-deps:")


def test_the_machines_pip_settings_do_not_stay_in_the_engine(engine: StoringEngine, deps: str) -> None:
    """They are in the context of the first stage, and that stage is removed when the image is made."""
    assert "host/pip.conf" in engine.tags[next(tag for tag in engine.tags if tag.startswith("autonous-deps:"))].context
    assert "stage" not in engine.tags


def test_a_failed_build_of_the_dependencies_is_one_line(engine: StoringEngine) -> None:
    """The line of pip that says why, not the command that failed."""
    ensure_base(engine, quiet)
    engine.failing = "Collecting httpx\nERROR: No matching distribution found for httpx==1\n"
    with pytest.raises(ImagesUnavailable, match=r"ERROR: No matching distribution found for httpx==1$"):
        ensure_deps(engine, quiet)


# -- how this machine reaches package indexes


def test_pip_settings_of_the_environment_win() -> None:
    """As in pip itself: environment, then [install], then [global]."""
    listed = ":env:.timeout='9'\nglobal.timeout='1'\nglobal.proxy='http://a'\ninstall.proxy='http://b'\nnot a setting\n"
    assert hostpip.parse_pip_config(listed) == {"timeout": "9", "proxy": "http://b"}


def test_local_indexes_and_directories_are_left_out() -> None:
    """They mean nothing on the file system of a build."""
    settings = {
        "index-url": "file:///srv/simple",
        "extra-index-url": "file:///srv/more https://mirror.example/simple\nhttps://two.example/simple",
        "find-links": "/srv/wheels",
        "cert": "/etc/corp.pem",
        "default-timeout": "180",
    }
    written = hostpip.pip_conf(settings, with_bundle=True).decode()
    assert written.split("\n") == [
        "[global]",
        "extra-index-url = https://mirror.example/simple",
        "\thttps://two.example/simple",
        "default-timeout = 180",
        "cert = /build/host/ca.pem",
        "",
        "",
    ]


def test_proxies_are_exported_and_nothing_else() -> None:
    """No other name of the environment gets into a build, and no value can be more than a value."""
    environ = {"HTTPS_PROXY": "http://u:p@proxy:3128/;x", "no_proxy": "", "OPENAI_API_KEY": "sk-secret"}
    assert hostpip.proxy_exports(environ) == b"export HTTPS_PROXY='http://u:p@proxy:3128/;x'\n"


def test_the_ca_bundle_that_pip_is_told_of_goes_along(tmp_path: Path) -> None:
    """PIP_CERT wins over the system's bundle."""
    bundle = tmp_path / "corp.pem"
    bundle.write_bytes(b"-----BEGIN CERTIFICATE-----")
    files = hostpip.host_files({"PIP_CERT": str(bundle), "PIP_CONFIG_FILE": "/dev/null"})
    assert files["ca.pem"] == bundle.read_bytes()
    assert files["pip.conf"] == b"[global]\ncert = /build/host/ca.pem\n\n"
    assert files["environment"] == b""


# -- extras


def test_a_lock_with_extras_is_the_core_and_what_they_need() -> None:
    """The core's versions stay, each package stands once, and without extras it is the core itself."""
    core, every = checkout_lock().decode(), checkout_lock(list(Extra)).decode()
    assert core == (CHECKOUT / "images/deps/requirements.lock").read_text()
    assert pins(every).items() >= pins(core).items()
    assert every.count("\nhttpx==") == 1
    packages = {Extra.ANTHROPIC: "anthropic", Extra.GEMINI: "google-genai", Extra.EMBEDDINGS: "sqlite-vec"}
    for extra, package in packages.items():
        alone = pins(checkout_lock([extra]).decode())
        assert package in alone
        assert package not in pins(core)
        assert pins(every).items() >= alone.items(), "any of them go together"


def test_the_image_says_which_extras_it_has(engine: StoringEngine) -> None:
    """As they stand in its lock; and it is another image."""
    deps = ensure_deps(engine, quiet, checkout_lock([Extra.GEMINI, Extra.EMBEDDINGS]))
    image = engine.image(deps.image_id)
    assert image is not None
    assert extras_in(image) == (Extra.GEMINI, Extra.EMBEDDINGS)
    assert ensure_deps(engine, quiet).image_id != deps.image_id
