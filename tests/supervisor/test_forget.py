"""``export`` and ``forget`` reach what ``prune`` has written out; a ``forget`` that was cut off is gone on with."""

import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from supervisor.agent_db import chats, pruning
from supervisor.cli.app import app
from supervisor.contract import EventType, Redactor
from supervisor.ledger import Ledger, eventremoval
from supervisor.localbot.store import BotStore
from supervisor.paths import Paths
from supervisor.settings import WORKER_NAMES, Settings
from worker.commander.base import Incoming, UpdateKind
from worker.store import InboxStatus, Store

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


class Killed(Exception):
    """What stands for a kill."""


def once_only(function: Callable[..., int]) -> Callable[..., int]:
    """As it was for one call, then killed."""
    calls = count()

    def called(*arguments: Any) -> int:
        if next(calls):
            raise Killed
        return function(*arguments)

    return called


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


def test_what_was_pruned_is_written_out_with_the_rest(home: Home) -> None:
    """Each event once, though a prune was cut off between file and database; copies of the database are named alone."""
    home.straddle(CANARY, "of-the-other-chat", ended=0)
    home.store.database.execute(f"VACUUM INTO '{home.paths.snapshots / 'earlier.db'}'")
    whole = home.run("export", "--chat", str(MINE))
    home.prune(1)
    (file,) = home.files()
    file.with_name("pruned-of-a-prune-that-was-cut-off.jsonl").write_text(
        file.read_text() + "".join(json.dumps({"database": "worker", **event}) + "\n" for event in events_in(whole))
    )
    pruned = home.run("export", "--chat", str(MINE))
    assert sorted(events_in(pruned), key=lambda event: event["id"]) == events_in(whole)
    assert len(events_in(whole)) == 4
    assert "4 pruned events" in pruned.stderr
    assert "not in it: what stands in 1 snapshots" in pruned.stderr


def test_a_copy_that_cannot_be_read_keeps_nothing_from_being_written_out(home: Home) -> None:
    """Nothing of it would be; `forget` needs it, and says so."""
    home.straddle(CANARY, ended=0)
    (home.paths.snapshots / "torn.db").write_bytes(b"no database at all" * 100)
    assert CANARY in home.run("export", "--chat", str(MINE)).stdout
    assert "torn.db" in str(home.run("forget", "--chat", str(MINE), "--yes").exception)


def events_in(exported: Result) -> list[dict[str, Any]]:
    """The events that an export has."""
    records = map(json.loads, exported.stdout.splitlines())
    return [record["row"] for record in records if record["table"] == "events"]


def test_a_snapshot_alone_still_tells_whose_pruned_events_are(home: Home) -> None:
    """The database was replaced, and only a copy of it knows the run."""
    home.straddle(CANARY, ended=0)
    home.prune(1)
    home.store.database.execute(f"VACUUM INTO '{home.paths.snapshots / 'earlier.db'}'")
    chats.forget(home.paths.agent_db, MINE, worker_lives=False)
    assert home.forget()["pruned_events"] == 2
    assert home.holding(CANARY) == []


def test_pruned_events_may_be_all_that_is_left_of_a_chat(home: Home) -> None:
    """They are found, asked about and removed; after that nothing is kept."""
    home.straddle(CANARY, ended=3)
    home.prune(2)
    assert not chats.survey(home.paths.agent_db, MINE)
    assert CANARY in home.run("export", "--chat", str(MINE)).stdout
    assert home.forget()["pruned_events"] == 4
    assert home.holding(CANARY) == []
    assert "nothing is kept of chat 7" in str(home.run("forget", "--chat", "7", "--yes").exception)


