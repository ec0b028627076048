import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from supervisor.engine import BuildFailed, Engine, ImageView
from supervisor.images.builds import BuiltImage, Deps, Trunk, build_revision
from supervisor.images.contexts import tar_of, trusted_contract
from supervisor.specs import WORKER_UID, gate_spec
from tests.support.projects import new_project

KIB = 1024
MODULE = b"# a line of a module that is as long as real ones are\n" * 400
FILES = {
    "worker/__init__.py": b"",
    "worker/__main__.py": b"print('it runs')\n",
    "worker/module.py": MODULE,
    "tests/worker/test_module.py": b"def test_it(): ...\n",
}


class Revisions:
    """Builds revisions of a project of its own, and removes their images afterwards."""

    def __init__(self, engine: Engine, deps: Deps) -> None:
        self.engine = engine
        self.deps = deps
        self.project = new_project()
        self.tags: list[str] = []

    def build(self, files: Mapping[str, bytes], trunk: Trunk | None = None) -> ImageView:
        built: BuiltImage = build_revision(
            self.engine,
            project=self.project,
            deps_image_id=self.deps.image_id,
            sha=uuid.uuid4().hex,
            base_sha="0" * 40,
            tx_id=str(uuid.uuid4()),
            files=files,
            trunk=trunk,
            created=1_800_000_000,
            log=lambda _line: None,
            timeout=60,
        )
        self.tags.append(built.tag)
        image = self.engine.image(built.image_id)
        assert image is not None
        return image

    def trunk(self) -> Trunk:
        image = self.build(FILES)
        return Trunk(image.id, image.labels["autonous.sha"], FILES)

    def output(self, image: ImageView | str, *command: str) -> str:
        """What a command prints in a container as candidates run in: read-only, no network, not root."""
        spec = gate_spec(
            project=self.project,
            name=f"{self.project}-{uuid.uuid4().hex[:8]}",
            image_id=image if isinstance(image, str) else image.id,
            uid=WORKER_UID,
            role="test",
            command=command,
        )
        container = self.engine.run(spec)
        try:
            assert self.engine.wait(container, timeout=60) == 0, self.engine.logs(container)
            return self.engine.logs(container)
        finally:
            self.engine.remove(container)


@pytest.fixture
def revisions(engine: Engine, deps: Deps) -> Iterator[Revisions]:
    made = Revisions(engine, deps)
    yield made
    for tag in made.tags:
        engine.remove_image(tag)


def test_a_root_file_system_in_a_file_becomes_an_image(engine: Engine, tmp_path: Path) -> None:
    """The way that a bootstrapped base takes into the engine, with its settings."""
    root = tmp_path / "root.tar"
    root.write_bytes(tar_of({"etc/hello": b"hello"}))
    tag = f"test-{uuid.uuid4().hex[:8]}:imported"
    try:
        with root.open("rb") as tar:
            image_id = engine.import_image(tar, tag=tag, changes=["ENV LANG=C.UTF-8", "LABEL autonous.role=base"])
        image = engine.image(tag)
        assert image is not None
        assert (image.id, dict(image.labels)) == (image_id, {"autonous.role": "base"})
    finally:
        engine.remove_image(tag)


def test_genesis_runs_by_itself(revisions: Revisions) -> None:
    """The image knows its command; the source is where Python looks."""
    assert revisions.output(revisions.build(FILES)) == "it runs\n"


def test_every_locked_package_can_be_imported(revisions: Revisions) -> None:
    """On a read-only root, as the worker's user, with no network."""
    code = "import httpx, openai, peewee, pydantic_settings, pytest, telegram, os; print(os.getuid(), os.getcwd())"
    assert revisions.output(revisions.deps.image_id, "python", "-c", code) == "10001 /app\n"


def test_git_works_in_the_image(revisions: Revisions) -> None:
    """What the agent works with in its workspace is there."""
    command = "cd /tmp && git init -q x && cd x && echo 1 >a && git add a && git diff --cached --stat"
    assert "1 file changed" in revisions.output(revisions.deps.image_id, "sh", "-c", command)


