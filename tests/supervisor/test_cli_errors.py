"""Exit codes and one-line errors of the command line, and that programs get JSON."""

import importlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from supervisor.cli import errors
from supervisor.cli.app import app
from supervisor.cli.errors import FAILED, INTERRUPTED, NO_ENGINE, USAGE, explain
from supervisor.control_server import control_app
from supervisor.homelock import home_lock
from supervisor.ledger import Ledger, LedgerUnusable, Update
from supervisor.paths import CHECKOUT, Paths
from supervisor.revisions import Revisions
from supervisor.settings import WORKER_NAMES, Settings
from supervisor.states import Status
from supervisor.unixserver import UnixServer
from tests.supervisor.fakes.controlled import FakeControlled
from tests.supervisor.fakes.updates import PATCH, genesis, update_in
from tests.supervisor.localbot_support import short_directory
from tests.support.installation import wait_for

#: Nothing of the developer's own environment or .env has a say here.
BLANK = dict.fromkeys({*WORKER_NAMES, *(field.alias for field in Settings.model_fields.values() if field.alias)}, "")


@dataclass
class Home:
    """An installation that was never brought up: a ledger, and a supervisor that only answers."""

    paths: Paths
    ledger: Ledger
    first: Update
    controlled: FakeControlled

    def run(self, *arguments: str, stdin: bytes | None = None) -> Result:
        environment = {**BLANK, "AUTONOUS_HOME": str(self.paths.home)}
        return CliRunner().invoke(app, list(arguments), env=environment, input=stdin)

    def json(self, *arguments: str, code: int = 0) -> Any:
        """What a command prints for programs."""
        ended = self.run(*arguments, "--json")
        assert ended.exit_code == code, ended.output
        return json.loads(ended.stdout)


@pytest.fixture
def directory() -> Iterator[Path]:
    with short_directory() as made:
        yield made


@pytest.fixture
def home(directory: Path) -> Iterator[Home]:
    paths = Paths(directory / "home")
    paths.create(worker_uid=os.getuid() or 10001)
    Revisions(paths.revisions).create()
    with Ledger(paths.ledger) as ledger:
        first = genesis(ledger)
        controlled = FakeControlled(ledger)
        with UnixServer(control_app(controlled), paths.control_socket):
            yield Home(paths, ledger, first, controlled)


