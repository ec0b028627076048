"""Nothing runs any more: the supervisor stands in at the bot, and no message is lost or answered twice."""

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from docker.errors import APIError

from supervisor.contract import EventType
from supervisor.ledger import Ledger
from supervisor.localbot.faults import PollOutcome
from tests.support import candidates
from tests.support.checkouts import CHECKOUT, checkout_with, patch_of, replaced
from tests.support.conversation import said
from tests.support.echo import PREFIX, SETTINGS, SOCKET, EchoModel
from tests.support.installation import Install, Installation, wait_for
from tests.support.polls import overlapping

#: Each worker ends at its start with this, of whatever revision; the supervisor cannot know that before.
UNUSABLE = {"AUTONOUS_DUMMY_PROVIDER_SCRIPT": "no such step"}


@pytest.fixture(scope="module")
def installation(install: Install) -> Iterator[Installation]:
    """Up, with a model behind the real adapter that repeats what it is asked."""
    made = install(
        **SETTINGS,
        SUPERVISOR_CRASH_THRESHOLD="1000",  # the way back is the owner's, not the supervisor's
    )
    made.paths.create(worker_uid=10001)
    with EchoModel(seconds=0.05).serve(made.paths.contract_directory / SOCKET):
        made.up()
        yield made


@pytest.mark.fault(31)
def test_while_nothing_runs_the_owner_is_served_and_what_was_written_is_answered_afterwards(
    installation: Installation, checkout: Path
) -> None:
    """Every revision ends at its start: told once, /status, /history and rollback obeyed, the rest answered later.

    A rollback asks nobody back, since there is no card then; its target fails as all do, is tried again, and the
    rollback is through as soon as a worker runs.
    """
    tx = installation.promote(candidates.adds_a_module(checkout, "spare"))
    first = installation.history()[-1]["tx_id"]
    assert installation.say("hello") == f"{PREFIX}hello"
    assert "no worker comes up" in installation.run("up", settings=UNUSABLE).expect(1).err
    for container in installation.containers():
        with suppress(APIError):  # it went by itself
            installation.docker.kill(container["Id"])
    with installation.bot() as bot:
        cursor = bot.events()[-1].cursor
        for text in ("one", "/status", "two", "/history", f"rollback {first[:8]}", "three"):
            bot.send(text)
        bot.wait_for(lambda m: m.text.startswith("Nothing runs: "), 60, after=cursor)
        assert tx[:8] in bot.wait_for(lambda m: first[:8] in m.text, 10, after=cursor).text
        bot.wait_for(lambda m: m.text.startswith(f"update {first[:8]} is promoted and not active"), 10, after=cursor)
        bot.send(f"rollback {tx[:8]}")
        bot.wait_for(lambda m: m.text == f"Update {tx[:8]}: going back.", 20, after=cursor)
        bot.send("/status@bot")
        wait_for(lambda: len(said(bot, cursor, "Nothing runs: ")) == 2, 20, "the second answer")
        wait_for(lambda: attempts(installation), 60, "an attempt at the rollback")
        assert all(attempts(installation))
        assert said(bot, cursor, PREFIX) == []

        installation.up()
        wait_for(lambda: len(said(bot, cursor, PREFIX)) >= 3, 60, "the answers to what was kept")
        wait_for(lambda: installation.status_of(tx) == "rolled_back", 30, "the way back")
        assert (installation.show(tx)["blame"], installation.settled()["active"]["tx_id"]) == ("person", first)
        assert installation.say("and now?") == f"{PREFIX}and now?"
        assert said(bot, cursor, PREFIX) == [f"{PREFIX}{text}" for text in ("one", "two", "three", "and now?")]
        assert len(said(bot, cursor, "No worker runs: ")) == 1
        assert len(said(bot, cursor, "Nothing runs: ")) == 2
        polls = bot.polls()
    first_poll = min(poll.started for poll in polls if poll.mark == polls[-1].mark)
    assert taken_over(installation, "one", "two", "three") < first_poll
    assert overlapping(polls) == []
    assert [poll for poll in polls if poll.outcome is PollOutcome.CONFLICT] == []
    with Ledger.read_only(installation.paths.ledger) as ledger:
        assert len(ledger.events(EventType.RESCUE_STARTED)) == 1
    assert rows(installation.paths.ledger, "SELECT * FROM kept_updates") == []
    assert attempts(installation)[-1] == ""


