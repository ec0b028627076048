"""The supervisor's end of an exam: starts the process that holds it, watches it, and cleans up after it.

Whatever a candidate does to the exam, it ends here as a part that was failed, within the exam's time.
"""

import json
import os
import secrets
import selectors
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from supervisor.engine import Engine, NoSpace, engine_url
from supervisor.gates import untrusted
from supervisor.gates.exam import BEHAVES, Candidate, CutShort, Part, Result, container_name, toolbox_name
from supervisor.gates.examroom import Order
from supervisor.gates.testrun import Cancelled
from supervisor.paths import CHECKOUT
from supervisor.removal import remove_tree
from supervisor.specs import MIB

LONGEST_EXAM_SECONDS: Final = 240.0
_LOOK_SECONDS: Final = 0.25
_GRACE_SECONDS: Final = 5.0  # to remove its container, before it is killed
_MOST_WORDS: Final = 2 * MIB
_MOST_ERRORS: Final = 32 * 1024
_CHUNK: Final = 64 * 1024
_LAST_WORDS: Final = 1024
#: What a candidate may add to its state and the directories it is given, besides three times what it was given.
_MAY_WRITE: Final = 64 * MIB
_MAY_TAKE_OF_THE_DISK: Final = 1024 * MIB
_LONGEST_DETAIL: Final = 300
#: No key of the owner's has any business in that process.
_PASSED_ON: Final = ("PATH", "HOME", "LANG", "TMPDIR")


class _Misbehaved(Exception):
    """The candidate's doing ended the exam; the message says what it did."""


class ExamProcess:
    """Holds exams, each in a process of its own. ``directory`` must leave room for sockets' names.

    ``longest`` is the time in seconds that one exam may take. To be used by one thread.
    """

    def __init__(
        self, engine: Engine, project: str, uid: int, directory: Path, *, longest: float = LONGEST_EXAM_SECONDS
    ) -> None:
        self.uid = uid
        self._engine = engine
        self._project = project
        self._directory = directory
        self._longest = longest
        self._spare: _Process | None = None

    def examine(
        self,
        candidate: Candidate,
        *,
        waived: frozenset[str] = frozenset(),
        cancelled: Callable[[], bool] = lambda: False,
        another: bool = False,
    ) -> Result:
        """Hold one exam to its end, its first failed part, or what the candidate made of it.

        With ``another`` the process for the next one is started meanwhile. Raises EngineError, Cancelled, and CutShort
        when only the exam's process could not use the engine, or the host's disk was short until the exam's end.
        """
        room = self._directory / secrets.token_hex(4)
        scales = _Scales(candidate.state, room)
        process, self._spare = self._spare or _Process(), None
        process.give(self._order(candidate, room, waived))
        fault = ""
        try:
            self._watch(process, scales, cancelled, another=another)
        except _Misbehaved as error:
            fault = str(error)
            process.kill()
        finally:
            process.end()
            for name in (container_name(self._project, room), toolbox_name(self._project, room)):
                self._engine.remove(name)
            remove_tree(room)
        if scales.disk_ran_low:
            if not scales.disk_came_back():
                raise NoSpace("the host's disk lost space to somebody else while an exam was held")
            raise CutShort(fault)  # once, it may still have been somebody else
        return self._result(process, fault, waived)

    def rest(self) -> None:
        """No exam follows: let go of a process that waits for one."""
        spare, self._spare = self._spare, None
        if spare is not None:
            spare.end()

    def _order(self, candidate: Candidate, room: Path, waived: frozenset[str]) -> Order:
        return Order(
            project=self._project,
            uid=self.uid,
            room=str(room),
            image_id=candidate.image_id,
            sha=candidate.sha,
            state=str(candidate.state),
            epoch=candidate.epoch,
            waived=tuple(sorted(waived)),
            seconds=self._longest,
        )

    def _watch(self, process: "_Process", scales: "_Scales", cancelled: Callable[[], bool], *, another: bool) -> None:
        """Listen until the process has said all. Raises _Misbehaved, Cancelled."""
        deadline = time.monotonic() + self._longest
        next_look = 0.0
        while process.listen(_LOOK_SECONDS):
            now = time.monotonic()
            if now > deadline:
                raise _Misbehaved(f"the exam did not end within {self._longest:g} s")
            if now < next_look:
                continue
            next_look = now + _LOOK_SECONDS
            if cancelled():
                raise Cancelled
            scales.look()
            if another and self._spare is None and process.words.content:
                self._spare = _Process()  # now that the processor has time for it

    def _result(self, process: "_Process", fault: str, waived: frozenset[str]) -> Result:
        told = _told(bytes(process.words.content))
        log = told.log or ""
        if process.errors.content:
            log += f"\n== the exam itself\n{process.errors.text()}"
        if told.engine and not fault:
            self._engine.version()  # when it is away for us as well, this says so
            raise CutShort(f"the exam was cut short while the engine answered: {told.engine}")
        if fault or told.log is None:
            during = f" while {told.in_hand!r} was asked" if told.in_hand else ""
            detail = f"{fault or process.how_it_died()}{during}"
            told.parts.append(Part(BEHAVES, passed=False, detail=untrusted.line(detail, _LONGEST_DETAIL)))
        return Result(tuple(told.parts), log, waived)