def command(*arguments: str, **environ: str) -> "subprocess.CompletedProcess[str]":
    """The command line as a process of its own, with its exit."""
    return subprocess.run(
        [sys.executable, "-m", "supervisor", *arguments],
        cwd=CHECKOUT,
        env={"PATH": os.environ["PATH"], **BLANK, **environ},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def interruptible(*arguments: str, home: Home) -> "subprocess.Popen[str]":
    """The same, to be ended by Ctrl-C, which a shell keeps from what it runs in the background."""
    run = "import signal; from supervisor.cli import main; signal.signal(signal.SIGINT, signal.default_int_handler); "
    return subprocess.Popen(
        [sys.executable, "-c", f"{run} main()", *arguments],
        cwd=CHECKOUT,
        env={"PATH": os.environ["PATH"], **BLANK, "AUTONOUS_HOME": str(home.paths.home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


# -- the table


@pytest.mark.parametrize("name", errors._CODES)
def test_every_exception_of_the_table_exists_under_its_name(name: str) -> None:
    """A class that was renamed or moved would be shown with its traceback."""
    module, _, kind = name.rpartition(".")
    found = getattr(importlib.import_module(module), kind)
    assert issubclass(found, Exception)
    assert f"{found.__module__}.{found.__qualname__}" == name


@pytest.mark.parametrize(("name", "code"), errors._CODES.items())
def test_each_is_explained_with_its_message_and_its_code(name: str, code: int) -> None:
    """So are the exceptions below it."""
    module, _, kind = name.rpartition(".")
    found = getattr(importlib.import_module(module), kind)
    below = type("Below", (found,), {"__init__": Exception.__init__})
    line = explain(below("what went wrong"))
    assert line is not None
    assert (line.text, line.code) == ("what went wrong", code)


def test_the_codes_are_those_that_are_documented() -> None:
    """1 refused or failed, 2 usage, 3 engine out of reach, 130 ended by Ctrl-C."""
    assert (FAILED, USAGE, NO_ENGINE, INTERRUPTED) == (1, 2, 3, 130)
    assert {name for name, code in errors._CODES.items() if code == NO_ENGINE} == {
        "supervisor.engine.errors.EngineUnreachable",
        "supervisor.hostengine.EngineMissing",
    }
    assert {name for name, code in errors._CODES.items() if code == USAGE} == {"supervisor.settings.SettingsError"}


def test_a_defect_is_not_explained_away() -> None:
    """It deserves its traceback."""
    assert explain(KeyError("x")) is None
    assert explain(ValueError("x")) is None


def test_the_ledgers_own_errors_are_told_as_they_are() -> None:
    """All of the tree below the one in the table."""
    line = explain(LedgerUnusable(Path("/x"), "disk I/O error"))
    assert line is not None
    assert line.text == "cannot use the ledger /x: disk I/O error"


# -- usage


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["--nonsense"],
        ["status", "--nonsense"],
        ["status", "extra"],
        ["submit"],
        ["submit", "one", "two"],
        ["approve"],
        ["cancel"],
        ["rollback"],
        ["show"],
        ["diff"],
        ["source"],
        ["history", "-n", "0"],
        ["history", "-n", "many"],
        ["logs", "-n", "0"],
        ["events", "--id", "x"],
        ["events", "-L", "0"],
        ["say"],
        ["say", "hello", "--press", "Yes"],
        ["say", "hello", "--wait", "-1"],
    ],
    ids=" ".join,
)
def test_wrong_usage_ends_with_2(home: Home, arguments: list[str]) -> None:
    """And does nothing."""
    ended = home.run(*arguments)
    assert ended.exit_code == USAGE
    assert home.controlled.asked == []


def test_no_command_shows_what_there_is() -> None:
    """As does --help, with every command."""
    shown = CliRunner().invoke(app, ["--help"])
    assert shown.exit_code == 0
    for name in ("run", "up", "down", "status", "history", "show", "diff", "source", "logs", "events", "submit"):
        assert f" {name} " in shown.stdout
    for name in ("approve", "cancel", "rollback", "chat", "say"):
        assert f" {name} " in shown.stdout


# -- as a process


def test_a_question_that_is_not_answered_is_one_line_and_1() -> None:
    """Ctrl-C and Ctrl-D, and an input that has ended."""
    ask = (
        "import sys, typer; from supervisor.cli import app, main\n"
        "app.command('ask')(lambda: typer.confirm('Remove it?', abort=True))\n"
        "sys.argv = ['supervisor', 'ask']; main()"
    )
    ended = subprocess.run(
        [sys.executable, "-c", ask], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, cwd=CHECKOUT
    )
    assert ended.returncode == FAILED
    assert ended.stderr.splitlines()[-1].endswith("supervisor: nothing was done")
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "shown"),
    [
        (["submit", "{patch}", "--wait"], None, "created..."),
        (["submit", "{patch}", "--wait", "--json"], None, ""),
        (["approve", "{tx}", "--wait"], Status.STAGED, "approved..."),
        (["rollback", "{tx}", "--wait"], Status.PROMOTED, "rollback_pending..."),
    ],
    ids=["submit", "submit for a program", "approve", "rollback"],
)
def test_a_wait_that_is_interrupted_is_one_line_and_130(
    home: Home, arguments: list[str], status: Status | None, shown: str
) -> None:
    """It says that the update goes on, which it does, and how to see more of it."""
    patch = home.paths.home / "x.patch"
    patch.write_bytes(PATCH)
    tx_id = update_in(home.ledger, status, base=home.first).tx_id if status else ""
    before = len(home.ledger.updates())
    with home_lock(home.paths.lock):  # a supervisor runs
        waiting = interruptible(*[a.format(patch=patch, tx=tx_id) for a in arguments], home=home)
        if shown:
            assert waiting.stderr is not None
            assert waiting.stderr.readline() == f"{shown}\n"
        else:
            wait_for(lambda: len(home.ledger.updates()) > before, 20, "the update")
            time.sleep(0.5)  # it has its answer, and looks into the ledger
        waiting.send_signal(signal.SIGINT)
        out, err = waiting.communicate(timeout=20)
    short = (tx_id or home.ledger.updates()[0].tx_id)[:8]
    assert (waiting.returncode, out) == (INTERRUPTED, "")
    assert err == f"supervisor: update {short} goes on; `supervisor show {short}` says how far it is\n"


