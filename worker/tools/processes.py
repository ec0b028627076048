"""Ending a process with everything below it, by what ``/proc`` shows. Linux alone."""

import ctypes
import errno
import os
import signal
import time
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Final

_PR_SET_CHILD_SUBREAPER: Final = 36
#: How often a tree is looked at again: each look stops what the one before has missed.
_LOOKS: Final = 200
_LOOK_SECONDS: Final = 0.01
#: What a start of a process fails with where there are too many.
NO_ROOM: Final = (errno.EAGAIN, errno.ENOMEM)


def adopt_orphans() -> None:
    """Processes below this one whose parents end become its children, as those of process 1 do."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def end_first_when_memory_runs_out() -> None:
    """The kernel takes this process, and what it will start, before any other of the container."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def room(groups: Path = Path("/sys/fs/cgroup")) -> int | None:
    """How many more processes the container may have; None where nothing limits them, or nobody says how."""
    for group in (groups, groups / "pids"):  # cgroup v2, v1
        with suppress(OSError, ValueError):
            return int((group / "pids.max").read_text()) - int((group / "pids.current").read_text())
    return None


def descendants(pid: int, spare: Collection[int] = ()) -> list[int]:
    """The living processes below ``pid``, whatever session and group they have made their own.

    Those of ``spare`` are left out, with everything below them.
    """
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
        below = [child for child in children.get(frontier.pop(), ()) if child not in spare]
        found.extend(below)
        frontier.extend(below)
    return found


def terminate_below(pid: int) -> None:
    """Ask everything below ``pid`` to end."""
    for below in descendants(pid):
        _send(below, signal.SIGTERM)


def kill_below(pid: int, spare: Collection[int] = ()) -> None:
    """End everything below ``pid`` at once, also what forks as fast as it can: first all is stopped, then killed.

    Those of ``spare`` stay, with everything below them.
    """
    stopped: set[int] = set()
    for _ in range(_LOOKS):
        running = [below for below in descendants(pid, spare) if below not in stopped]
        if not running:
            break
        for below in running:
            _send(below, signal.SIGSTOP)
        stopped.update(running)
    for _ in range(_LOOKS):
        below_now = descendants(pid, spare)
        if not below_now:
            return
        for below in below_now:
            _send(below, signal.SIGKILL)
        time.sleep(_LOOK_SECONDS)


def _send(pid: int, signum: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signum)
