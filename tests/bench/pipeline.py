"""What the gates add to the bare work: submit to staged, beside the same build and the same test run without us."""

import time
from dataclasses import dataclass
from pathlib import Path

from supervisor.engine import Engine
from supervisor.images.contexts import patch_context
from supervisor.ledger import Ledger, Revision
from supervisor.specs import LABEL_PROJECT, LABEL_ROLE, WORKER_UID, gate_spec
from tests.bench.figures import Figure, kibibytes, seconds
from tests.support.checkouts import patch_of
from tests.support.installation import Installation

_SHARE, _AT_LEAST_SECONDS = 0.15, 1.5
_GROWTH_BYTES = 64 * 1024


@dataclass(frozen=True)
class _Round:
    """Times in seconds of one patch, gated and bare."""

    wall: float  # of `supervisor submit --wait`
    exam: float
    build: float
    tests: float
    bare_build: float
    bare_tests: float
    growth_bytes: int

    @property
    def gated(self) -> float:
        """The exam is counted apart."""
        return self.wall - self.exam

    @property
    def bare(self) -> float:
        return self.bare_build + self.bare_tests


def one_line(checkout: Path, text: str) -> tuple[str, str]:
    """The largest file of the worker, and the same with one more line."""
    file = max((checkout / "worker").rglob("*.py"), key=lambda path: path.stat().st_size)
    return file.relative_to(checkout).as_posix(), f"{file.read_text()}# {text}\n"


def measure(installation: Installation, engine: Engine, rounds: int) -> list[Figure]:
    """Figures of ``rounds`` patches; the order of gated and bare changes, so that neither has the warmer caches."""
    with Ledger.read_only(installation.paths.ledger) as ledger:
        base = ledger.good_revision()
    done = []
    for number in range(rounds):
        if number % 2:
            gated, bare = _gated(installation, number), _bare(installation, engine, base, number)
        else:
            bare, gated = _bare(installation, engine, base, number), _gated(installation, number)
        done.append(_Round(*gated[:4], *bare, growth_bytes=int(gated[4])))
    middle = sorted(done, key=lambda r: r.gated - r.bare)[len(done) // 2]
    allowed = max(middle.bare * _SHARE, _AT_LEAST_SECONDS)
    return [
        Figure(
            "submit to staged, beyond the bare build and test run",
            tuple(r.gated - r.bare for r in done),
            seconds,
            f"`submit --wait` without its exam, {seconds(middle.gated)}, less bare {seconds(middle.bare)}; of it build "
            f"{seconds(middle.build)} (bare {seconds(middle.bare_build)}), tests {seconds(middle.tests)} (bare "
            f"{seconds(middle.bare_tests)}), the rest {seconds(middle.gated - middle.build - middle.tests)}; limit: "
            f"15 % or {_AT_LEAST_SECONDS} s, whichever is more",
            limit=allowed,
        ),
        Figure("the exam", tuple(r.exam for r in done), seconds, "candidate, then base on the state it migrated"),
        Figure(
            "image growth of a one-line patch",
            tuple(float(r.growth_bytes) for r in done),
            kibibytes,
            "unique_bytes of the image; the line is in the worker's largest file",
            limit=_GROWTH_BYTES,
        ),
    ]


def _gated(installation: Installation, number: int) -> tuple[float, float, float, float, float]:
    path, text = one_line(installation.checkout, f"gated {number}")
    patch = patch_of(installation.checkout, {path: text})
    started = time.monotonic()
    tx = installation.stage(patch)
    wall = time.monotonic() - started
    update = installation.show(tx)
    exam, build, tests = (
        update[f"{step}_finished_at"] - update[f"{step}_started_at"] for step in ("self_check", "build", "test")
    )
    return wall, exam, build, tests, update["unique_bytes"]


def _bare(installation: Installation, engine: Engine, base: Revision, number: int) -> tuple[float, float]:
    """The same build request and the same tests in the same kind of container, straight at the engine."""
    project = installation.project
    path, text = one_line(installation.checkout, f"bare {number}")
    labels = {LABEL_PROJECT: project, LABEL_ROLE: "worker"}
    context = patch_context(base.image_id, {path: text.encode()}, labels)
    started = time.monotonic()
    image = engine.build(
        context, tag=f"{project}/bare:{number}", labels={}, network=False, log=lambda _: None, timeout=60
    )
    built = time.monotonic()
    spec = gate_spec(
        project=project,
        name=f"{project}-bare-{number}",
        image_id=image,
        uid=WORKER_UID,
        role="test",
        command=("python", "-m", "pytest", "-q", "-p", "no:cacheprovider", "--import-mode=importlib", "tests/worker"),
        environment={"PYTHONPATH": "/app", "HOME": "/tmp"},
    )
    container = engine.run(spec)
    code = engine.wait(container, timeout=300)
    tested = time.monotonic()
    assert code == 0, f"the bare test run ended with {code}:\n{engine.logs(container, tail=30)}"
    engine.remove(container)
    return built - started, tested - built
