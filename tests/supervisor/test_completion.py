"""What the shell is offered, asked in bash's way of the installed command."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from supervisor.ledger import Ledger, NewUpdate, Origin
from supervisor.states import Status
from tests.support.leftout import leave_out

COMMAND = Path(sys.executable).with_name("supervisor")
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """With two updates in different states."""
    with Ledger(tmp_path / "supervisor.db") as ledger:
        ledger.create(NewUpdate(origin=Origin.CLI, title="in the making", tx_id="aaaaaaaa-1111-4111-8111-111111111111"))
        ledger.create(NewUpdate(origin=Origin.CLI, title="over", tx_id="bbbbbbbb-1111-4111-8111-111111111111"))
        ledger.move("bbbbbbbb-1111-4111-8111-111111111111", Status.CREATED, Status.CANCELLED)
    return tmp_path


def offered(home: Path, *words: str) -> list[str]:
    """What may stand in the place of the last word."""
    if not COMMAND.exists():
        leave_out("the command is not installed")
    done = subprocess.run(
        [COMMAND],
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "HOME": str(home),
            "AUTONOUS_HOME": str(home),
            "_SUPERVISOR_COMPLETE": "complete_bash",
            "COMP_WORDS": " ".join(["supervisor", *words]),
            "COMP_CWORD": str(len(words)),
        },
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.stderr == ""
    return done.stdout.split()


def test_commands(home: Path) -> None:
    """By their beginning."""
    assert offered(home, "ro") == ["rollback"]


@pytest.mark.parametrize("words", [("show", ""), ("diff", ""), ("logs", ""), ("events", "--tx", "")])
def test_updates(home: Path, words: tuple[str, ...]) -> None:
    """The newest first, as much of each id as is needed."""
    assert offered(home, *words) == ["bbbbbbbb", "aaaaaaaa"]


def test_the_beginning_of_an_id(home: Path) -> None:
    """However long it is."""
    assert offered(home, "show", "aaa") == ["aaaaaaaa"]
    assert offered(home, "show", "aaaaaaaa-11") == ["aaaaaaaa-11"]


def test_only_what_the_command_can_take(home: Path) -> None:
    """What is over cannot be cancelled, what is not staged not approved, what is not active not rolled back."""
    assert offered(home, "cancel", "") == ["aaaaaaaa"]
    assert offered(home, "approve", "") == []
    assert offered(home, "rollback", "") == []


def test_where_nothing_is(tmp_path: Path) -> None:
    """Nothing is offered, nothing is said, and nothing is made."""
    assert offered(tmp_path / "none", "show", "") == []
    assert not (tmp_path / "none").exists()