def test_nothing_of_the_building_machine_is_in_the_dependency_image(revisions: Revisions) -> None:
    """Its CA bundle and pip settings stay in the stage that needed them, and the stage goes with the build's end."""
    found = "find / -xdev '(' -name ca.pem -o -name pip.conf -o -path '/build*' ')' 2>/dev/null || true"
    assert revisions.output(revisions.deps.image_id, "sh", "-c", found) == ""
    stages = {image.id for image in revisions.engine.images({"autonous.role": "deps-build"})}
    deadline = time.monotonic() + 120  # other tests may be building theirs just now
    while stages and time.monotonic() < deadline:
        time.sleep(0.5)
        stages &= {image.id for image in revisions.engine.images({"autonous.role": "deps-build"})}
    assert not stages


def test_the_source_cannot_be_written_and_holds_the_trusted_contract(revisions: Revisions) -> None:
    """Owned by root and read-only; the contract is byte for byte that of this checkout."""
    image = revisions.build(FILES)
    modes = revisions.output(image, "sh", "-c", "stat -c '%a %u' /app/worker /app/worker/module.py")
    assert modes.splitlines() == ["555 0", "444 0"]
    for path, content in trusted_contract().items():
        assert revisions.output(image, "cat", f"/app/{path}").encode() == content


def test_a_one_line_patch_adds_one_small_layer(revisions: Revisions) -> None:
    """The new image shares everything but the changed file with the imported one."""
    trunk = revisions.trunk()
    imported = revisions.engine.image(trunk.image_id)
    patched = revisions.build({**FILES, "worker/module.py": MODULE + b"x = 1\n"}, trunk)
    assert imported is not None
    assert patched.layers[:-1] == imported.layers
    assert patched.size_bytes - imported.size_bytes < len(MODULE) + 4 * KIB
    assert revisions.output(patched, "tail", "-n", "1", "/app/worker/module.py") == "x = 1\n"
    assert revisions.output(patched) == "it runs\n"


def test_a_deleted_file_is_gone(revisions: Revisions) -> None:
    """Also from the layers below, where a look at the whole file system would find it."""
    trunk = revisions.trunk()
    left = {path: content for path, content in FILES.items() if path != "worker/module.py"}
    listed = revisions.output(revisions.build(left, trunk), "find", "/app/worker", "-name", "module*")
    assert listed == ""


def test_an_imported_revision_starts_from_its_bytecode(revisions: Revisions) -> None:
    """Its modules and the contract's are loaded, not compiled; each is compared with its source's hash."""
    image = revisions.build({**FILES, "worker/module.py": b"value = 1\n", "worker/broken.py": b"(\n"})
    told = revisions.output(image, "python", "-v", "-c", "import worker.module, supervisor.contract")
    for name in ("worker/__pycache__/module", "supervisor/contract/__pycache__/messages"):
        assert f"# code object from '/app/{name}.cpython-311.pyc'" in told
    assert "# wrote" not in told
    flags = "print(int.from_bytes(open('/app/worker/__pycache__/module.cpython-311.pyc', 'rb').read()[4:8], 'little'))"
    assert revisions.output(image, "python", "-c", flags) == "3\n", "checked by hash, as PEP 552 numbers it"
    owner = revisions.output(image, "stat", "-c", "%a %u", "/app/worker/__pycache__/module.cpython-311.pyc")
    assert owner == "644 0\n"


def test_a_patched_module_is_what_its_source_says(revisions: Revisions) -> None:
    """The bytecode below it is of the former source, with the same size and time: it is seen to be stale."""
    old = {**FILES, "worker/module.py": b"value = 1\n", "worker/other.py": b"from worker.module import value\n"}
    image = revisions.build(old)
    trunk = Trunk(image.id, image.labels["autonous.sha"], old)
    patched = revisions.build({**old, "worker/module.py": b"value = 2\n"}, trunk)
    assert patched.layers[:-1] == image.layers
    told = revisions.output(patched, "python", "-v", "-c", "import worker.other; print('value', worker.other.value)")
    assert "value 2" in told
    assert "# code object from /app/worker/module.py" in told
    assert "# code object from '/app/worker/__pycache__/other.cpython-311.pyc'" in told


def test_a_build_over_an_image_that_is_gone_fails(revisions: Revisions) -> None:
    """The engine's own word is in the error, and no image is left."""
    with pytest.raises(BuildFailed):
        build_revision(
            revisions.engine,
            project=revisions.project,
            deps_image_id=f"sha256:{'0' * 64}",
            sha="f" * 40,
            base_sha="0" * 40,
            tx_id="tx",
            files=FILES,
            trunk=None,
            created=0,
            log=lambda _line: None,
            timeout=60,
        )
    assert revisions.engine.image(f"{revisions.project}/worker:{'f' * 12}") is None
