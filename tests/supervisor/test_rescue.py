"""The supervisor at the bot while nothing runs: what it answers, what it keeps, and that no worker polls beside it."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from supervisor import views
from supervisor.bot.client import BotApiError, BotClient
from supervisor.bot.commands import Commands
from supervisor.bot.owner_notices import OwnerNotices
from supervisor.bot.rescue import Rescue
from supervisor.contract import EventType, Redactor
from supervisor.ledger import Ledger
from supervisor.localbot.faults import FaultKind, PollOutcome
from supervisor.localbot.store import OWNER
from supervisor.revisions import Revisions
from supervisor.sessions import Signal
from supervisor.states import Status
from supervisor.timing import Clocks, Timing
from supervisor.updates.decisions import Decisions
from tests.supervisor.fakes.installation import Installation
from tests.supervisor.fakes.supervisors import SOURCE
from tests.supervisor.fakes.updates import genesis, update_in
from tests.supervisor.fakes.workers import Behaviour
from tests.supervisor.localbot_support import TOKEN, Running, local_bot, short_directory

STRANGER = 666
SECRET = "sk-canary-that-looks-like-a-key"


@pytest.fixture
def running() -> Iterator[Running]:
    with short_directory() as directory, local_bot(directory) as bot:
        yield bot


@dataclass
class Bench:
    """A rescue whose surroundings are set by hand, at a real Bot API."""

    running: Running
    ledger: Ledger
    revisions: Revisions
    works: bool = False
    polls: bool = True
    trouble: str = "the image is gone"
    owners: tuple[int, ...] = (OWNER,)
    now: float = 0.0
    poll_turn: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.base = genesis(self.ledger)
        self.bot = self.client()
        self.rescue = self.another()

    def client(self) -> BotClient:
        return BotClient("http://localhost/bot", TOKEN, socket=self.running.socket)

    def another(self) -> Rescue:
        """As after a restart of the supervisor."""
        made = Rescue(
            bot=self.client,
            source=SOURCE,
            ledger=self.ledger,
            decisions=Decisions(self.ledger),
            commands=Commands(self.ledger, self.revisions, status=lambda: views.status(self.ledger, running=True)),
            owners=lambda: self.owners,
            works=lambda: self.works,
            polls=lambda: self.works and self.polls,
            trouble=lambda: self.trouble,
            poll_turn=self.poll_turn,
            signal=Signal(),
            timing=Timing(),
            clocks=Clocks(monotonic=lambda: self.now),
        )
        made.needed()
        return made

    def turn(self) -> None:
        """One poll, some time after the last worker."""
        self.now += 10
        self.rescue.turn(self.bot)

    def tell(self) -> None:
        OwnerNotices(bot=self.client, ledger=self.ledger, owners=lambda: self.owners).turn()

    def told(self) -> list[str]:
        return [message.text for message in self.running.user.messages()]

    def kept(self) -> list[tuple[bool, str]]:
        """Whether it was answered, and its text."""
        return [(u.answered, json.loads(u.raw)["message"].get("text", "")) for u in self.ledger.kept(SOURCE)]


@pytest.fixture
def bench(running: Running, tmp_path: Path) -> Iterator[Bench]:
    revisions = Revisions(tmp_path / "revisions.git")
    revisions.create()
    with Ledger(tmp_path / "ledger.db", redact=Redactor([SECRET])) as ledger:
        made = Bench(running, ledger, revisions)
        with made.bot:
            yield made


def test_commands_are_answered_and_everything_else_is_kept_in_order(bench: Bench) -> None:
    """The owner's three commands; other words wait as they were written, those that look like a secret included."""
    for text in ("first", "/status", f"my key is {SECRET}", "/history@bot", "/new"):
        bench.running.user.send(text)
    bench.turn()
    status, history = bench.told()
    assert status.startswith("Nothing runs: the image is gone")
    assert bench.base.tx_id[:8] in history
    assert bench.kept() == [
        (False, "first"),
        (True, "/status"),
        (False, f"my key is {SECRET}"),
        (True, "/history@bot"),
        (False, "/new"),
    ]


