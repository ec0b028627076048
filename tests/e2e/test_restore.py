"""The worker's state is brought back as it was before an update, on request."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from supervisor.cli.shapes import SHAPES
from tests.support import candidates
from tests.support.installation import Install, Installation


@pytest.fixture(scope="module")
def installation(install: Install, checkout: Path) -> Installation:
    """Up, with something said before and after an update."""
    made = install()
    made.up()
    made.say("before")
    made.promote(candidates.adds_a_module(checkout, "restored"))
    made.say("after")
    return made


@pytest.fixture(scope="module")
def tx(installation: Installation) -> str:
    """The update before which the state is brought back."""
    return str(installation.status()["active"]["tx_id"])


def said(installation: Installation) -> list[str]:
    with closing(sqlite3.connect(installation.paths.agent_db)) as database:
        rows = database.execute("SELECT text FROM history WHERE role = 'user' ORDER BY id").fetchall()
    return [text for (text,) in rows]


def test_without_a_snapshot(installation: Installation) -> None:
    """The first revision was deployed over nothing; those that there are are named."""
    genesis = installation.history()[-1]["tx_id"]
    before = installation.status()
    assert "there are some of" in installation.run("restore", genesis).refusal()
    assert "no update" in installation.run("restore", "ffffffff").refusal()
    assert installation.status()["active"] == before["active"]


def test_what_was_said_since_is_kept(installation: Installation, tx: str) -> None:
    """What a worker did to its state is undone; the same revision goes on, and knows what was said."""
    with closing(sqlite3.connect(installation.paths.agent_db)) as database:
        database.executescript("UPDATE history SET text = 'spoilt' WHERE text = 'before'")
        database.commit()
    before = installation.status()["active"]
    assert said(installation) == ["spoilt", "after"]
    answer = installation.run("restore", tx, "--json").expect(0)
    SHAPES["restore TX"].validate_json(answer.out)
    assert answer.json["lost"] == ""
    assert said(installation) == ["before", "after"]
    active = installation.settled()["active"]
    assert active["sha"] == before["sha"]
    assert active["epoch"] > before["epoch"]
    installation.say("again")
    assert said(installation) == ["before", "after", "again"]
    kept = installation.run("events", "--json", "--tx", tx).expect(0).out
    assert "state.restored" in kept


def test_a_state_that_nobody_can_read(installation: Installation, tx: str) -> None:
    """No worker comes up on it; what is there goes aside, and what was down stays down until it is told to come up."""
    installation.down()
    for ending in ("-wal", "-shm"):
        installation.paths.agent_db.with_name(f"agent.db{ending}").unlink(missing_ok=True)
    installation.paths.agent_db.write_bytes(b"no database" * 1000)
    done = installation.run("restore", tx).expect(0)
    assert "nothing could be carried across" in done.err
    assert installation.containers() == []
    assert (installation.paths.snapshots / "before-restore.db").read_bytes().startswith(b"no database")
    installation.up()
    assert installation.say("and now?")
    assert said(installation) == ["before", "and now?"]