def test_the_local_bots_copy_may_be_all_that_is_left_of_a_chat(home: Home) -> None:
    """It goes, and the blank message that its count goes on from is nothing that is kept."""
    bot = BotStore(home.paths.localbot_db)
    bot.remember_chat({"id": MINE, "type": "private"})
    for _ in range(2):
        bot.add_message(MINE, {"text": CANARY, "chat": {"id": MINE}}, from_bot=True)
    assert home.forget()["local_bot_messages"] == 1
    assert home.holding(CANARY) == []
    assert "nothing is kept of chat 7" in str(home.run("forget", "--chat", "7", "--yes").exception)
    bot.close()


@pytest.mark.parametrize("place", ["replace", "fsync"])
@pytest.mark.parametrize("at", [1, 2])
def test_a_forget_that_is_cut_off_is_finished_by_the_next(
    home: Home, monkeypatch: pytest.MonkeyPatch, place: str, at: int
) -> None:
    """A disk that fills up at either of two files: nothing that tells whose the rest is has gone before it."""
    home.straddle(CANARY, ended=2.5)
    home.prune(3)
    home.prune(2)  # within the same second
    assert len(home.files()) == 2
    calls = 0
    real = getattr(os, place)

    def full(*arguments: object) -> object:
        nonlocal calls
        calls += 1
        if calls == at:
            raise OSError(28, "No space left on device")
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(os, place, full)
        ended = home.run("forget", "--chat", str(MINE), "--yes")
    assert "No space left on device" in str(ended.exception)
    assert not list(home.paths.logs.glob("*.new"))
    home.forget()
    assert home.holding(CANARY) == []
    assert all(file.read_text() == "" for file in home.files())


def test_the_databases_are_left_alone_until_the_files_are_done(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """They tell what the files hold of the chat, so that a kill in between loses nothing."""
    home.straddle(CANARY, ended=0)
    home.prune(1)

    def killed(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(chats, "forget", killed)
        assert isinstance(home.run("forget", "--chat", str(MINE), "--yes").exception, Killed)
    assert all(CANARY not in file.read_text() for file in home.files())
    assert home.forget()["events"] == 2


def test_no_file_is_touched_while_a_message_is_in_hand(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """A refusal removes nothing, neither from the database nor from the files."""
    home.straddle(CANARY, ended=0)
    home.prune(1)
    came = Incoming(1, UpdateKind.MESSAGE, MINE, user_id=MINE, private=True, text="in hand", date=1.0)
    home.store.inbox.add("telegram", came, kind="message", text="in hand", status=InboxStatus.IN_PROGRESS)
    monkeypatch.setattr("supervisor.cli.chat_data._a_worker_lives", lambda _: True)
    assert "in hand" in str(home.run("forget", "--chat", str(MINE), "--yes").exception)
    assert home.files()[0].name in home.holding(CANARY)


def test_a_file_that_is_never_searched_is_told(home: Home, tmp_path: Path) -> None:
    """One put elsewhere is named as the user's own to remove; the one in the logs is not."""
    home.straddle(CANARY, ended=2.5)
    usual = home.run("prune", "--older-than", "3", "--yes").stdout
    assert str(home.files()[0]) in usual
    assert "never search" not in usual
    elsewhere = home.run("prune", "--older-than", "1", "--yes", "--to", str(tmp_path / "mine.jsonl")).stdout
    assert f"{tmp_path / 'mine.jsonl'}; export and forget never search it" in elsewhere


@pytest.mark.parametrize("command", [("prune", "--older-than", "2"), ("forget", "--chat", str(MINE))])
def test_no_event_is_parted_from_its_parent_by_a_kill_between_portions(
    home: Home, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    """What names the chat goes in the last portion, so that the next forget finds what hangs under it."""
    home.straddle(CANARY, ended=3)
    with monkeypatch.context() as patch:
        patch.setattr(eventremoval, "BATCH", 2)
        for module in (chats, pruning):
            patch.setattr(module, "remove", once_only(module.remove))
        assert isinstance(home.run(*command, "--yes").exception, Killed)
    home.forget()
    assert home.holding(CANARY) == []
    left = home.store.database.first("SELECT COUNT(*) FROM events WHERE parent_id IS NOT NULL")
    assert left == (0,)
