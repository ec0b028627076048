"""No commit of the ledger and no changing call to the engine is without a place at which a test can end the process."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from supervisor.contract import EventType
from supervisor.crashpoints import CRASH_FILE
from supervisor.ledger import Ledger
from tests.support import crashplaces


def test_every_transaction_of_the_ledger_is_a_place() -> None:
    """Whatever begins one has a name for it."""
    assert crashplaces.bare_commits() == []


def test_every_changing_call_to_the_engine_is_a_place() -> None:
    """All but what is known to be a read."""
    assert crashplaces.bare_engine_calls() == []


def test_no_two_places_have_one_name() -> None:
    """A test that names one means one."""
    names = [*crashplaces.ledger_names(), *crashplaces.engine_names()]
    assert [name for name, times in Counter(names).items() if times > 1] == []
    assert {"ledger.create", "ledger.*.*", "engine.kill", "engine.create.*"} <= set(names)


@pytest.mark.parametrize(("when", "there"), [("before", 0), ("after", 1)])
def test_a_death_before_and_after_a_commit(tmp_path: Path, when: str, there: int) -> None:
    """Before it nothing is on file, after it everything, and who comes by next passes unharmed."""
    bomb, file = tmp_path / "bomb", tmp_path / "supervisor.db"
    bomb.write_text(f"ledger.append.process.started.{when}")
    write = (
        "import sys, pathlib; from supervisor.ledger import Ledger; from supervisor.contract import EventType;"
        "Ledger(pathlib.Path(sys.argv[1])).append(EventType.PROCESS_STARTED, {})"
    )
    ended = [
        subprocess.run([sys.executable, "-c", write, str(file)], env={CRASH_FILE: str(bomb)}, check=False).returncode
        for _ in range(2)
    ]
    assert ended == [-9, 0]
    with Ledger.read_only(file) as ledger:
        assert len(ledger.events(EventType.PROCESS_STARTED)) == there + 1
