"""One supervisor for one home: an advisory lock that the kernel drops with the process.

The file carries the number of the process that holds it. A process that ends because it was told to wipes its number
off; one that still stands there after its end has died.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

# Whoever looks whether the lock is held has it for an instant, and must not be taken for its holder.
_LOOKERS_SECONDS: Final = 0.2
_RETRY_SECONDS: Final = 0.01


class HomeInUse(Exception):
    """Another process holds this home; the message is one line for the user."""


@contextmanager
def home_lock(path: Path, holder: str = "a supervisor") -> Iterator[None]:
    """Hold the home, or raise HomeInUse, which calls the one that does ``holder``."""
    with path.open("a+") as file:
        if not _taken(file.fileno()):
            raise HomeInUse(f"{holder} (process {owner(path)}) runs on {path.parent} already")
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


@contextmanager
def one_at_a_time(path: Path) -> Iterator[None]:
    """Wait until nobody else is inside, and be the one who is."""
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def sign_off(path: Path) -> None:
    """Note, while holding the lock, that this process ends because it was told to."""
    path.write_text("")


def died(path: Path) -> bool:
    """Whether the process that held the lock last ended without having been told to."""
    return not held(path) and owner(path) != "unknown"


def owner(path: Path) -> str:
    """The process that wrote itself into the lock, alive or not."""
    try:
        return path.read_text().strip() or "unknown"
    except OSError:
        return "unknown"


def held(path: Path) -> bool:
    """Whether a process holds this lock now."""
    try:
        with path.open("r") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            return False
    except OSError:
        return False


def _taken(descriptor: int) -> bool:
    deadline = time.monotonic() + _LOOKERS_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(_RETRY_SECONDS)
        else:
            return True
