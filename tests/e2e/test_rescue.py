"""Nothing runs any more: the supervisor stands in at the bot, and no message is lost or answered twice."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.contract import EventType
from supervisor.ledger import Ledger
from supervisor.localbot.faults import PollOutcome
from tests.support import candidates
from tests.support.echo import PREFIX, EchoModel
from tests.support.installation import Install, Installation, wait_for
from tests.support.polls import overlapping

#: Each worker ends at its start with this, of whatever revision; the supervisor cannot know that before.
UNUSABLE = {"AUTONOUS_DUMMY_PROVIDER_SCRIPT": "no such step"}


@pytest.fixture(scope="module")
def installation(install: Install) -> Iterator[Installation]:
    """Up, with a model behind the real adapter that repeats what it is asked."""
    made = install(
        OPENAI_API_KEY="sk-echo",
        OPENAI_MODEL="echo",
        AUTONOUS_OPENAI_UDS="/run/autonous/echo.sock",
        SUPERVISOR_CRASH_THRESHOLD="1000",  # the way back is the owner's, not the supervisor's
    )
    made.paths.create(worker_uid=10001)
    with EchoModel(seconds=0.05).serve(made.paths.contract_directory / "echo.sock"):
        made.up()
        yield made


def test_while_nothing_runs_the_owner_is_served_and_what_was_written_is_answered_afterwards(
    installation: Installation, checkout: Path
) -> None:
    """Every revision ends at its start: told once, /status, /history and rollback obeyed, the rest answered later.

    A rollback asks nobody back, since there is no card then; it is through as soon as a worker runs.
    """
    tx = installation.promote(candidates.adds_a_module(checkout, "spare"))
    first = installation.history()[-1]["tx_id"]
    assert installation.say("hello") == f"{PREFIX}hello"
    assert "no worker comes up" in installation.run("up", settings=UNUSABLE).expect(1).err
    for container in installation.containers():
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
        wait_for(lambda: len(said(installation, cursor, "Nothing runs: ")) == 2, 20, "the second answer")
        assert said(installation, cursor, PREFIX) == []

        installation.up()
        wait_for(lambda: len(said(installation, cursor, PREFIX)) >= 3, 60, "the answers to what was kept")
        wait_for(lambda: installation.status_of(tx) == "rolled_back", 30, "the way back")
        assert (installation.show(tx)["blame"], installation.settled()["active"]["tx_id"]) == ("person", first)
        assert installation.say("and now?") == f"{PREFIX}and now?"
        assert said(installation, cursor, PREFIX) == [f"{PREFIX}{text}" for text in ("one", "two", "three", "and now?")]
        assert len(said(installation, cursor, "No worker runs: ")) == 1
        assert len(said(installation, cursor, "Nothing runs: ")) == 2
        polls = bot.polls()
    assert overlapping(polls) == []
    assert [poll for poll in polls if poll.outcome is PollOutcome.CONFLICT] == []
    with Ledger.read_only(installation.paths.ledger) as ledger:
        assert len(ledger.events(EventType.RESCUE_STARTED)) == 1


def said(installation: Installation, cursor: int, beginning: str) -> list[str]:
    """What the bot said since, as it stands at last; of what begins like this."""
    with installation.bot() as bot:
        events = bot.events(cursor)
    texts = {e.message.message_id: e.message.text for e in events if e.from_bot and e.message is not None}
    return [text for text in texts.values() if text.startswith(beginning)]
