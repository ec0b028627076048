"""The tests as a gate, with real candidates in real containers: who is excused, and who only tries to be."""

import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from supervisor.engine import Engine
from supervisor.gates.judgement import Verdict
from supervisor.gates.testgate import TestGate
from supervisor.gates.testrun import TestRunner
from supervisor.images.builds import Deps, build_revision
from supervisor.specs import LABEL_PROJECT, WORKER_UID
from tests.support.projects import new_project

BASE = {
    "worker/__init__.py": b"",
    "worker/numbers.py": b"EVEN = (2, 4)\nODD = 1\nBROKEN = True\n",
    "tests/worker/test_numbers.py": (
        b"import pytest\nfrom worker import numbers\n\n\n"
        b"@pytest.mark.parametrize('n', numbers.EVEN)\ndef test_even(n: int) -> None:\n    assert n % 2 == 0\n\n\n"
        b"def test_odd() -> None:\n    assert numbers.ODD % 2\n\n\n"
        b"def test_that_base_fails() -> None:\n    assert not numbers.BROKEN\n"
    ),
    "tests/worker/test_another.py": b"def test_another() -> None:\n    assert 1\n",
}
NUMBERS = "tests/worker/test_numbers.py"
CODE = "worker/numbers.py"


class Gate:
    """Judges candidates against one base."""

    def __init__(self, engine: Engine, deps: Deps, directory: Path) -> None:
        self.project = new_project()
        self._engine = engine
        self._deps = deps
        self._runner = TestRunner(engine, self.project, WORKER_UID, directory)
        self._base = self._build(BASE)

    def judge(self, changed: Mapping[str, bytes], *, seconds: float = 60) -> Verdict:
        candidate = {**BASE, **changed}
        gate = TestGate(self._runner, left=lambda: seconds, cancelled=lambda: False)
        verdict, _ = gate.judge(
            self._build(candidate), base_image_id=self._base, own_tests=its_tests(candidate), base_tests=its_tests(BASE)
        )
        return verdict

    def _build(self, files: Mapping[str, bytes]) -> str:
        return build_revision(
            self._engine,
            project=self.project,
            deps_image_id=self._deps.image_id,
            sha=uuid.uuid4().hex,
            base_sha=None,
            tx_id="tx",
            files=files,
            trunk=None,
            created=0,
            log=lambda _line: None,
            timeout=60,
        ).image_id


def its_tests(files: Mapping[str, bytes]) -> dict[str, bytes]:
    return {path: content for path, content in files.items() if path.startswith("tests/")}


@pytest.fixture(scope="module")
def gate(engine: Engine, deps: Deps, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    made = Gate(engine, deps, tmp_path_factory.mktemp("gate"))
    yield made
    for view in engine.containers(made.project):
        engine.remove(view.id)
    for image in engine.images({LABEL_PROJECT: made.project}):
        engine.remove_image(image.id)


def test_what_base_fails_too_is_excused(gate: Gate) -> None:
    """The candidate did not break it, so it does not gate; it is told."""
    verdict = gate.judge({CODE: BASE[CODE] + b"MORE = 3\n"})
    assert verdict.passed, verdict.reason
    assert verdict.summary["failing_on_base_too"] == [f"{NUMBERS}::test_that_base_fails"]


def test_what_base_passes_gates(gate: Gate) -> None:
    """A failure of the candidate's own, beside one of base's."""
    verdict = gate.judge({CODE: BASE[CODE].replace(b"ODD = 1", b"ODD = 2")})
    assert list(verdict.failing) == [f"{NUMBERS}::test_odd"]


def test_a_case_that_base_does_not_have_excuses_nothing(gate: Gate) -> None:
    """The parameters come from the candidate: neither the new case nor the failure beside it is excused."""
    verdict = gate.judge({CODE: BASE[CODE].replace(b"(2, 4)", b"(2, 4, 5)").replace(b"ODD = 1", b"ODD = 2")})
    assert sorted(verdict.failing) == [f"{NUMBERS}::test_even[5]", f"{NUMBERS}::test_odd"]


def test_fewer_cases_than_base_has(gate: Gate) -> None:
    """A test that is left without any case did not run."""
    verdict = gate.judge({CODE: BASE[CODE].replace(b"(2, 4)", b"()")})
    assert not verdict.passed
    assert "test_even" in verdict.reason


def test_a_process_that_leaves_early(gate: Gate) -> None:
    """Exit code 0 and silence are no report."""
    verdict = gate.judge({CODE: b"import os\nos._exit(0)\n"})
    assert not verdict.passed


@pytest.mark.fault(
    23,
    what="ended; it counts against the patch",
    user="`test_failed` with the reason",
    within="the pipeline's time-out",
)
def test_tests_that_hang(gate: Gate) -> None:
    """They are ended in time, and told as what they are."""
    verdict = gate.judge({CODE: b"import time\ntime.sleep(600)\n"}, seconds=4)
    assert not verdict.passed
    assert "did not end within 4 s" in verdict.reason


@pytest.mark.fault(23)
def test_tests_that_need_too_much_memory(gate: Gate) -> None:
    """The limit is theirs alone, and it is told as what it was."""
    verdict = gate.judge({CODE: b"hog = bytearray(2_000_000_000)\n"})
    assert not verdict.passed
    assert "ran out of memory (exit code 137)" in verdict.reason


@pytest.mark.fault(23)
def test_tests_that_flood_the_log(gate: Gate) -> None:
    """What is kept of it is small."""
    verdict = gate.judge({CODE: BASE[CODE] + b"import os\nos.write(2, b'flood ' * 10_000_000)\n"})
    assert verdict.passed, verdict.reason
    assert len(str(verdict)) < 1_000_000


def test_tests_that_look_for_keys_and_hosts(gate: Gate) -> None:
    """There is nothing in their environment and nobody to tell."""
    look = (
        b"import os, socket\n\n\ndef test_look() -> None:\n"
        b"    assert not [name for name in os.environ if 'KEY' in name or 'TOKEN' in name]\n"
        b"    assert [name for _, name in socket.if_nameindex()] == ['lo']\n"
        b"    assert not os.path.exists('/state') and not os.path.exists('/run/autonous')\n"
    )
    verdict = gate.judge({"tests/worker/test_look.py": look})
    assert verdict.passed, verdict.failing
