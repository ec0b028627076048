"""One command under watch: its output as it comes, its time, and its end with all that it has started."""

import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import FrameType
from typing import Final

from worker.tools import processes

#: How long what was asked to end may take to.
TERM_SECONDS: Final = 1.5
_READ: Final = 64 * 1024
_LOOK_SECONDS: Final = 0.1
_LAST_READS: Final = 64
_PEEK: Final = os.WEXITED | os.WNOHANG | os.WNOWAIT


@dataclass(frozen=True, slots=True)
class Ended:
    """How it ended: the exit code, 128 and the signal's number when one killed it.

    ``stopped`` says that it was ended from here, and ``out_of_time`` that its time was why. ``background`` counts the
    processes that it has left behind.
    """

    exit_code: int
    stopped: bool
    out_of_time: bool
    background: int


class Watched:
    """Runs a command in this process's care; the process does nothing else, and takes SIGTERM as the order to stop.

    ``received`` is given each piece of output, and whether it is of the standard error. What the command leaves in the
    background stays when it ends by itself, and does not hold the call: only its output is heard no more.
    """

    def __init__(self, argv: Sequence[str], *, cwd: str, environment: dict[str, str]) -> None:
        self._wake, waker = os.pipe()
        os.set_blocking(self._wake, False)
        os.set_blocking(waker, False)
        self._told_to_stop = False
        signal.set_wakeup_fd(waker)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, self._stop)
        processes.adopt_orphans()
        self._process = subprocess.Popen(
            argv,
            cwd=cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def run(self, seconds: float, received: Callable[[bytes, bool], None]) -> Ended:
        """Wait until it ends, or stop it when the time is up."""
        deadline = time.monotonic() + seconds
        with selectors.DefaultSelector() as selector, self._process:
            selector.register(self._wake, selectors.EVENT_READ)
            for stream, is_error in ((self._process.stdout, False), (self._process.stderr, True)):
                if stream is not None:
                    os.set_blocking(stream.fileno(), False)
                    selector.register(stream, selectors.EVENT_READ, is_error)
            while self._process.poll() is None and not self._told_to_stop and (left := deadline - time.monotonic()) > 0:
                self._hear(selector, left, received)
            stopped = self._process.poll() is None
            if stopped:
                self._end(selector, received)
            for _ in range(_LAST_READS):  # what stays in the background may write on for ever
                if not self._hear(selector, 0, received):
                    break
        code = self._process.returncode
        out_of_time = stopped and not self._told_to_stop
        return Ended(128 - code if code < 0 else code, stopped, out_of_time, self._in_background())

    def _stop(self, signum: int, frame: FrameType | None) -> None:  # noqa: ARG002 - a signal handler
        self._told_to_stop = True

    def _hear(self, selector: selectors.BaseSelector, seconds: float, received: Callable[[bytes, bool], None]) -> bool:
        """Take what has come, after a wait for it; whether there was any output."""
        any_output = False
        for key, _ in selector.select(seconds):
            data = b""
            with suppress(BlockingIOError):
                data = os.read(key.fd, _READ)
            if key.fd == self._wake:
                self._reap_orphans()
                continue
            if data:
                received(data, key.data)
                any_output = True
            else:
                selector.unregister(key.fileobj)
        return any_output

    def _reap_orphans(self) -> None:
        """Collect ended processes that their own parents have left to this one; the command itself is not touched."""
        with suppress(ChildProcessError):
            while (child := os.waitid(os.P_ALL, 0, _PEEK)) is not None and child.si_pid != self._process.pid:
                os.waitpid(child.si_pid, 0)

    def _in_background(self) -> int:
        """How many processes the command has left behind."""
        try:
            os.waitid(os.P_ALL, 0, _PEEK)
        except ChildProcessError:
            return 0
        return len(processes.descendants(os.getpid()))

    def _end(self, selector: selectors.BaseSelector, received: Callable[[bytes, bool], None]) -> None:
        """Ask everything below to end, hear its last words, and kill what is left."""
        mine = os.getpid()
        processes.terminate_below(mine)
        deadline = time.monotonic() + TERM_SECONDS
        while processes.descendants(mine) and (left := deadline - time.monotonic()) > 0:
            self._hear(selector, min(left, _LOOK_SECONDS), received)
            self._process.poll()
        processes.kill_below(mine)
        self._process.wait()