def test_any_other_command_that_is_interrupted_says_so() -> None:
    """The library ends with 130 too, but without a word."""
    ask = (
        "import signal, sys; from supervisor.cli import app, main\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "app.command('ask')(lambda: signal.raise_signal(signal.SIGINT))\n"
        "sys.argv = ['supervisor', 'ask']; main()"
    )
    ended = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=False, cwd=CHECKOUT)
    assert (ended.returncode, ended.stderr) == (INTERRUPTED, "supervisor: interrupted\n")


def test_a_bad_setting_is_one_line_and_2(directory: Path) -> None:
    """On standard error, with nothing on standard output."""
    ended = command("status", AUTONOUS_HOME=str(directory), AUTONOUS_APPROVAL="both")
    assert (ended.returncode, ended.stdout) == (USAGE, "")
    assert ended.stderr == "supervisor: AUTONOUS_APPROVAL='both' cannot be used: it must be chat or terminal\n"


@pytest.mark.parametrize("arguments", [["status"], ["history"], ["show", "1234"], ["events"], ["diff", "1234"]])
def test_nothing_there_yet_is_one_line_and_1(directory: Path, arguments: list[str]) -> None:
    """Reading commands make nothing."""
    ended = command(*arguments, AUTONOUS_HOME=str(directory / "none"))
    assert ended.returncode == FAILED
    assert ended.stdout == ""
    assert ended.stderr.startswith("supervisor: cannot use the ledger")
    assert ended.stderr.count("\n") == 1
    assert not (directory / "none").exists()


@pytest.mark.parametrize("arguments", [["submit", __file__], ["approve", "1234"], ["cancel", "1234"]])
def test_no_supervisor_is_one_line_and_1(directory: Path, arguments: list[str]) -> None:
    """With what to type next."""
    ended = command(*arguments, AUTONOUS_HOME=str(directory / "none"))
    assert ended.returncode == FAILED
    assert ended.stderr == "supervisor: the supervisor is not running; `make up` starts it\n"


def test_a_home_that_cannot_be_made_is_one_line_and_1(directory: Path) -> None:
    """Before anything else is tried."""
    (directory / "file").touch()
    ended = command("up", AUTONOUS_HOME=str(directory / "file" / "home"))
    assert ended.returncode == FAILED
    assert ended.stderr.splitlines()[-1].startswith(f"supervisor: AUTONOUS_HOME={directory}/file/home cannot be used:")


# -- refusals of a supervisor that runs


REFUSED = [
    (["approve", "zzzz"], "no update starts with 'zzzz'"),
    (["rollback", "{first}"], "this is the first revision; there is nothing before it to go back to"),
    (["cancel", "{first}"], "cannot be cancelled any more"),
    (["approve", "{cancelled}"], "only a staged one can be approved"),
    (["show", "zzzz"], "no update starts with 'zzzz'"),
    (["diff", "{first}"], "this is the first revision"),
    (["logs", "{first}"], "has no logs yet"),
    (["logs"], "there is no log yet"),
    (["submit", "/nowhere/x.patch"], "/nowhere/x.patch cannot be read: No such file or directory"),
    (["submit", "/"], "/ cannot be read: Is a directory"),
    (["submit", __file__, "--title", "two\nlines"], "--title cannot be used"),
]


@pytest.mark.parametrize(("arguments", "reason"), REFUSED, ids=[" ".join(a)[:30] for a, _ in REFUSED])
def test_a_refusal_is_an_error_that_is_explained(home: Home, arguments: list[str], reason: str) -> None:
    """Every one of them becomes a line and exit 1."""
    cancelled = update_in(home.ledger, Status.CANCELLED, base=home.first)
    named = [a.format(first=home.first.tx_id, cancelled=cancelled.tx_id) for a in arguments]
    ended = home.run(*named)
    assert ended.exit_code == FAILED
    line = explain(ended.exception)  # type: ignore[arg-type]
    assert line is not None, ended.exception
    assert reason in line.text
    assert line.code == FAILED


def test_a_repeated_decision_ends_with_0(home: Home) -> None:
    """It is done already, which is what was asked for."""
    update = update_in(home.ledger, Status.STAGED, base=home.first)
    for word in ("is approved", "it is approved already"):
        ended = home.run("approve", update.tx_id)
        assert ended.exit_code == 0
        assert word in ended.output


