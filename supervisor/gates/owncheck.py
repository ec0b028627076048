"""The owner's own check: one more command, run in the candidate after the exam, with no network and no secret."""

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from supervisor.engine import Engine
from supervisor.gates import untrusted
from supervisor.gates.exam import Part
from supervisor.gates.testrun import Cancelled
from supervisor.specs import gate_spec

NAME: Final = "your own check"
_LOOK_SECONDS: Final = 0.5
_LONGEST_DETAIL: Final = 300
_LOG_LINES: Final = 400


@dataclass(frozen=True)
class OwnCheck:
    """Runs ``command`` by a shell in the source's directory; exit code 0 passes. Without a command it is not asked."""

    engine: Engine
    project: str
    uid: int
    command: str

    def run(self, image_id: str, *, seconds: float, cancelled: Callable[[], bool]) -> tuple[Part, str] | None:
        """How it went within the time, and what was printed. Raises EngineError, Cancelled."""
        if not self.command:
            return None
        spec = gate_spec(
            project=self.project,
            name=f"{self.project}-check-{secrets.token_hex(4)}",
            image_id=image_id,
            uid=self.uid,
            role="check",
            command=("sh", "-c", self.command),
        )
        started = time.monotonic()
        try:
            container = self.engine.run(spec)
            code = self._exit_code(container, started + seconds, cancelled)
            printed = untrusted.tail(self.engine.logs(container, tail=_LOG_LINES), untrusted.LONGEST_LOG)
        finally:
            self.engine.remove(spec.name)
        detail = "" if code == 0 else f"it did not end within {seconds:g} s" if code is None else f"exit code {code}"
        last = printed.strip().rpartition("\n")[2]
        told = untrusted.line(f"{detail}: {last}" if detail and last else detail, _LONGEST_DETAIL)
        return Part(NAME, passed=not detail, detail=told, seconds=round(time.monotonic() - started, 3)), printed

    def _exit_code(self, container: str, deadline: float, cancelled: Callable[[], bool]) -> int | None:
        while (code := self.engine.wait(container, timeout=_LOOK_SECONDS)) is None:
            if cancelled():
                raise Cancelled
            if time.monotonic() > deadline:
                return None
        return code