@dataclass
class _Scales:
    """Watches what the candidate makes of the host's disk while it sits."""

    state: Path
    room: Path
    disk_ran_low: bool = False

    def __post_init__(self) -> None:
        self._most = _MAY_WRITE
        with suppress(untrusted.Overweight):  # left so by another exam; the first look tells
            self._most += 3 * untrusted.weigh(self.state, most=sys.maxsize)
        self._free = shutil.disk_usage(self.state).free

    def look(self) -> None:
        """Raises _Misbehaved when it wrote more than it may."""
        for directory, what in ((self.state, "its state"), (self.room, "the directories that it shares")):
            try:
                untrusted.weigh(directory, most=self._most)
            except untrusted.Overweight as error:
                raise _Misbehaved(f"it wrote too much into {what}: {error}") from error
        # Files that were removed and are still written are in no directory.
        free = shutil.disk_usage(self.state).free
        if self._free - free > self._most + _MAY_TAKE_OF_THE_DISK:
            self.disk_ran_low = True
            self._free = free
            raise _Misbehaved("it wrote too much, into files that it had removed")

    def disk_came_back(self) -> bool:
        """Whether the space was there again once the candidate was gone."""
        return shutil.disk_usage(self.state).free - self._free > _MAY_TAKE_OF_THE_DISK // 2


class _Process:
    """The process of one exam, which waits for its order, and what it has said so far."""

    def __init__(self) -> None:
        passed_on = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "supervisor.gates.examroom"],
            cwd=CHECKOUT,
            # Few arenas: by default the allocator takes more addresses for each thread than the limit allows.
            env={**passed_on, "DOCKER_HOST": engine_url(), "MALLOC_ARENA_MAX": "2"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self.words = _Heard(_MOST_WORDS)
        self.errors = _Heard(_MOST_ERRORS)
        self._selector = selectors.DefaultSelector()
        for stream, heard in ((self._process.stdout, self.words), (self._process.stderr, self.errors)):
            assert stream is not None  # noqa: S101 - they are pipes, as asked for above
            self._selector.register(stream, selectors.EVENT_READ, heard)

    def give(self, order: Order) -> None:
        """Have it begin."""
        assert self._process.stdin is not None  # noqa: S101
        with suppress(BrokenPipeError):  # it died already, and is asked at its end how
            self._process.stdin.write(order.encoded())
            self._process.stdin.flush()

    def listen(self, seconds: float) -> bool:
        """Take in what it says within some time; False once it has said all."""
        for key, _ in self._selector.select(seconds):
            chunk = os.read(key.fd, _CHUNK)
            if chunk:
                key.data.take(chunk)
            else:
                self._selector.unregister(key.fileobj)
        return bool(self._selector.get_map())

    def kill(self) -> None:
        """At once."""
        self._process.kill()

    def end(self) -> None:
        """Let go of it, and see it gone: it ends with its input, or is killed."""
        with suppress(BrokenPipeError):
            assert self._process.stdin is not None  # noqa: S101
            self._process.stdin.close()
        deadline = time.monotonic() + _GRACE_SECONDS
        while self._selector.get_map() and time.monotonic() < deadline:
            self.listen(_LOOK_SECONDS)  # else it might wait for us to read
        try:
            self._process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._selector.close()
        for stream in (self._process.stdout, self._process.stderr):
            assert stream is not None  # noqa: S101
            stream.close()

    def how_it_died(self) -> str:
        """In one line, once it is gone."""
        code = self._process.returncode
        if code < 0:
            return f"it ended the exam: {signal.Signals(-code).name}"
        last = self.errors.last_line()
        return f"it ended the exam: {last or f'exit code {code}'}"


class _Heard:
    """The beginning of a stream, how much was left out, and its last words."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._left_out = 0
        self._end = b""
        self.content = bytearray()

    def take(self, chunk: bytes) -> None:
        room = self._most - len(self.content)
        self.content += chunk[:room]
        self._left_out += len(chunk[room:])
        self._end = (self._end + chunk)[-_LAST_WORDS:]

    def last_line(self) -> str:
        return self._end.decode(errors="replace").rstrip().rpartition("\n")[2]

    def text(self) -> str:
        text = untrusted.tail(self.content.decode(errors="replace"), self._most)
        return text if not self._left_out else f"{text}\n({self._left_out} bytes more)"


@dataclass
class _Told:
    """What the process told of the exam; ``log`` is None when it did not get to its end."""

    parts: list[Part] = field(default_factory=list)
    in_hand: str = ""
    log: str | None = None
    engine: str = ""


def _told(words: bytes) -> _Told:
    told = _Told()
    for line in words.splitlines():
        try:
            word = json.loads(line)
        except ValueError:  # it died in the middle of a word
            break
        match word:
            case {"begins": str(name)}:
                told.in_hand = name
            case {"part": dict(part)}:
                told.parts.append(Part(**part))
                told.in_hand = ""
            case {"log": str(log)}:
                told.log = log
            case {"engine": str(reason)}:
                told.engine = reason
    return told