@pytest.mark.parametrize(
    "text",
    ["/rollback {tx}", "rollback {tx}", "/rollback@bot {tx}", "/rollback_{tx}", "/rollback\n{tx}", "rollback\t{tx}"],
)
def test_a_rollback_is_obeyed_at_once(bench: Bench, text: str) -> None:
    """No button and no worker is needed for it."""
    update = update_in(bench.ledger, Status.PROMOTED, base=bench.base)
    bench.running.user.send(text.format(tx=update.tx_id[:8]))
    bench.turn()
    assert bench.ledger.find(update.tx_id).status is Status.ROLLBACK_PENDING
    assert bench.told() == [f"Update {update.tx_id[:8]}: going back."]


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("/rollback", "Which update?"),
        ("/rollback 0000", "no update"),
        ("/rollback {base}", "the first revision"),
    ],
)
def test_a_rollback_that_cannot_be_done_says_why(bench: Bench, text: str, answer: str) -> None:
    """In one line, and nothing changes."""
    bench.running.user.send(text.format(base=bench.base.tx_id))
    bench.turn()
    assert answer in bench.told()[0]
    assert bench.ledger.find(bench.base.tx_id).status is Status.PROMOTED


def test_strangers_get_no_answer_and_their_words_are_not_kept(bench: Bench) -> None:
    """Neither those of another person, nor anybody's in a group; who it was is noted."""
    bench.running.user.send("/status", user_id=STRANGER, chat_id=STRANGER)
    bench.running.user.send("/rollback 1234", user_id=OWNER, chat_id=-100)
    bench.turn()
    assert bench.told() == []
    assert bench.running.user.messages(chat_id=STRANGER) == []
    assert bench.kept() == [(False, ""), (False, "")]
    assert [json.loads(u.raw)["message"]["from"]["id"] for u in bench.ledger.kept(SOURCE)] == [STRANGER, OWNER]


def test_a_forwarded_command_is_not_obeyed(bench: Bench) -> None:
    """Somebody else's words command nothing; they wait for the worker, which says so."""
    update = update_in(bench.ledger, Status.PROMOTED, base=bench.base)
    message = {
        "message_id": 5,
        "date": 1_700_000_000,
        "chat": {"id": OWNER, "type": "private"},
        "from": {"id": OWNER, "is_bot": False, "first_name": "Owner"},
        "text": f"/rollback {update.tx_id}",
        "forward_origin": {"type": "hidden_user", "date": 1_700_000_000, "sender_user_name": "X"},
    }
    bench.running.user.update("message", message)
    bench.turn()
    assert bench.ledger.find(update.tx_id).status is Status.PROMOTED
    assert [answered for answered, _ in bench.kept()] == [False]


def test_the_code_that_claims_the_bot_is_kept_while_nobody_owns_it(bench: Bench) -> None:
    """A stranger by number, who may become the owner by the next worker."""
    bench.owners = ()
    bench.running.user.send("/start 1a2b3c", user_id=STRANGER, chat_id=STRANGER)
    bench.running.user.send("something else", user_id=STRANGER, chat_id=STRANGER)
    bench.turn()
    assert bench.kept() == [(False, "/start 1a2b3c"), (False, "")]


def test_nothing_is_obeyed_or_kept_twice(bench: Bench) -> None:
    """The Bot API tells everything again until a later poll; a restart of the supervisor changes nothing about it."""
    bench.running.user.send("/status")
    bench.turn()
    bench.rescue = bench.another()
    bench.turn()
    assert len(bench.told()) == 1
    assert len(bench.kept()) == 1
    bench.ledger.taken(SOURCE, [update.id for update in bench.ledger.kept(SOURCE)])
    bench.turn()
    assert bench.kept() == []


