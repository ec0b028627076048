"""``forget`` reaches what ``prune`` has written out."""

import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from supervisor.agent_db import chats
from supervisor.cli.app import app
from supervisor.contract import EventType, Redactor
from supervisor.ledger import Ledger
from supervisor.paths import Paths
from supervisor.settings import WORKER_NAMES, Settings
from worker.store import Store

BLANK = dict.fromkeys({*WORKER_NAMES, *(field.alias for field in Settings.model_fields.values() if field.alias)}, "")
CANARY = "canary-of-this-chat"
MINE, OTHER = 7, 8
DAY = 86_400.0


class Clock:
    """A clock that a test sets back by days."""

    days_ago = 0.0

    def __call__(self) -> float:
        return time.time() - self.days_ago * DAY


@dataclass
class Home:
    """An installation that was never brought up, with the database of a worker that can set its clock."""

    paths: Paths
    store: Store
    clock: Clock

    def run(self, *arguments: str) -> Result:
        return CliRunner().invoke(app, list(arguments), env={**BLANK, "AUTONOUS_HOME": str(self.paths.home)})

    def forget(self) -> dict[str, object]:
        ended = self.run("forget", "--chat", str(MINE), "--yes", "--json")
        assert ended.exit_code == 0, ended.output
        return dict(json.loads(ended.stdout))

    def prune(self, days: int) -> None:
        ended = self.run("prune", "--older-than", str(days), "--yes")
        assert ended.exit_code == 0, ended.output

    def straddle(self, *texts: str, ended: float) -> None:
        """A run in the chat, and one in another for a second text, from four days ago until ``ended`` days ago."""
        self.clock.days_ago = 4
        runs = []
        for chat_id, text in zip((MINE, OTHER), texts, strict=False):
            started = self.store.events.append(EventType.AGENT_STARTED, {"chat_id": chat_id})
            turn = self.store.events.append(EventType.TURN_STARTED, {"turn": 1}, parent_id=started)
            self.store.events.append(EventType.TOOL_CALL_STARTED, {"arguments": text}, parent_id=turn)
            runs.append(started)
        self.clock.days_ago = ended
        for started in runs:
            self.store.events.append(EventType.AGENT_COMPLETED, {}, parent_id=started)

    def files(self) -> list[Path]:
        return sorted(self.paths.logs.glob("pruned-*.jsonl"))

    def holding(self, text: str) -> list[str]:
        files = (file for file in self.paths.home.rglob("*") if file.is_file())
        return sorted(file.name for file in files if text.encode() in file.read_bytes())


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    paths = Paths(tmp_path / "home")
    paths.create(worker_uid=os.getuid() or 10001)
    Ledger(paths.ledger).close()
    clock = Clock()
    store = Store(paths.agent_db, clock=clock, sha="a" * 40, redact=Redactor([]))
    store.database.epoch = store.database.stored_epoch()
    yield Home(paths, store, clock)
    store.close()


def test_a_run_that_was_pruned_in_part_is_forgotten_whole(home: Home) -> None:
    """What names the chat stays in the database with its newer events; the rest is in a file, and goes too."""
    home.straddle(CANARY, "of-the-other-chat", ended=0)
    home.prune(1)
    (file,) = home.files()
    assert [json.loads(line)["event_type"] for line in file.read_text().splitlines()] == [
        "turn.started", "tool_call.started"
    ] * 2  # fmt: skip
    assert home.forget()["pruned_events"] == 2
    assert home.holding(CANARY) == []
    assert file.name in home.holding("of-the-other-chat")


def test_a_snapshot_alone_still_tells_whose_pruned_events_are(home: Home) -> None:
    """The database was replaced, and only a copy of it knows the run."""
    home.straddle(CANARY, ended=0)
    home.prune(1)
    home.store.database.execute(f"VACUUM INTO '{home.paths.snapshots / 'earlier.db'}'")
    chats.forget(home.paths.agent_db, MINE, worker_lives=False)
    assert home.forget()["pruned_events"] == 2
    assert home.holding(CANARY) == []
