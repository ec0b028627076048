"""What the supervisor answers to an owner's direct commands."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor import views
from supervisor.bot.commands import NOT_YOURS, Commands
from supervisor.contract import Command
from supervisor.ledger import Ledger
from supervisor.revisions import Revisions
from supervisor.states import Status
from tests.supervisor.fakes.updates import genesis, update_in

OWNER = 7


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(tmp_path / "supervisor.db") as opened:
        genesis(opened)
        yield opened


@pytest.fixture
def commands(ledger: Ledger, tmp_path: Path) -> Commands:
    return Commands(ledger, Revisions(tmp_path / "revisions.git"), status=lambda: views.status(ledger, running=True))


def ask(commands: Commands, name: str, argument: str = "", user: int = OWNER) -> str:
    return commands.answer(Command(name=name, argument=argument, user_id=user, chat_id=user), owners=[OWNER])


@pytest.mark.parametrize("name", ["history", "show", "status", "revision", "nothing"])
def test_a_stranger_is_told_nothing(commands: Commands, name: str) -> None:
    """The supervisor asks its own list, whatever the worker has let through."""
    assert ask(commands, name, user=8) == NOT_YOURS


def test_history_names_every_update(commands: Commands, ledger: Ledger) -> None:
    """Newest first, with the active one marked."""
    update = update_in(ledger, Status.STAGED, base=ledger.updates()[-1], title="greet by name")
    lines = ask(commands, "history").splitlines()
    assert lines[0].startswith(f"{update.tx_id[:8]} staged")
    assert lines[0].endswith("greet by name")
    assert lines[1].startswith("* ")


def test_show_tells_why_an_update_failed(commands: Commands, ledger: Ledger) -> None:
    """By any beginning of its id."""
    update = update_in(ledger, Status.TEST_FAILED, base=ledger.updates()[-1])
    ledger.amend(update.tx_id, {"last_error": "1 failed: test_a\nand more"})
    told = ask(commands, "show", update.tx_id[:6])
    assert f"{update.tx_id[:8]} is test_failed" in told
    assert told.endswith("reason: 1 failed: test_a")


def test_status_says_what_waits(commands: Commands, ledger: Ledger) -> None:
    """And who is active, or that nobody is."""
    update = update_in(ledger, Status.STAGED, base=ledger.updates()[-1], title="greet by name")
    assert ask(commands, "status").splitlines() == [
        "active: -",
        "standby: -",
        f"{update.tx_id[:8]} is staged: greet by name",
    ]
    assert ask(commands, "revision") == "Nothing is active now."


@pytest.mark.parametrize(("name", "argument", "told"), [("show", "", "Which update?"), ("show", "zz", "zz")])
def test_an_update_that_cannot_be_meant(commands: Commands, name: str, argument: str, told: str) -> None:
    """One line that says what is wrong."""
    assert told in ask(commands, name, argument)


def test_an_unknown_command_names_the_known_ones(commands: Commands) -> None:
    """One that a newer worker knows."""
    assert "/history" in ask(commands, "restart")
