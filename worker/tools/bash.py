"""The tool ``bash``."""

import os
import re
import shutil
import time
from dataclasses import dataclass, replace
from typing import ClassVar, Final

from worker.tools import processes, text
from worker.tools.base import Arguments, ErrorClass, Tier, Tool, ToolError, ToolResult, argument
from worker.tools.output import FullOutput, Tail
from worker.tools.roots import locate
from worker.tools.shell import TERM_SECONDS, Ended, Watched
from worker.tools.workplace import Workplace

MOST_SECONDS: Final = 1800.0
#: The exit code of a command that was stopped, as timeout(1) gives it.
STOPPED: Final = 124
_KILLED: Final = 128 + 9
#: Progress is told at most so often, and this much of it, in bytes.
PROGRESS_SECONDS: Final = 0.25
PROGRESS_BYTES: Final = 2000
#: What makes programs behave as they should where nobody sits.
_QUIET: Final = {"TERM": "dumb", "NO_COLOR": "1", "PAGER": "cat", "GIT_PAGER": "cat", "GIT_TERMINAL_PROMPT": "0"}
_NOT_FOR_COMMANDS: Final = ("AUTONOUS_TOOLBOX_SOCKET", "BASH_ENV", "ENV")


@dataclass(frozen=True, slots=True)
class BashArguments(Arguments):
    """What to run, where, and for how long."""

    command: str = argument("The command line, for bash -c. Its standard input is empty.")
    cwd: str = argument("The directory to run it in. Relative paths start at the workspace.", default=".")
    timeout_seconds: float | None = argument(
        "When to stop it with all that it has started; by default as configured, 30 s.",
        default=None,
        gt=0,
        le=MOST_SECONDS,
    )
    network: bool = argument(
        "Whether it needs the network; the owner may be asked. Loopback always works.", default=False
    )

    aliases: ClassVar[dict[str, str]] = {"cmd": "command", "workdir": "cwd"}

    def seconds(self, default: float) -> float:
        """How long the command may take."""
        return default if self.timeout_seconds is None else self.timeout_seconds


def run(arguments: BashArguments, workplace: Workplace) -> ToolResult:
    """The end of what the command puts out, and its exit code."""
    _check(arguments, workplace)
    with locate(workplace, arguments.cwd) as place:
        directory = place.directory()
        shell = shutil.which("bash") or "/bin/sh"
        environment = {name: value for name, value in os.environ.items() if name not in _NOT_FOR_COMMANDS}
        try:
            watched = Watched(
                [shell, "-c", "--", arguments.command],
                cwd=f"/proc/self/fd/{directory}",
                environment={**environment, **_QUIET, "PWD": str(place.path)},
            )
        except OSError as error:
            if error.errno in processes.NO_ROOM:
                raise ToolError("toolbox_full", f"no process can be started now: {error.strerror}") from error
            raise ToolError("not_started", f"the command cannot be started: {error.strerror}") from error
        finally:
            os.close(directory)
    heard = _Heard(workplace)
    seconds = arguments.seconds(workplace.timeout_seconds)
    ended = watched.run(seconds, heard.received)
    return heard.result(ended, seconds)


class _Heard:
    """The output of one command."""

    def __init__(self, workplace: Workplace) -> None:
        self._workplace = workplace
        self._streams = (Tail(workplace.max_bytes), Tail(workplace.max_bytes))
        self._both = Tail(PROGRESS_BYTES)
        self._full = FullOutput(workplace.max_bytes)
        self._told_at = 0.0

    def received(self, data: bytes, is_error: bool) -> None:
        """A piece of output has come."""
        self._streams[is_error].add(data)
        self._both.add(data)
        self._full.add(data)
        now = time.monotonic()
        if now - self._told_at >= PROGRESS_SECONDS:
            self._told_at = now
            self._workplace.progress(text.output(self._both.bytes(PROGRESS_BYTES)))

    def result(self, ended: Ended, seconds: float) -> ToolResult:
        """The envelope."""
        max_lines, max_bytes = self._workplace.max_lines, self._workplace.max_bytes
        # Errors come first where both do not fit, but leave half of the room.
        errors = self._streams[True].cut(max_lines // 2 or 1, max_bytes // 2)
        out = self._streams[False].cut(max(1, max_lines - errors.lines), max_bytes - len(errors.text.encode()))
        meta: dict[str, object] = {}
        if out.by_lines or out.by_bytes or errors.by_lines or errors.by_bytes:
            self._full.keep()
            meta |= self._full.meta()
        self._full.close()
        if ended.background:
            meta["left_in_background"] = ended.background
        result = ToolResult(
            ok=ended.exit_code == 0 and not ended.stopped,
            exit_code=STOPPED if ended.stopped else ended.exit_code,
            stdout=out.text,
            stderr=errors.text,
            truncated_lines=out.by_lines or errors.by_lines,
            truncated_bytes=out.by_bytes or errors.by_bytes,
            meta=meta,
        )
        if result.ok:
            return result
        code, error_class = "exit_code", ErrorClass.TOOL_EXEC
        if ended.out_of_time:
            code, error_class = "timeout", ErrorClass.TIMEOUT
            meta["stopped"] = f"after {seconds:g} s, with all that it had started; give more with timeout_seconds"
        elif ended.stopped:
            code = "stopped"
            meta["stopped"] = "because the toolbox ends, or nobody waits for the call any more"
        elif ended.exit_code == _KILLED:
            meta["killed"] = "by SIGKILL; if nobody sent it, it wanted more memory than there is"
        return replace(result, meta={"code": code, "error_class": error_class.value, **meta})


def _check(arguments: BashArguments, workplace: Workplace) -> None:
    if not arguments.command.strip() or "\0" in arguments.command:
        raise ToolError("bad_arguments", "command is empty or has a zero byte", ErrorClass.VALIDATION)
    if arguments.network and not workplace.network:
        reason = "this toolbox has no network, and the call was not given one: do without, or ask the owner"
        raise ToolError("no_network", reason, ErrorClass.POLICY)
    for phrase in workplace.denylist:
        if _denied(phrase, arguments.command):
            reason = (
                f"commands with {phrase!r} are not run here (AUTONOUS_TOOL_BASH_DENYLIST): find another way, or ask"
            )
            raise ToolError("denied", reason, ErrorClass.POLICY)


def _denied(phrase: str, command: str) -> bool:
    """Whether a command has these words in a row. A guard rail: whoever means to gets around it."""
    words = r"\s+".join(map(re.escape, phrase.split()))
    return re.search(rf"(?<![\w./-]){words}(?![\w./-])", command) is not None


TOOL = Tool(
    "bash",
    "Runs a command with bash, without a network. Shows the end of its output (2,000 lines, 50 KiB); all of it is in "
    "the file that meta.full_output names. It is stopped at its time, with all that it started. To leave something "
    "running, send its output to a file: server >log 2>&1 &",
    BashArguments,
    run,
    Tier.EXEC,
    grace_seconds=TERM_SECONDS + 2,
)
