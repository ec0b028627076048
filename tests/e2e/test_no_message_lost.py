"""Messages that keep coming while one worker takes over from another: each is answered, once, in its order."""

import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from itertools import pairwise
from pathlib import Path

import pytest

from supervisor.crashpoints import CRASH_FILE, HOLD, held_at
from supervisor.localbot.faults import PollOutcome
from tests.support import candidates
from tests.support.conversation import Conversation
from tests.support.echo import PREFIX, SETTINGS, SOCKET, EchoModel
from tests.support.installation import Install, Installation, wait_for
from tests.support.polls import overlapping


@pytest.fixture(scope="module")
def hold(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file that says where the supervisor has to wait; there is none yet."""
    return tmp_path_factory.mktemp("hold") / "here"


@pytest.fixture(scope="module")
def installation(install: Install, hold: Path) -> Iterator[Installation]:
    """Up, with a model behind the real adapter that takes a moment and repeats what it is asked."""
    made = install(
        **{CRASH_FILE: str(hold)},
        **SETTINGS,
    )
    made.paths.create(worker_uid=10001)
    with EchoModel(seconds=0.05).serve(made.paths.contract_directory / SOCKET):
        made.up()
        assert made.say("hello") == f"{PREFIX}hello"
        yield made


def assert_each_answered_once(conversation: Conversation, *, at_least: int = 1) -> None:
    """None lost, none twice, none before its time, and ``at_least`` so many right in the middle."""
    answers = conversation.answers()
    assert len(conversation.meanwhile) >= at_least
    assert [text for text, times in Counter(answers).items() if times > 1] == []
    assert answers == [f"{PREFIX}{text}" for text in conversation.sent]


def test_a_deploy(installation: Installation, checkout: Path) -> None:
    """From the start of green to the end of its probation."""
    tx = installation.stage(candidates.adds_a_module(checkout, "deployed"))
    conversation = Conversation(installation)
    conversation.during(lambda: installation.run("approve", tx, "--wait").expect(0))
    assert_each_answered_once(conversation)


def test_a_rollback(installation: Installation) -> None:
    """By a person, of the active update."""
    tx = installation.status()["active"]["tx_id"]
    conversation = Conversation(installation)
    conversation.during(lambda: installation.run("rollback", tx, "--wait").expect(0))
    assert_each_answered_once(conversation)


def test_a_message_in_every_step(installation: Installation, checkout: Path) -> None:
    """From the patch to its rollback: whatever the update's status is, a message that comes then is answered once."""
    began = time.time()
    conversation = Conversation(installation, pause=0.1)

    def there_and_back() -> None:
        tx = installation.stage(candidates.adds_a_module(checkout, "stepped"))
        installation.run("approve", tx, "--wait").expect(0)
        installation.run("rollback", tx, "--wait").expect(0)

    conversation.during(there_and_back)
    assert_each_answered_once(conversation)
    steps = _steps_since(installation, began)
    met = {
        status
        for (status, since), (_, until) in pairwise(steps)
        if any(since < moment < until for moment in conversation.times)
    }
    lasting = {status for (status, since), (_, until) in pairwise(steps) if until - since > 0.3}
    assert lasting <= met, f"nothing was said in {lasting - met}"
    assert {"testing", "staged", "deploying", "deployed_unstable", "rollback_pending"} <= met


#: Where a deploy is held, in the order in which it comes by.
IN_A_DEPLOY = [
    "ledger.staged.approved.before",
    "ledger.approved.deploying.before",
    "engine.start.worker.before",
    "engine.start.worker.after",
    "ledger.lease.before",
    "ledger.lease.after",
    "ledger.deploying.deployed_unstable.before",
    "ledger.deployed_unstable.promoted.before",
]
#: And a rollback, whose target stands by already.
IN_A_ROLLBACK = [
    "ledger.promoted.rollback_pending.before",
    "ledger.lease.before",
    "ledger.lease.after",
    "ledger.rollback_pending.rolled_back.before",
]


@pytest.mark.exhaustive
def test_a_message_in_every_single_step(installation: Installation, checkout: Path, hold: Path) -> None:
    """Each step is held until a message has come in it, also those that last for milliseconds."""
    tx = installation.stage(candidates.adds_a_module(checkout, "held"))
    conversation = Conversation(installation)
    for command, places in (("approve", IN_A_DEPLOY), ("rollback", IN_A_ROLLBACK)):
        with _held(hold, places[0]), ThreadPoolExecutor(1) as aside:
            done = aside.submit(installation.run, command, tx, "--wait")
            for place, following in pairwise([*places, ""]):
                wait_for(lambda: _is_held(hold, place), 30, f"somebody at {place}")  # noqa: B023 - called at once
                conversation.say()
                _have_held(hold, following)
            done.result().expect(0)
    conversation.listen_to_the_end()
    assert_each_answered_once(conversation, at_least=len(IN_A_DEPLOY) + len(IN_A_ROLLBACK))


@contextmanager
def _held(hold: Path, place: str) -> Iterator[None]:
    """The supervisor waits there, and nowhere any more afterwards, whatever happens meanwhile."""
    _have_held(hold, place)
    try:
        yield
    finally:
        hold.unlink(missing_ok=True)


def _have_held(hold: Path, place: str) -> None:
    """Let go of whoever waits, and have the next one wait there, if anywhere."""
    held_at(hold).unlink(missing_ok=True)
    written = hold.with_name("written")
    written.write_text(f"{HOLD}{place}" if place else "")
    written.replace(hold)  # nobody may read half of it


def _is_held(hold: Path, place: str) -> bool:
    marker = held_at(hold)
    return marker.exists() and marker.read_text() == place


def _steps_since(installation: Installation, moment: float) -> list[tuple[str, float]]:
    """Each change of an update's status since then, and when it was."""
    with closing(sqlite3.connect(f"file:{installation.paths.ledger}?mode=ro", uri=True)) as ledger:
        status_to = "json_extract(payload, '$.status_to')"
        return ledger.execute(
            f"SELECT {status_to}, timestamp FROM events WHERE timestamp > ? AND {status_to} IS NOT NULL ORDER BY id",
            (moment,),
        ).fetchall()


def test_a_fall_back(installation: Installation, checkout: Path) -> None:
    """Green is killed in its probation, in the middle of whatever it does."""
    tx = installation.stage(candidates.adds_a_module(checkout, "killed"))

    def deploy_and_kill() -> None:
        installation.run("approve", tx).expect(0)
        wait_for(lambda: installation.status_of(tx) == "deployed_unstable", 30, "the probation")
        installation.docker.kill(installation.status()["active"]["container"])
        wait_for(lambda: installation.status_of(tx) == "rolled_back", 20, "the way back")

    conversation = Conversation(installation)
    conversation.during(deploy_and_kill)
    answers = conversation.answers()
    # Telegram may have taken an answer whose sender died before it could note that: once more is right then.
    assert [text for text, times in Counter(answers).items() if times > 2] == []
    assert len(answers) - len(set(answers)) <= 1
    assert list(dict.fromkeys(answers)) == [f"{PREFIX}{text}" for text in conversation.sent]


def test_the_supervisor_away(installation: Installation) -> None:
    """Killed, and started again."""

    def kill_and_start() -> None:
        installation.kill_supervisor()
        installation.up()

    conversation = Conversation(installation)
    conversation.during(kill_and_start)
    assert_each_answered_once(conversation)


def test_never_two_pollers(installation: Installation) -> None:
    """All the while there was no moment in which two workers polled: the bot has refused nobody."""
    with installation.bot() as bot:
        polls = bot.polls()
    assert len(polls) > 20
    assert [poll for poll in polls if poll.outcome is PollOutcome.CONFLICT] == []
    assert overlapping(polls) == []
