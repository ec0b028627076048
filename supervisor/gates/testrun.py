"""One run of pytest inside a candidate's container, and its report."""

import json
import os
import secrets
import shutil
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO, Final

from supervisor.engine import Engine
from supervisor.gates import untrusted
from supervisor.paths import give
from supervisor.removal import remove_tree
from supervisor.specs import MIB, Mount, gate_spec

LONGEST_NODE_ID: Final = 300
_TRUSTED: Final = Path(__file__).parent / "trusted"
_LOOK_SECONDS: Final = 1.0
#: What a test may write to one file, the report on the host's disk among them.
_LARGEST_FILE_BYTES: Final = 64 * MIB
_LARGEST_REPORT_BYTES: Final = 16 * MIB
_LONGEST_LINE_BYTES: Final = MIB
_MOST_TESTS: Final = 20_000
_MOST_TEXTS: Final = 500
_LONGEST_TEXT: Final = 4000
_LONGEST_TROUBLE: Final = 300


class Cancelled(Exception):
    """The update was cancelled while a gate was at work."""


class Outcome(StrEnum):
    """How one test ended."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"
    ERROR = "error"


@dataclass(frozen=True)
class Report:
    """What came out of one run. ``trouble`` says in one line why the run as a whole cannot be trusted.

    ``unsteady`` are tests that count as passed, and did so at a second try only.
    """

    collected: frozenset[str] = frozenset()
    outcomes: Mapping[str, Outcome] = field(default_factory=dict)
    failures: Mapping[str, str] = field(default_factory=dict)
    trouble: str = ""
    log: str = ""
    seconds: float = 0.0
    unsteady: frozenset[str] = frozenset()

    def count(self, *outcomes: Outcome) -> int:
        """How many tests ended so."""
        return sum(outcome in outcomes for outcome in self.outcomes.values())


@dataclass(frozen=True)
class TestRunner:
    """Runs tests in containers of one installation, one run at a time. ``directory`` is for nothing else."""

    __test__ = False  # not a test class, whatever pytest thinks of its name

    engine: Engine
    project: str
    uid: int
    directory: Path

    def run(
        self,
        image_id: str,
        *,
        tests: Mapping[str, bytes] | None = None,
        only: Iterable[str] = (),
        timeout: float,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> Report:
        """Run the image's own ``tests/worker``, or ``tests`` in their place (path to content).

        ``only`` are files or node ids to run. ``timeout`` in seconds. Raises EngineError, Cancelled.
        """
        remove_tree(self.directory)  # what one that was killed has left
        scratch = self.directory / secrets.token_hex(6)
        try:
            mounts = self._prepare(scratch, tests)
            spec = gate_spec(
                project=self.project,
                name=f"{self.project}-test-{scratch.name}",
                image_id=image_id,
                uid=self.uid,
                role="test",
                command=("python", "-m", "pytest", "-c", "/gate/pytest.ini", "--rootdir=/app", *_targets(only)),
                environment={
                    "PYTHONPATH": "/app:/gate",
                    "GATE_REPORT": "/report",
                    "HOME": "/tmp",  # noqa: S108 - inside the container
                },
                mounts=mounts,
            )
            spec = replace(spec, limits=replace(spec.limits, file_size=_LARGEST_FILE_BYTES))
            return self._execute(spec.name, self.engine.run(spec), scratch, timeout, cancelled)
        finally:
            remove_tree(scratch)

    def _execute(
        self, name: str, container: str, scratch: Path, timeout: float, cancelled: Callable[[], bool]
    ) -> Report:
        started = time.monotonic()
        trouble = ""
        try:
            while (code := self.engine.wait(container, timeout=_LOOK_SECONDS)) is None:
                if cancelled():
                    raise Cancelled
                if time.monotonic() - started > timeout:
                    self.engine.kill(container)
                    trouble = f"the tests did not end within {timeout:.0f} s"
                    break
            view = self.engine.inspect(container)
            if view is not None and view.oom_killed:
                trouble = trouble or f"the tests ran out of memory (exit code {code})"
            log = untrusted.tail(self.engine.logs(container, tail=400), untrusted.LONGEST_LOG)
        finally:
            self.engine.remove(name)
        seconds = time.monotonic() - started
        return parse_report(scratch / "report", trouble=trouble, log=log, seconds=seconds)

    def _prepare(self, scratch: Path, tests: Mapping[str, bytes] | None) -> tuple[Mount, ...]:
        gate, report = scratch / "gate", scratch / "report"
        gate.mkdir(parents=True)
        # Copies, since the checkout may be closed to the user that containers run as.
        for name in ("pytest.ini", "gate_report.py"):
            shutil.copy(_TRUSTED / name, gate / name)
            (gate / name).chmod(0o644)
        gate.chmod(0o755)
        # One file and no directory: all that a test can put on the host's disk has the size of this one.
        report.touch(mode=0o600)
        give(report, self.uid)
        mounts = (Mount(gate, "/gate", read_only=True), Mount(report, "/report"))
        if tests is None:
            return mounts
        other = scratch / "tests"
        for path, content in tests.items():
            target = other / Path(path).relative_to("tests/worker")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
            target.chmod(0o644)
        for directory in (other, *(p for p in other.rglob("*") if p.is_dir())):
            directory.chmod(0o755)
        return (*mounts, Mount(other, "/app/tests/worker", read_only=True))


def parse_report(path: Path, *, trouble: str = "", log: str = "", seconds: float = 0.0) -> Report:
    """Read a report that untrusted code may have written: anything odd in it becomes ``trouble``."""
    reading = _Reading()
    try:
        with _open_untrusted(path) as report:
            reading.read(report)
    except FileNotFoundError:
        trouble = trouble or "the tests left no report"
    except Exception as error:  # what a report can provoke has no end, and is all the same
        trouble = trouble or untrusted.line(
            f"the report cannot be read: {error or type(error).__name__}", _LONGEST_TROUBLE
        )
    if reading.size == 0:
        trouble = trouble or "the tests left no report"
    if not reading.finished:
        trouble = trouble or "the test run was cut short before its end"
    missing = reading.collected - reading.outcomes.keys()
    if missing:
        trouble = trouble or f"tests_missing: {len(missing)} of {len(reading.collected)} tests did not run"
    return Report(frozenset(reading.collected), reading.outcomes, reading.failures, trouble, log, seconds)


@contextmanager
def _open_untrusted(path: Path) -> Iterator[BinaryIO]:
    """A plain file: what lies there may be a link to somewhere else, or a pipe that never ends."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as report:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError("it is not a file")
        yield report