def attempts(installation: Installation) -> list[str]:
    """What went wrong with each attempt at a rollback; nothing with one that was through."""
    with Ledger.read_only(installation.paths.ledger) as ledger:
        return [str(event.payload.get("error", "")) for event in ledger.events(EventType.ROLLBACK_ATTEMPTED)]


def rows(database: Path, sql: str, *values: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as opened:
        return opened.execute(sql, values).fetchall()


def taken_over(installation: Installation, *texts: str) -> float:
    """When the last of these messages came into the worker's hands, in seconds since the Unix epoch."""
    asked = ", ".join("?" * len(texts))
    found = rows(installation.paths.agent_db, f"SELECT text, created_at FROM inbox WHERE text IN ({asked})", *texts)
    assert sorted(text for text, _ in found) == sorted(texts)
    return max(float(moment) for _, moment in found)


@pytest.fixture(scope="module")
def leaning(install: Install, tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """Up, with few crashes allowed, and with a first revision that leans on something outside of it."""
    source = checkout_with(tmp_path_factory.mktemp("leaning") / "checkout", candidates.leans_on_outside(CHECKOUT))
    made = install(source, SUPERVISOR_CRASH_THRESHOLD="2", AUTONOUS_CONTROL_MAX_RETRIES="10")
    made.up()
    return made


@pytest.mark.fault(30)
def test_the_way_back_goes_on_to_an_older_revision(leaning: Installation, tmp_path: Path) -> None:
    """A message ends the promoted revision, and in another way the one before it: the first revision answers it."""
    made = leaning
    genesis = made.active_sha()
    source = shutil.copytree(made.checkout, tmp_path / "source")
    txs: list[str] = []
    for code in ("9", "8"):
        exits = candidates.exits_when_told(source) if code == "9" else patch_of(source, replaced(
            source, candidates.MODEL, "os._exit(9)", "os._exit(8)"))  # fmt: skip
        txs.append(made.promote(exits))
        made.run("source", str(tmp_path / code)).expect(0)
        shutil.copy(tmp_path / code / candidates.MODEL, source / candidates.MODEL)
    with made.bot() as bot:
        sent = bot.send("crash")
        bot.wait_for(lambda m: m.text.startswith("I am the offline stand-in"), 90, after=sent.cursor)
    assert made.settled()["active"]["sha"] == genesis
    assert (made.show(txs[1])["status"], made.show(txs[1])["blame"]) == ("rolled_back", "own")
    with Ledger.read_only(made.paths.ledger) as ledger:
        targets = [event.payload["target_sha"] for event in ledger.events(EventType.ROLLBACK_ATTEMPTED)]
    assert targets == [made.show(txs[0])["sha"], genesis]
    assert made.say("and now?").startswith("I am the offline stand-in")


@pytest.mark.exhaustive
def test_a_failure_that_n_minus_1_repeats_is_nobodys_fault(leaning: Installation) -> None:
    """Green is given up for what N-1, the first revision, then does alike: told, and the same change may come again."""
    base = leaning.active_sha()
    patch = candidates.adds_a_module(leaning.checkout, "leaning")
    tx = leaning.stage(patch)
    cause = leaning.paths.state / candidates.TOLD
    leaning.run("approve", tx).expect(0)
    wait_for(lambda: leaning.status_of(tx) == "deployed_unstable", 30, "the probation")
    with leaning.bot() as bot:
        cause.touch()
        cursor = bot.send("lean on it").cursor
        try:
            wait_for(lambda: leaning.show(tx)["blame"] == "external", 60, "the ban to be lifted")
            bot.wait_for(lambda m: "The revision before fails just as the last one did" in m.text, 30, after=cursor)
        finally:
            cause.unlink()
        bot.wait_for(lambda m: m.text.startswith("I am the offline stand-in"), 60, after=cursor)
    assert leaning.show(tx)["status"] == "rolled_back"
    assert leaning.settled()["active"]["sha"] == base
    with Ledger.read_only(leaning.paths.ledger) as ledger:
        update = ledger.find(tx)
        assert (update.last_error or "").startswith("exited by itself with code 5")
        assert {crash.reason for crash in ledger.crashes(base, 0)} == {"exited by itself with code 5"}
    again = leaning.run("submit", "-", "--json", given=patch).expect(0).json["tx_id"]
    wait_for(lambda: leaning.status_of(again) not in ("created", "building"), 30, "the policy's word and the build")
    assert leaning.status_of(again) in ("testing", "self_checking", "staged")
    leaning.run("cancel", again).expect(0)
