"""One supervisor for one home: an advisory lock that the kernel drops with the process."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class HomeInUse(Exception):
    """Another supervisor runs on this home; the message is one line for the user."""


@contextmanager
def home_lock(path: Path) -> Iterator[None]:
    """Hold the home, or raise HomeInUse."""
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise HomeInUse(f"a supervisor (process {owner(path)}) runs on {path.parent} already") from None
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


def owner(path: Path) -> str:
    """The process that wrote itself into the lock, alive or not."""
    try:
        return path.read_text().strip() or "unknown"
    except OSError:
        return "unknown"


def held(path: Path) -> bool:
    """Whether a supervisor runs on this home now."""
    try:
        with path.open("r") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            return False
    except OSError:
        return False
