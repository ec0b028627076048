"""Keeps a supervisor running where no service manager does: ``python -m supervisor.keeper [HOME]``.

The keeper watches the lock of the home, so it does not matter who started the supervisor. One that died is started
again; when one ends because it was told to, so does its keeper. SIGTERM ends the supervisor and then the keeper,
SIGUSR1 the keeper alone; workers go on either way. Standard library only, as it lives as long as the installation.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from supervisor.homelock import HomeInUse, died, held, home_lock, owner, sign_off
from supervisor.logfile import rotate
from supervisor.paths import Paths

SUPERVISOR: Final = (sys.executable, "-m", "supervisor", "run")

_TAKE_ALONG: Final = (signal.SIGTERM, signal.SIGINT)
_ORDERS: Final = (*_TAKE_ALONG, signal.SIGUSR1)
_LEAVE_SECONDS: Final = 5.0
_END_SECONDS: Final = 90.0
_START_SECONDS: Final = 10.0
_POLL_SECONDS: Final = 0.05


@dataclass(frozen=True)
class Pace:
    """How soon a supervisor that died is started again. Times in seconds."""

    shortest: float = 0.5
    longest: float = 30.0
    steady: float = 60.0  # one that lived for this long starts the count anew
    look: float = 0.25


_IN_SERVICE: Final = Pace()


class Keeper:
    """Starts the supervisor of one home whenever it has died, until a signal says otherwise."""

    def __init__(self, paths: Paths, *, command: Sequence[str] = SUPERVISOR, pace: Pace = _IN_SERVICE) -> None:
        self._paths = paths
        self._command = command
        self._pace = pace
        self._order: int | None = None
        self._child: subprocess.Popen[bytes] | None = None

    def keep(self) -> None:
        """Return when the supervisor has ended as it was told to, or on a signal.

        Raises HomeInUse.
        """
        signal.pthread_sigmask(signal.SIG_BLOCK, _ORDERS)  # they are waited for
        with home_lock(self._paths.keeper_lock, "a keeper"):
            if not self._supervised():
                self._start()
            wait = self._pace.shortest
            while True:
                began = time.monotonic()
                if not self._has_died():
                    break
                if time.monotonic() - began > self._pace.steady:
                    wait = self._pace.shortest
                _say(f"the supervisor (process {owner(self._paths.lock)}) has died; another one starts in {wait:g} s")
                if self._told(wait):
                    break
                wait = min(2 * wait, self._pace.longest)
                if not self._supervised():
                    self._start()
            if self._order in _TAKE_ALONG:
                self._end_supervisor()
            sign_off(self._paths.keeper_lock)

    def _has_died(self) -> bool:
        """Wait for the supervisor's end; whether it ended without having been told to."""
        while self._supervised():
            if self._told(self._pace.look):
                return False
        return died(self._paths.lock)

    def _told(self, seconds: float) -> bool:
        """Wait for a signal, at most so long; whether there was one."""
        if self._order is None and (found := signal.sigtimedwait(_ORDERS, seconds)):
            self._order = found.si_signo
        return self._order is not None

    def _supervised(self) -> bool:
        if self._child is not None and self._child.poll() is None:
            return True
        # One that starts anew within its own process is without the lock for a moment.
        return held(self._paths.lock) or _is_supervisor(owner(self._paths.lock))

    def _start(self) -> None:
        rotate(self._paths.supervisor_log)
        with self._paths.supervisor_log.open("ab") as log:
            self._child = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd="/",
                preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_UNBLOCK, _ORDERS),  # noqa: PLW1509 - one thread
                env={**os.environ, "AUTONOUS_HOME": str(self._paths.home), "PYTHONUNBUFFERED": "1"},
            )

    def _end_supervisor(self) -> None:
        if self._child is not None and self._child.poll() is None and not held(self._paths.lock):
            self._child.terminate()  # it is only just starting
            with suppress(subprocess.TimeoutExpired):
                self._child.wait(_END_SECONDS)
        end_supervisor(self._paths)


def renew(paths: Paths) -> bool:
    """Put a keeper with the environment and the code of now in the place of one that may be there.

    The supervisor notices nothing. Returns whether the new one keeps.
    """
    if held(paths.keeper_lock):
        _signal_holder(paths.keeper_lock, signal.SIGUSR1)
        _until_free(paths.keeper_lock, _LEAVE_SECONDS)
    with paths.supervisor_log.open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "supervisor.keeper", str(paths.home)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd="/",
        )
    deadline = time.monotonic() + _START_SECONDS
    while not held(paths.keeper_lock):
        if process.poll() is not None or time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def stop(paths: Paths) -> None:
    """End the keeper, and the supervisor that it may be starting just now."""
    if held(paths.keeper_lock):
        _signal_holder(paths.keeper_lock, signal.SIGTERM)
        _until_free(paths.keeper_lock, _END_SECONDS)


def runs_in_terminal(paths: Paths) -> bool:
    """Whether the supervisor of this home has a terminal, and with it somebody who looks after it."""
    try:
        stat = Path(f"/proc/{int(owner(paths.lock))}/stat").read_text()
    except (OSError, ValueError):
        return False
    # The name, in brackets, may hold anything; the terminal is the fifth word after it.
    return stat.rpartition(")")[2].split()[4] != "0"


def end_supervisor(paths: Paths) -> None:
    """End the supervisor that holds this home, whoever started it; workers go on."""
    _signal_holder(paths.lock, signal.SIGTERM)
    _until_free(paths.lock, _END_SECONDS)


def _until_free(lock: Path, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while held(lock) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)


def _signal_holder(lock: Path, number: signal.Signals) -> None:
    if held(lock):
        with suppress(ValueError, ProcessLookupError):
            os.kill(int(owner(lock)), number)


def _is_supervisor(pid: str) -> bool:
    """Whether a process of this number runs ``supervisor run``."""
    try:
        words = Path(f"/proc/{int(pid)}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError):
        return False
    return words[-2:-1] == [b"run"] and any(word.endswith(b"supervisor") for word in words)


def _say(line: str) -> None:
    with suppress(OSError):  # a full disk must not end it
        print(f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} keeper: {line}", file=sys.stderr, flush=True)  # noqa: T201


def main(arguments: Sequence[str]) -> int:
    """Keep the supervisor of the home that is named, or of the one that the settings name; the exit code."""
    if arguments:
        paths = Paths(Path(arguments[0]))
    else:
        from supervisor import settings as settings_module

        settings = settings_module.load()
        paths = settings.paths
        paths.create(worker_uid=settings.worker_uid)
    try:
        Keeper(paths).keep()
    except HomeInUse as error:
        _say(str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
