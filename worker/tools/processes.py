"""Ending a process with everything below it, by what ``/proc`` shows. Linux alone."""

import ctypes
import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

_PR_SET_CHILD_SUBREAPER: Final = 36
#: How often a tree is looked at again: each look stops what the one before has missed.
_LOOKS: Final = 200
_LOOK_SECONDS: Final = 0.01


def adopt_orphans() -> None:
    """Processes below this one whose parents end become its children, as those of process 1 do."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def descendants(pid: int) -> list[int]:
    """The living processes below ``pid``, whatever session and group they have made their own."""
    children: dict[int, list[int]] = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdecimal():
            with suppress(OSError, IndexError, ValueError):
                # "pid (name) state ppid ...": the name may hold anything, a parenthesis too
                state, parent = Path(entry.path, "stat").read_bytes().rpartition(b")")[2].split()[:2]
                if state != b"Z":
                    children.setdefault(int(parent), []).append(int(entry.name))
    found: list[int] = []
    frontier = [pid]
    while frontier:
        below = children.get(frontier.pop(), ())
        found.extend(below)
        frontier.extend(below)
    return found


def terminate_below(pid: int) -> None:
    """Ask everything below ``pid`` to end."""
    for below in descendants(pid):
        _send(below, signal.SIGTERM)


def kill_below(pid: int) -> None:
    """End everything below ``pid`` at once, also what forks as fast as it can: first all is stopped, then killed."""
    stopped: set[int] = set()
    for _ in range(_LOOKS):
        running = [below for below in descendants(pid) if below not in stopped]
        if not running:
            break
        for below in running:
            _send(below, signal.SIGSTOP)
        stopped.update(running)
    for _ in range(_LOOKS):
        below_now = descendants(pid)
        if not below_now:
            return
        for below in below_now:
            _send(below, signal.SIGKILL)
        time.sleep(_LOOK_SECONDS)


def _send(pid: int, signum: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signum)
