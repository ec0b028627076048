"""``bash``: its output, its time, its end, and what it leaves behind."""

import os
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.worker.tools.calling import call_apart, refusal, watched, workplace
from worker.tools import text
from worker.tools.workplace import Workplace


@pytest.fixture
def here(tmp_path: Path) -> Workplace:
    return workplace(tmp_path)


def alive(path: Path) -> bool:
    """Whether a process whose number was written there is alive."""
    with suppress(OSError, ValueError):
        state = Path("/proc", path.read_text().strip(), "stat").read_text().rpartition(")")[2].split()[0]
        return state != "Z"
    return False


def test_output_and_exit_code(here: Workplace) -> None:
    """Both streams apart, by either name of the argument; what killed a command is in its exit code."""
    result = call_apart("bash", here, command="echo out; echo err >&2; pwd")
    assert (result.ok, result.exit_code, result.stderr) == (True, 0, "err\n")
    assert result.stdout == f"out\n{here.workspace}\n"
    result = call_apart("bash", here, cmd="exit 7")
    assert (result.ok, result.exit_code, result.meta) == (False, 7, {"code": "exit_code", "error_class": "tool_exec"})
    result = call_apart("bash", here, command="kill -9 $$")
    assert (result.exit_code, "memory" in str(result.meta["killed"])) == (137, True)
    assert call_apart("bash", here, command="no-such-command-here").exit_code == 127
    assert call_apart("bash", here, command="-x").exit_code == 127


def test_where_and_with_what_it_runs(here: Workplace) -> None:
    """In the directory that was asked for, with an empty standard input, and without the toolbox's own socket."""
    (here.workspace / "sub").mkdir()
    command = "pwd; cat; test -t 0 || echo no terminal; env | grep -c AUTONOUS_TOOLBOX_SOCKET; ls /proc/self/fd"
    result = call_apart("bash", here, command=command, workdir="sub")
    assert result.stdout.split("\n")[:3] == [f"{here.workspace}/sub", "no terminal", "0"]
    assert result.stdout.split("\n")[3:] == ["0", "1", "2", "3", ""]  # 3 is ls's own


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({"command": "  "}, "bad_arguments"),
        ({"command": "a\0b"}, "bad_arguments"),
        ({"command": "true", "network": True}, "no_network"),
        ({"command": "true", "cwd": "missing"}, "not_found"),
        ({"command": "sudo   rm -rf / --no-preserve-root"}, "denied"),
        ({"command": "x; shutdown now"}, "denied"),
    ],
)
def test_refusals(arguments: dict[str, object], code: str, tmp_path: Path) -> None:
    """What cannot, and what shall not be run: with its code, and nothing runs."""
    assert refusal("bash", workplace(tmp_path, denylist=("rm -rf /", "shutdown")), **arguments) == code


def test_the_deny_list_is_for_words(tmp_path: Path) -> None:
    """What only looks like a denied phrase runs."""
    here = workplace(tmp_path, denylist=("rm -rf /", "shutdown"))
    for command in ("rm -rf /nowhere-at-all", "echo noshutdown", "echo shutdown.txt"):
        assert call_apart("bash", here, command=command).ok


def test_the_end_of_much_output_is_shown_and_all_of_it_kept(tmp_path: Path) -> None:
    """The last lines, which limit cut them, and the file that has everything."""
    here = workplace(tmp_path, max_lines=100, max_bytes=10_000)
    result = call_apart("bash", here, command="seq 1 5000; echo oops >&2")
    assert result.stdout.split()[-1] == "5000"
    assert (len(result.stdout.split()), result.truncated_lines, result.stderr) == (99, True, "oops\n")
    full = Path(str(result.meta["full_output"]))
    assert full.read_text() == "".join(f"{n}\n" for n in range(1, 5001)) + "oops\n"
    result = call_apart("bash", here, command="head -c 100000 /dev/zero | tr '\\0' x")
    assert (len(result.stdout), result.truncated_bytes) == (10_000, True)
    result = call_apart("bash", here, command="seq 1 101")
    assert result.truncated_lines
    assert Path(str(result.meta["full_output"])).read_text().split()[0] == "1"


def test_endless_output_is_bounded(here: Workplace) -> None:
    """Neither memory nor the file grows without end, and the call ends at its time."""
    result = call_apart("bash", here, command="yes; true", timeout_seconds=0.3)
    assert (result.exit_code, result.meta["error_class"], result.truncated_lines) == (124, "timeout", True)
    assert result.stdout.endswith("y\n")
    assert Path(str(result.meta["full_output"])).stat().st_size <= 8 * 1024 * 1024