class _Reading:
    """A report line by line, so that what it grows to in memory has a limit. Raises what its lines provoke."""

    def __init__(self) -> None:
        self.size = 0
        self.collected: set[str] = set()
        self.outcomes: dict[str, Outcome] = {}
        self.failures: dict[str, str] = {}
        self.finished = False

    def read(self, report: BinaryIO) -> None:
        while text := report.readline(_LONGEST_LINE_BYTES):
            self.size += len(text)
            if self.size > _LARGEST_REPORT_BYTES:
                raise ValueError(f"the tests wrote too much, more than {_LARGEST_REPORT_BYTES // MIB} MiB")
            self._note(json.loads(text.decode()))
            if max(len(self.collected), len(self.outcomes)) > _MOST_TESTS:
                raise ValueError(f"it names more than {_MOST_TESTS} tests")

    def _note(self, line: dict[str, object]) -> None:
        match line:
            case {"collected": list(nodes)}:
                self.collected.update(_node_id(node) for node in nodes)
            case {"finished": _}:
                self.finished = True
            case {"id": node, "outcome": outcome}:
                self._note_outcome(_node_id(node), Outcome(str(outcome)), line.get("text"))
            case _:
                raise ValueError("a line that is no part of one")

    def _note_outcome(self, node: str, outcome: Outcome, text: object) -> None:
        # A test that passed and whose tear-down failed is an error; a later "passed" never covers a failure.
        if self.outcomes.get(node) in (Outcome.FAILED, Outcome.ERROR):
            return
        self.outcomes[node] = outcome
        if isinstance(text, str) and text and len(self.failures) < _MOST_TEXTS:
            self.failures[node] = untrusted.tail(text, _LONGEST_TEXT)


def _node_id(node: object) -> str:
    if not isinstance(node, str):
        raise TypeError("a test's name is no text")
    return untrusted.name(node, LONGEST_NODE_ID)


def _targets(only: Iterable[str]) -> list[str]:
    # Absolute paths, so that a name is never read as an option.
    return [f"/app/{target}" for target in sorted(only)] or ["/app/tests/worker"]
