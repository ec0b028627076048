"""Named places at which a test may end this process; in production each is a no-op.

``AUTONOUS_CRASH_FILE`` names a file that holds the name of a place, or a pattern of names. The first process that comes
by such a place removes the file and kills itself, as a power cut would; whoever is started next passes unharmed.

The ledger's transactions (:mod:`supervisor.ledger.store`) and the engine's changing calls
(:mod:`supervisor.engine.gateway`) are such places, each by its name. Reads are none: nothing differs after them.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

CRASH_FILE: Final = "AUTONOUS_CRASH_FILE"


def crash_point(name: str) -> None:
    """A place of this name."""
    if (file := os.environ.get(CRASH_FILE)) is None:
        return
    try:
        wanted = Path(file).read_text().strip()
        if not fnmatchcase(name, wanted):
            return
        Path(file).unlink()  # one process alone can do that
    except OSError:
        return
    os.kill(os.getpid(), signal.SIGKILL)


@contextmanager
def around(name: str) -> Iterator[None]:
    """Two places: before what is done inside, and after it succeeded."""
    crash_point(f"{name}.before")
    yield
    crash_point(f"{name}.after")