def test_a_refused_patch_ends_with_1(home: Home) -> None:
    """With its code and the reason."""
    ended = home.run("submit", "-", stdin=b"not a patch")
    assert ended.exit_code == FAILED
    assert "is refused [not_a_patch]: it holds no patch" in ended.output


# -- for programs


def test_status_is_json(home: Home) -> None:
    """The supervisor's own answer; without one, what the ledger knows."""
    assert home.json("status")["running"] is True


def test_status_without_a_supervisor_is_json(directory: Path) -> None:
    """With the same keys."""
    paths = Paths(directory / "home")
    paths.create(worker_uid=os.getuid() or 10001)
    with Ledger(paths.ledger) as ledger:
        genesis(ledger)
    ended = CliRunner().invoke(app, ["status", "--json"], env={**BLANK, "AUTONOUS_HOME": str(paths.home)})
    assert ended.exit_code == 0
    assert set(json.loads(ended.stdout)) >= {"running", "active", "standby", "previous", "pending"}
    assert json.loads(ended.stdout)["running"] is False


def test_a_submission_is_answered_in_json(home: Home) -> None:
    """Accepted or refused: the same four keys, and the exit code tells them apart."""
    patch = home.paths.home / "x.patch"
    for content, status, code in ((PATCH, "created", 0), (b"no", "refused", 1)):
        patch.write_bytes(content)
        answer = home.json("submit", str(patch), code=code)
        assert set(answer) == {"tx_id", "status", "code", "reason"}
        assert answer["status"] == status


@pytest.mark.parametrize(
    ("decision", "status"), [("approve", Status.STAGED), ("cancel", Status.STAGED), ("rollback", Status.PROMOTED)]
)
def test_a_decision_is_answered_in_json(home: Home, decision: str, status: Status) -> None:
    """The first time and every other."""
    update = update_in(home.ledger, status, base=home.first)
    for _ in range(2):
        answer = home.json(decision, update.tx_id)
        assert set(answer) == {"tx_id", "status", "reason"}
        assert answer["tx_id"] == update.tx_id


@pytest.mark.parametrize("status", list(Status))
def test_an_update_in_any_state_can_be_shown(home: Home, status: Status) -> None:
    """For programs with every column, for people with what there is."""
    update = update_in(home.ledger, status, base=home.first)
    shown = home.json("show", update.tx_id)
    assert (shown["tx_id"], shown["status"]) == (update.tx_id, str(status))
    people = home.run("show", update.tx_id[:13])
    assert people.exit_code == 0, people.exception
    assert str(status) in people.stdout


def test_history_and_events_are_json(home: Home) -> None:
    """Lists, newest first and as a tree."""
    update = update_in(home.ledger, Status.PROMOTED, base=home.first)
    assert [entry["tx_id"] for entry in home.json("history")] == [update.tx_id, home.first.tx_id]
    assert [entry["tx_id"] for entry in home.json("history", "-n", "1")] == [update.tx_id]
    assert isinstance(home.json("events", "--tx", update.tx_id), list)


HOSTILE = "\x1b[2J\x1b]0;APPROVED\x07\r\u202e\x00[red]x[/red]"


@pytest.mark.parametrize("arguments", [["show"], ["history"], ["status"]])
def test_words_of_a_candidates_cannot_drive_the_terminal(home: Home, arguments: list[str]) -> None:
    """Escapes, overwriting, reversed text: none of it reaches a person's screen as what it is."""
    update = update_in(home.ledger, Status.STAGED, base=home.first, title=HOSTILE)
    tests = {
        "passed": 1,
        "failed": 0,
        "skipped": 0,
        "failing": [HOSTILE],
        "changed_expectations": [HOSTILE],
        "new_skips": [HOSTILE],
        "fewer_assertions": [HOSTILE],
    }
    part = {"name": "polls", "passed": False, "detail": HOSTILE, "seconds": 1.0}
    home.ledger.amend(
        update.tx_id,
        {
            "why": HOSTILE,
            "last_error": HOSTILE,
            "test_summary": tests,
            "self_check_summary": {"candidate": [part], "base_after": [part], "waived": ["polls"]},
            "changes": [{"path": HOSTILE, "kind": "added", "added": 1, "deleted": 0}],
        },
    )
    ended = home.run(*arguments, *([update.tx_id] if arguments == ["show"] else []))
    assert ended.exit_code == 0, ended.exception
    for forbidden in ("\x1b", "\x07", "\r", "\u202e", "\x00"):
        assert forbidden not in ended.output
