"""Named places at which a test may end this process, or have it wait; in production each is a no-op.

``AUTONOUS_CRASH_FILE`` names a file that holds the name of a place, or a pattern of names. The first process that comes
by such a place removes the file and kills itself, as a power cut would; whoever is started next passes unharmed.

With ``hold `` before the name it waits there instead, for as long as the file says so; meanwhile the file beside it,
whose name ends in ``.held``, says where. Several lines are several places: so one thread may wait at the first of them
while another one comes by the second, and the process dies there.

The ledger's transactions (:mod:`supervisor.ledger.store`) and the engine's changing calls
(:mod:`supervisor.engine.gateway`) are such places, each by its name. Reads are none: nothing differs after them.
"""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

CRASH_FILE: Final = "AUTONOUS_CRASH_FILE"
HOLD: Final = "hold "
_LOOK_SECONDS: Final = 0.01


def crash_point(name: str) -> None:
    """A place of this name."""
    if (file := os.environ.get(CRASH_FILE)) is None:
        return
    bomb = Path(file)
    found = (line for line in _lines(bomb) if fnmatchcase(name, line.removeprefix(HOLD)))
    if (wanted := next(found, None)) is None:
        return
    if wanted.startswith(HOLD):
        _hold(name, bomb, wanted)
        return
    try:
        bomb.unlink()  # one process alone can do that
    except OSError:
        return
    os.kill(os.getpid(), signal.SIGKILL)


def held_at(file: Path) -> Path:
    """Where the name of the place stands at which somebody waits."""
    return file.with_name(f"{file.name}.held")


def _hold(name: str, file: Path, wanted: str) -> None:
    held_at(file).write_text(name)
    while wanted in _lines(file):
        time.sleep(_LOOK_SECONDS)


def _lines(file: Path) -> list[str]:
    try:
        return [line.strip() for line in file.read_text().splitlines()]
    except OSError:
        return []


@contextmanager
def around(name: str) -> Iterator[None]:
    """Two places: before what is done inside, and after it succeeded."""
    crash_point(f"{name}.before")
    yield
    crash_point(f"{name}.after")
