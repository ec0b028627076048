"""The process that one exam is held in: ``python -m supervisor.gates.examroom``, started by the supervisor.

It takes one line of JSON, an :class:`Order`, and says on standard output how the exam goes, one JSON object a line:

| line              | meaning                                                              |
|-------------------|----------------------------------------------------------------------|
| ``{"begins": name}`` | this part is asked now                                            |
| ``{"part": {...}}``  | this part is over                                                 |
| ``{"log": text}``    | the exam has been held; what the candidate printed                |
| ``{"engine": text}`` | it could not be held, as the engine did not do what it was asked  |

It ends with its input, with its time, and with its memory. Without the ``log`` line the exam was not held to its end.
"""

import json
import os
import resource
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, TextIO

from supervisor.engine import Engine, EngineError
from supervisor.gates.exam import Candidate, Examiner, Part
from supervisor.gates.testrun import Cancelled
from supervisor.specs import MIB

_MEMORY_BYTES: Final = 768 * MIB  # of addresses; what is really used stays far below
_OPEN_FILES: Final = 1024


@dataclass(frozen=True)
class Order:
    """Whom to examine, where, and for how long at most. ``room`` is made and removed again."""

    project: str
    uid: int
    room: str
    image_id: str
    sha: str
    state: str
    epoch: int
    waived: tuple[str, ...]
    seconds: float

    def encoded(self) -> bytes:
        """As the line that the process reads."""
        return json.dumps(asdict(self)).encode() + b"\n"


def main() -> int:
    """Hold one exam; the exit code is 0 when it could be told how it went."""
    # The words for the supervisor go where nothing else that prints can get between them.
    with os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8") as out:
        os.dup2(2, 1)
        given = sys.stdin.buffer.readline()
        if not given:
            return 0
        order = Order(**json.loads(given))
        _limit_itself(order.seconds)
        try:
            _hold(order, _end_of_input(), out)
        except Cancelled:
            return 0
        except EngineError as error:
            _say(out, {"engine": str(error)})
    return 0


def _hold(order: Order, cancelled: Callable[[], bool], out: TextIO) -> None:
    def note(what: str | Part) -> None:
        _say(out, {"part": asdict(what)} if isinstance(what, Part) else {"begins": what})

    result = Examiner(Engine(), order.project, order.uid).examine(
        Candidate(order.image_id, order.sha, Path(order.state), order.epoch),
        Path(order.room),
        waived=frozenset(order.waived),
        cancelled=cancelled,
        note=note,
    )
    _say(out, {"log": result.log})


def _say(out: TextIO, words: dict[str, object]) -> None:
    out.write(json.dumps(words) + "\n")


def _limit_itself(seconds: float) -> None:
    for kind, limit in (
        (resource.RLIMIT_AS, _MEMORY_BYTES),
        (resource.RLIMIT_NOFILE, min(_OPEN_FILES, resource.getrlimit(resource.RLIMIT_NOFILE)[1])),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(kind, (limit, limit))
    signal.setitimer(signal.ITIMER_REAL, seconds)  # nobody handles its signal, so that it ends the process


def _end_of_input() -> Callable[[], bool]:
    """Whether the supervisor has let go of this process, or is gone itself."""
    ended = threading.Event()

    def wait() -> None:
        while os.read(0, 1):
            pass
        ended.set()

    threading.Thread(target=wait, daemon=True).start()
    return ended.is_set


if __name__ == "__main__":
    code = 1
    try:
        code = main()
    except BaseException:  # the last one to be told of it
        traceback.print_exc()
    # At once: threads that answer a candidate are not waited for.
    sys.stderr.flush()
    os._exit(code)