def test_an_answer_that_could_not_be_sent_is_sent_later(bench: Bench) -> None:
    """The command is on the disk before the offset moves, and is marked as answered only then."""
    bench.running.user.send("/status")
    bench.running.user.fault(FaultKind.RETRY_AFTER, "sendMessage")
    with pytest.raises(BotApiError):
        bench.turn()
    assert bench.kept() == [(False, "/status")]
    bench.turn()
    assert len(bench.told()) == 1
    assert bench.kept() == [(True, "/status")]


def test_the_owner_is_told_once_for_all_of_a_bad_time(bench: Bench) -> None:
    """Why, and what to do; a worker that comes up and falls at once does not begin another one."""
    bench.turn()
    bench.tell()
    bench.works, bench.now = True, bench.now + 1
    assert not bench.rescue.needed()
    bench.works = False
    bench.rescue.needed()
    bench.rescue = bench.another()
    bench.turn()
    bench.tell()
    [notice] = bench.told()
    assert "No worker runs: the image is gone" in notice
    assert "/rollback" in notice
    assert len(bench.ledger.events(EventType.RESCUE_STARTED)) == 1


def test_a_bad_time_that_was_noted_and_not_told_yet_is_told_by_the_next_supervisor(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It died between the two."""

    def dies(*_: object) -> bool:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(bench.ledger, "add_notice", dies)
        with pytest.raises(KeyboardInterrupt):
            bench.turn()
    bench.rescue = bench.another()
    bench.turn()
    bench.turn()
    bench.tell()
    assert len(bench.told()) == 1
    assert len(bench.ledger.events(EventType.RESCUE_STARTED)) == 1


def test_a_bad_time_ends_when_a_worker_stays(bench: Bench) -> None:
    """The next one is told again."""
    bench.turn()
    bench.works = True
    bench.rescue.needed()
    bench.now += 100
    bench.rescue.needed()
    assert len(bench.ledger.events(EventType.RESCUE_ENDED)) == 1
    bench.works = False
    bench.rescue.needed()
    bench.turn()
    assert len(bench.ledger.events(EventType.RESCUE_STARTED)) == 2


@pytest.mark.parametrize("case", ["a worker works", "one is on its way", "it is too soon"])
def test_without_need_nobody_polls(bench: Bench, case: str) -> None:
    """Only where nothing has run for a while, and that for a reason."""
    bench.works = case == "a worker works"
    bench.trouble = "" if case == "one is on its way" else "gone"
    bench.now = 4.0 if case == "it is too soon" else 60.0
    bench.rescue.turn(bench.bot)
    assert bench.running.user.polls() == []
    assert bench.ledger.events(EventType.RESCUE_STARTED) == []


def test_workers_that_die_before_they_poll_are_as_good_as_none(bench: Bench) -> None:
    """One after the other comes up and goes; in between somebody asks for what was written."""
    bench.polls = False
    for _ in range(3):
        bench.works = True
        bench.now += 1
        assert not bench.rescue.needed()  # never beside a worker
        bench.works = False
        bench.now += 1
        bench.rescue.needed()
    assert bench.rescue.needed()
    bench.works = bench.polls = True
    bench.rescue.needed()
    bench.works = False
    assert not bench.rescue.needed()


def test_a_worker_that_took_over_while_the_turn_was_awaited_is_not_disturbed(bench: Bench) -> None:
    """Whoever has the turn may hand the bot to a worker; it is asked again afterwards."""
    bench.now = 10.0
    with bench.poll_turn:
        waiting = threading.Thread(target=bench.rescue.turn, args=(bench.bot,))
        waiting.start()
        bench.works = True
    waiting.join(5)
    assert bench.running.user.polls() == []


# -- with workers


@pytest.fixture
def installation(running: Running, tmp_path: Path) -> Iterator[Installation]:
    with Installation(tmp_path / "home") as made:
        made.bot = lambda: BotClient("http://localhost/bot", TOKEN, socket=running.socket)
        yield made


def quiet(running: Running) -> Callable[[], bool]:
    return lambda: all(poll.ended is not None for poll in running.user.polls())


def test_a_worker_becomes_active_only_after_the_last_poll(installation: Installation, running: Running) -> None:
    """While the first revision crashes the supervisor polls; with the grant of the lease that is over."""
    running.user.send("hello")
    installation.behaviours[installation.genesis.sha or ""] = [*[Behaviour(exits_at_start=1)] * 8, Behaviour()]
    with installation.supervised():
        installation.until(lambda: bool(installation.ledger.kept(SOURCE)), what="the message to be kept")
        installation.becomes_active(installation.genesis)
        granted = installation.ledger.events(EventType.LEASE_GRANTED)[-1].timestamp
        time.sleep(0.5)
        polls = running.user.polls()
        assert polls
        assert all(poll.outcome is PollOutcome.ANSWERED for poll in polls)
        assert all(poll.ended is not None and poll.ended <= granted for poll in polls)
        [notice] = [message.text for message in running.user.messages()]
        assert notice.startswith("No worker runs: ")


def test_an_engine_that_is_away_is_no_reason_while_the_worker_lives(
    installation: Installation, running: Running
) -> None:
    """It goes on chatting by itself; nobody polls beside it."""
    with installation.supervised():
        installation.becomes_active(installation.genesis)
        installation.engine.go_away()
        time.sleep(0.6)
        assert running.user.polls() == []
        installation.engine.come_back()


def test_an_engine_that_took_its_workers_along_is_one(installation: Installation, running: Running) -> None:
    """Nothing can be started, and the owner hears why; afterwards a worker takes over."""
    with installation.supervised():
        blue = installation.becomes_active(installation.genesis)
        installation.engine.crash(blue.worker_id, code=137)
        installation.engine.go_away()
        running.user.send("/status")
        running.user.wait_for(lambda message: message.text.startswith("Nothing runs: "), 5)
        installation.engine.come_back()
        installation.becomes_active(installation.genesis)
        installation.until(quiet(running))


def test_a_rollback_is_not_kept_waiting_by_the_pauses_of_a_crash_loop(
    installation: Installation, running: Running
) -> None:
    """It is begun at once, though the next try would come much later."""
    with installation.supervised():
        installation.becomes_active(installation.genesis)
        update = installation.promoted("bad")
        installation.behaviours[update.sha or ""] = [Behaviour(exits_at_start=1)]
        running.user.send(f"rollback {update.tx_id[:8]}")
        green = installation.active()
        assert green is not None
        installation.engine.crash(green.worker_id)
        installation.reaches(update, Status.ROLLED_BACK)
        installation.becomes_active(installation.genesis)


@pytest.mark.fault(31)
def test_while_the_target_of_a_rollback_fails_the_supervisor_answers(
    installation: Installation, running: Running
) -> None:
    """And once it comes up, the rollback is carried out."""
    with installation.supervised():
        blue = installation.becomes_active(installation.genesis)
        update = installation.promoted("to be taken back")
        green = installation.becomes_active(update)
        installation.behaviours[installation.genesis.sha or ""] = [Behaviour(exits_at_start=1)]
        installation.behaviours[update.sha or ""] = [Behaviour(exits_at_start=1)]
        installation.roll_back(update)
        for worker in (blue, green):
            installation.engine.crash(worker.worker_id)
        running.user.send("/status")
        running.user.wait_for(lambda message: message.text.startswith("Nothing runs: "), 5)
        assert EventType.UPDATE_ROLLBACK_FAILED in installation.events(update)
        assert installation.update(update).status is Status.ROLLBACK_PENDING
        installation.behaviours[installation.genesis.sha or ""] = [Behaviour()]
        installation.reaches(update, Status.ROLLED_BACK)
        installation.becomes_active(installation.genesis)
        installation.until(quiet(running))