def test_time_ends_everything_below(here: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command, what ignores TERM, and what made a session of its own; what was put out before is shown."""
    monkeypatch.setattr("worker.tools.shell.TERM_SECONDS", 0.3)
    command = """
        echo before
        (trap '' TERM; echo $BASHPID >a; while true; do sleep 0.1; done) &
        setsid bash -c 'trap "" TERM; echo $$ >b; while true; do sleep 0.1; done' &
        (setsid sleep 60 & echo $! >c)
        sleep 60
    """
    begun = time.monotonic()
    result = call_apart("bash", here, command=command, timeout_seconds=0.5)
    assert time.monotonic() - begun < 5
    assert (result.ok, result.exit_code, result.stdout) == (False, 124, "before\n")
    assert "timeout_seconds" in str(result.meta["stopped"])
    assert [alive(here.workspace / name) for name in "abc"] == [False] * 3


def test_term_gives_time_to_clean_up(here: Workplace) -> None:
    """A command that ends at TERM says its last words."""
    command = "trap 'echo cleaned up; exit 1' TERM; sleep 60 & wait"
    assert call_apart("bash", here, command=command, timeout_seconds=0.3).stdout == "cleaned up\n"


def test_the_background_does_not_hold_the_call(here: Workplace) -> None:
    """Whether its output goes elsewhere or nowhere; it is counted, and stays."""
    begun = time.monotonic()
    for redirect in (">log 2>&1", ""):
        result = call_apart("bash", here, command=f"sleep 30 {redirect} & echo $! >pid; echo done")
        try:
            assert (result.ok, result.stdout, result.meta["left_in_background"]) == (True, "done\n", 1)
            assert alive(here.workspace / "pid")
        finally:
            os.kill(int((here.workspace / "pid").read_text()), 9)
    assert time.monotonic() - begun < 5
    assert call_apart("bash", here, command="yes & echo done").ok  # its next word has nobody to hear it


def test_a_call_that_is_killed_is_told(here: Workplace) -> None:
    """The command kills the process that watches it: there is no result, and that is one."""
    result = call_apart("bash", here, command="kill -9 $PPID; sleep 5")
    assert (result.ok, result.exit_code, result.meta["code"]) == (False, None, "killed")
    assert "SIGKILL" in result.stderr


def test_a_call_that_is_told_to_stop_says_so(here: Workplace) -> None:
    """When the toolbox ends, what has come so far is the result, and its time is not blamed."""
    result = call_apart("bash", here, command="echo before; kill $PPID; sleep 60")
    assert (result.stdout, result.exit_code, result.meta["code"]) == ("before\n", 124, "stopped")


def test_codes_and_progress_bars_are_gone(here: Workplace) -> None:
    """Colours, titles, what was written over, and bytes that are no text."""
    command = r"printf '\033[31mred\033[0m \033]0;title\007\a\n10%%\r\033[K100%%\n\377\r\n'"
    assert call_apart("bash", here, command=command).stdout == "red ␇\n100%\n\ufffd\n"


def test_progress_is_told_while_it_runs(here: Workplace) -> None:
    """The end of the output so far, at most four times a second."""
    told: list[str] = []
    command = "for i in $(seq 1 50); do echo $i; sleep 0.01; done"
    result = watched(told.append, "bash", here, command=command)
    assert result.ok
    assert 2 <= len(told) <= 8
    assert told[0].split()[0] == "1"
    assert len(told[-1]) > len(told[0])


def test_orphans_do_not_pile_up(here: Workplace) -> None:
    """What ends while its parent is gone is collected while the command still runs."""
    command = "for i in $(seq 1 20); do (sleep 0.01 &) ; done; sleep 0.3; "
    command += "cat /proc/[0-9]*/stat 2>/dev/null | awk -v p=$PPID '$4 == p && $3 == \"Z\"' | wc -l"
    assert call_apart("bash", here, command=command).stdout == "0\n"


@pytest.mark.parametrize("line", [b"x" * 1_000_000 + b"\r", b"50%\r" * 250_000, b"\r" * 1_000_000 + b"\n"])
def test_a_long_line_that_is_written_over_takes_no_time(line: bytes) -> None:
    """A megabyte of it: each character is looked at a few times, however many carriage returns there are."""
    begun = time.thread_time()
    shown = text.output(b"a\r\nold\rnew\n" + line)
    assert shown.startswith("a\nnew\n")
    assert time.thread_time() - begun < 2
