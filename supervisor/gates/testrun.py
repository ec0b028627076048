"""One run of pytest inside a candidate's container, and its report."""

import json
import os
import secrets
import shutil
import stat
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final

from supervisor.engine import Engine
from supervisor.paths import give
from supervisor.specs import Mount, gate_spec

_TRUSTED: Final = Path(__file__).parent / "trusted"
_LARGEST_REPORT_BYTES: Final = 16 * 1024 * 1024
_LOOK_SECONDS: Final = 1.0


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
    """What came out of one run. ``trouble`` says in one line why the run as a whole cannot be trusted."""

    collected: frozenset[str] = frozenset()
    outcomes: Mapping[str, Outcome] = field(default_factory=dict)
    failures: Mapping[str, str] = field(default_factory=dict)
    trouble: str = ""
    log: str = ""
    seconds: float = 0.0

    def count(self, *outcomes: Outcome) -> int:
        """How many tests ended so."""
        return sum(outcome in outcomes for outcome in self.outcomes.values())


@dataclass(frozen=True)
class TestRunner:
    """Runs tests in containers of one installation. ``directory`` is private to the supervisor."""

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
                    "GATE_REPORT": "/report/report.jsonl",
                    "HOME": "/tmp",  # noqa: S108 - inside the container
                },
                mounts=mounts,
            )
            return self._execute(spec.name, self.engine.run(spec), scratch, timeout, cancelled)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

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
            log = self.engine.logs(container, tail=400)
        finally:
            self.engine.remove(name)
        seconds = time.monotonic() - started
        return parse_report(scratch / "report" / "report.jsonl", trouble=trouble, log=log, seconds=seconds)

    def _prepare(self, scratch: Path, tests: Mapping[str, bytes] | None) -> tuple[Mount, ...]:
        gate, report = scratch / "gate", scratch / "report"
        for directory in (scratch, gate, report):
            directory.mkdir(parents=True)
        # Copies, since the checkout may be closed to the user that containers run as.
        for name in ("pytest.ini", "gate_report.py"):
            shutil.copy(_TRUSTED / name, gate / name)
            (gate / name).chmod(0o644)
        gate.chmod(0o755)
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
    collected: set[str] = set()
    outcomes: dict[str, Outcome] = {}
    failures: dict[str, str] = {}
    finished = False
    try:
        text = _read_untrusted(path).decode()
        for line in map(json.loads, text.splitlines()):
            if "collected" in line:
                collected.update(map(str, line["collected"]))
            elif "finished" in line:
                finished = True
            else:
                _note(line, outcomes, failures)
    except FileNotFoundError:
        trouble = trouble or "the tests left no report"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        trouble = trouble or f"the report cannot be read: {error}"
    if not finished:
        trouble = trouble or "the test run was cut short before its end"
    missing = collected - outcomes.keys()
    if missing:
        trouble = trouble or f"tests_missing: {len(missing)} of {len(collected)} tests did not run"
    return Report(frozenset(collected), outcomes, failures, trouble, log, seconds)


def _read_untrusted(path: Path) -> bytes:
    """A plain file's content: what lies there may be a link to somewhere else, or a pipe that never ends."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as report:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError("it is not a file")
        return report.read(_LARGEST_REPORT_BYTES)


def _note(line: dict[str, object], outcomes: dict[str, Outcome], failures: dict[str, str]) -> None:
    node, outcome = str(line["id"]), Outcome(str(line["outcome"]))
    # A test that passed and whose tear-down failed is an error; a later "passed" never covers a failure.
    if outcomes.get(node) in (Outcome.FAILED, Outcome.ERROR):
        return
    outcomes[node] = outcome
    if line.get("text"):
        failures[node] = str(line["text"])


def _targets(only: Iterable[str]) -> list[str]:
    # Absolute paths, so that a name is never read as an option.
    return [f"/app/{target}" for target in sorted(only)] or ["/app/tests/worker"]
