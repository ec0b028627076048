"""What the model thinks in the demo. All else is real: the clients, the tools, the gates, the containers."""

from collections.abc import Sequence
from typing import Final

from tests.support.played import Call, Scene, Turn, bash, edit, propose

COMMANDS: Final = "worker/agent/commands.py"
ROLL: Final = "/patch teach yourself a command /dice that rolls a die"
ROLL_MANY: Final = "/patch let /dice take a number: that many dice, and their sum"
#: More dice than anybody can wait for.
TOO_MANY: Final = "/dice 1000000000000"

_ENTRY: Final = '            "/again": self._again,\n'
_BEFORE: Final = "    def _stop(self, chat_id: int, _: str) -> Reply:\n"
_IMPORT: Final = "import re\n"
_ONE_DIE: Final = """\
    def _dice(self, _chat_id: int, _: str) -> Reply:
        return Reply(f"You rolled a {random.randint(1, 6)}.")
"""
_MANY_DICE: Final = """\
    def _dice(self, _chat_id: int, argument: str) -> Reply:
        number = int(argument) if argument.isdecimal() else 1
        return Reply(f"You rolled a {sum(random.randint(1, 6) for _ in range(number))}.")
"""
_TEST: Final = '''\
"""The dice."""

from pathlib import Path

from tests.worker.support import open_store
from tests.worker.test_commands import direct_commands


def test_a_die_has_six_sides(tmp_path: Path) -> None:
    """Each roll is one of them."""
    store = open_store(tmp_path / "agent.db")
    command, argument = direct_commands(store).find("/dice") or (None, "")
    assert command is not None
    assert {command(1, argument).text for _ in range(50)} <= {f"You rolled a {side}." for side in range(1, 7)}
    store.close()
'''


def _write_test(scene: Scene) -> Sequence[Call]:
    return [Call("write", {"path": f"{scene.copy}/tests/worker/test_dice.py", "content": _TEST})]


def _look(scene: Scene) -> Sequence[Call]:
    return [Call("grep", {"pattern": "/again", "path": f"{scene.copy}/worker"})]


PARTS: Final[dict[str, Sequence[Turn]]] = {
    ROLL: [
        _look,
        edit(COMMANDS, _IMPORT, f"import random\n{_IMPORT}"),
        edit(COMMANDS, _ENTRY, f'{_ENTRY}            "/dice": self._dice,\n'),
        edit(COMMANDS, _BEFORE, f"{_ONE_DIE}\n{_BEFORE}"),
        _write_test,
        bash("sh run-tests -k dice"),
        propose("/dice rolls a die", "You asked for it."),
        "I have written /dice and a test of it, and proposed it. You will be asked.",
    ],
    ROLL_MANY: [
        edit(COMMANDS, _ONE_DIE, _MANY_DICE),
        bash("sh run-tests -k dice"),
        propose("/dice takes a number", "You asked for it."),
        "Now /dice 3 rolls three dice. You will be asked.",
    ],
}
