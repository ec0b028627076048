"""The way out for a chat's data and for old events, beside an installation that goes on."""

import json
import sqlite3
import stat
import time
from contextlib import closing
from pathlib import Path

import pytest

from supervisor.cli.shapes import SHAPES
from supervisor.contract.ids import first_id
from tests.support import candidates
from tests.support.installation import Install, Installation, wait_for

CANARY = "canary-of-the-first-chat"
DAY = 86_400


@pytest.fixture(scope="module")
def installation(install: Install, checkout: Path) -> Installation:
    """Up, with a model that takes a second, after a talk and an update that left a snapshot of it."""
    made = install(AUTONOUS_DUMMY_PROVIDER_SCRIPT="sleep:1000")
    made.up()
    made.say(CANARY)
    made.promote(candidates.adds_a_module(checkout, "kept"))
    return made


def files_with(installation: Installation, text: str) -> list[str]:
    files = (file for file in installation.home.rglob("*") if file.is_file())
    return sorted(str(file.relative_to(installation.home)) for file in files if text.encode() in file.read_bytes())


def test_an_export_is_a_private_file(installation: Installation, tmp_path: Path) -> None:
    """JSON lines with all that was said; never over a file that is there, and told when there is nothing."""
    file = tmp_path / "chat.jsonl"
    installation.run("export", "--chat", "1", str(file)).expect(0)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    lines = file.read_text().splitlines()
    for line in lines:
        SHAPES["export --chat ID"].validate_json(line)
    texts = {(record["table"], record["row"].get("text")) for record in map(json.loads, lines)}
    assert {("inbox", CANARY), ("history", CANARY)} <= texts
    assert installation.run("export", "--chat", "1").expect(0).out == file.read_text()
    assert "File exists" in installation.run("export", "--chat", "1", str(file)).refusal()
    assert "nothing is kept of chat 5; known chats: 1" in installation.run("export", "--chat", "5").refusal()


def test_nothing_is_forgotten_unasked_or_out_of_a_workers_hands(installation: Installation) -> None:
    """Without a terminal it takes --yes; a message that is being answered stays."""
    assert "add --yes" in installation.run("forget", "--chat", "1").refusal()
    with installation.bot() as bot:
        sent = bot.send("in hand")
        wait_for(lambda: any(e.kind == "action" for e in bot.events(sent.cursor)), 10, "a run")
        assert "in hand" in installation.run("forget", "--chat", "1", "--yes").refusal()
        bot.wait_for(lambda m: m.message_id > sent.message_id, 10, after=sent.cursor)
    assert "state/agent.db" in " ".join(files_with(installation, CANARY))


def test_what_is_forgotten_is_nowhere_and_the_worker_goes_on(installation: Installation) -> None:
    """Not in the database, its log, a snapshot or the local bot; the same worker answers the next message, once."""
    active = installation.settled()["active"]
    assert any(file.startswith("snapshots/") for file in files_with(installation, CANARY))

    def forgotten() -> dict[str, object] | None:
        result = installation.run("forget", "--chat", "1", "--yes", "--json")  # its last answer may be on its way
        return dict(result.json) if result.code == 0 else None

    told = wait_for(forgotten, 10, "nothing in hand")
    assert told is not None
    SHAPES["forget --chat ID"].validate_python(told)
    assert told["rows"]
    assert told["snapshots"] == 1
    assert files_with(installation, CANARY) == []
    assert installation.say("hello again") == "dummy-after-sleep"
    assert installation.status()["active"] == active


def pruned_events(path: Path) -> list[dict[str, int]]:
    """What a database says of the events that it lost."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        rows = database.execute("SELECT payload FROM events WHERE event_type = 'events.pruned'").fetchall()
    return [json.loads(payload) for (payload,) in rows]


def test_old_events_go_and_all_that_is_derived_from_events_stays(installation: Installation) -> None:
    """In both databases; the tree, the history and the way back are as before."""
    paths = installation.paths
    tx = str(installation.status()["active"]["tx_id"])
    before = installation.history()
    old = time.time() - 40 * DAY
    for path, side in ((paths.ledger, 0), (paths.agent_db, 1 << 21)):
        with closing(sqlite3.connect(path, timeout=10)) as database, database:
            rows = [(first_id(old) + side + number, old, "worker.ready") for number in range(3)]
            database.executemany("INSERT INTO events VALUES (?, ?, NULL, ?, '{}')", rows)
    assert "add --yes" in installation.run("prune", "--older-than", "30").refusal()
    dry = installation.run("prune", "--older-than", "30", "--dry-run", "--json").expect(0).json
    assert (dry["supervisor"], dry["worker"], dry["file"]) == (3, 3, None)
    pruned = installation.run("prune", "--older-than", "30", "--yes", "--json").expect(0)
    SHAPES["prune --older-than DAYS"].validate_json(pruned.out)
    assert (pruned.json["supervisor"], pruned.json["worker"]) == (3, 3)
    gone = [json.loads(line) for line in Path(pruned.json["file"]).read_text().splitlines()]
    assert [event["database"] for event in gone] == ["supervisor"] * 3 + ["worker"] * 3
    assert {(event["timestamp"], event["event_type"]) for event in gone} == {(old, "worker.ready")}
    for path, name in ((paths.ledger, "supervisor"), (paths.agent_db, "worker")):
        ids = [event["id"] for event in gone if event["database"] == name]
        told = pruned_events(path)
        assert [(said["removed"], said["first_id"], said["last_id"]) for said in told] == [(3, ids[0], ids[-1])]
    assert installation.run("prune", "--older-than", "30").expect(0).out.startswith("removed: 0 events")
    assert installation.history() == before
    installation.kill_supervisor()
    installation.up()
    assert installation.status()["active"]["tx_id"] == tx
    installation.run("rollback", tx, "--wait").expect(0)
    assert installation.settled()["active"]["tx_id"] != tx
