"""The Bot API and the model go away on the real engine: no revision is blamed, and the clock stands still."""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from supervisor.contract import EventType
from supervisor.ledger import Ledger
from supervisor.localbot.client import LocalBotClient
from supervisor.localbot.faults import FaultKind
from supervisor.timing import IN_SERVICE
from tests.support import candidates
from tests.support.echo import PREFIX, SETTINGS, SOCKET, EchoModel
from tests.support.installation import Install, Installation, wait_for

WINDOW_SECONDS = 4
#: The owner hears of what was away for longer.
TOLD_AFTER_SECONDS = IN_SERVICE.told_after
NOBODY_BLAMED = "no revision is blamed"


def away_for(seconds: float, *, always: bool = False) -> pytest.MarkDecorator:
    """So long, and for ten minutes; where there is time for that, or ``always`` for the shorter one."""
    there_is_time = pytest.mark.exhaustive
    short = pytest.param(seconds, marks=() if always else there_is_time)
    return pytest.mark.parametrize("away", [short, pytest.param(600, marks=there_is_time)])


@dataclass
class Model:
    """A model's server that can go away."""

    socket: Path
    stack: ExitStack = field(default_factory=ExitStack)

    def come(self) -> None:
        self.stack.enter_context(EchoModel().serve(self.socket))

    def go(self) -> None:
        self.stack.close()


@pytest.fixture(scope="module")
def installation(install: Install) -> Installation:
    """Up, at a Bot API and a model that are to go away."""
    made = install(
        **SETTINGS,
        AUTONOUS_UPDATE_STABLE_WINDOW_SECONDS=str(WINDOW_SECONDS),
        AUTONOUS_CONTROL_RETRY_BASE_SECONDS="0.5",
        AUTONOUS_CONTROL_RETRY_MAX_SECONDS="2",
        AUTONOUS_CONTROL_MAX_RETRIES="1000",
        AUTONOUS_CONTROL_NO_PROGRESS_K="1000",  # the same error again and again is what this is about
        AUTONOUS_CONTROL_CIRCUIT_COOLDOWN_SECONDS="2",
    )
    made.paths.create(worker_uid=10001)
    made.up()
    return made


@pytest.fixture
def model(installation: Installation) -> Iterator[Model]:
    """There, until the test lets it go."""
    made = Model(installation.paths.contract_directory / SOCKET)
    made.come()
    yield made
    made.go()


@dataclass
class Outage:
    """One time in which something is away: what the supervisor notes of it, and what it tells the owner."""

    installation: Installation
    bot: LocalBotClient
    what: str
    words: str  # of the notice

    def __post_init__(self) -> None:
        self._since = max((message.message_id for message in self.bot.messages()), default=0)
        self._before = {event: self._noted(event) for event in self._BOTH}

    _BOTH = (EventType.EXTERNAL_TROUBLE_STARTED, EventType.EXTERNAL_TROUBLE_ENDED)

    def seen(self) -> None:
        """Wait until the supervisor has noted it."""
        started = EventType.EXTERNAL_TROUBLE_STARTED
        wait_for(lambda: self._noted(started) > self._before[started], 30, "the trouble to be seen")

    def notices(self) -> list[str]:
        """What the owner was told of it."""
        return [message.text for message in self.bot.messages(self._since) if self.words in message.text]

    def over(self, *, told: bool) -> None:
        """It began once and ended once, and the owner was told once, or not at all of so short a time."""
        if told:
            wait_for(self.notices, 30, "the notice")
        wait_for(lambda: self._noted(self._BOTH[1]) > self._before[self._BOTH[1]], 30, "the end of the trouble")
        time.sleep(3)  # for one notice too many
        assert {event: self._noted(event) - self._before[event] for event in self._BOTH} == dict.fromkeys(self._BOTH, 1)
        assert len(self.notices()) == told
        assert all(NOBODY_BLAMED in notice for notice in self.notices())

    def _noted(self, event: EventType) -> int:
        with Ledger.read_only(self.installation.paths.ledger) as ledger:
            return [found.payload["what"] for found in ledger.events(event)].count(self.what)


def assert_not_blamed(installation: Installation, tx: str) -> None:
    """It is promoted, and its change may be handed in again."""
    wait_for(lambda: installation.status_of(tx) in ("promoted", "rolled_back"), 60, "the end of the probation")
    assert installation.status_of(tx) == "promoted", installation.run("show", tx).out
    with Ledger.read_only(installation.paths.ledger) as ledger:
        update = ledger.find(tx)
        assert update.blame is None
        assert update.patch_id is None or ledger.failed_before(update.patch_id) is None  # the first has none


def answered(bot: LocalBotClient, sent: int, text: str) -> bool:
    """Whether the first answer since is the one to this text."""
    return bot.wait_for(lambda m: m.text.startswith(PREFIX), 60, after=sent).text == f"{PREFIX}{text}"


def in_probation(installation: Installation, checkout: Path, name: str) -> str:
    tx = installation.stage(candidates.adds_a_module(checkout, name))
    installation.run("approve", tx).expect(0)
    wait_for(lambda: installation.status_of(tx) == "deployed_unstable", 30, "the probation")
    return tx


def stays_away(installation: Installation, seconds: float, tx: str, status: str) -> None:
    """Nothing becomes of the update all that time."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        assert installation.status_of(tx) == status, installation.run("show", tx).out
        time.sleep(max(0.0, min(10, until - time.monotonic())))


@away_for(12, always=True)
def test_the_bot_api_away_in_a_probation(installation: Installation, model: Model, checkout: Path, away: float) -> None:
    """Green is neither promoted nor blamed while its clock stands still; what was written then is answered."""
    tx = in_probation(installation, checkout, f"one_{away}")
    with installation.bot() as bot:
        outage = Outage(installation, bot, "bot_api", "the chat could not be reached")
        bot.fault(FaultKind.ERROR, count=1_000_000, status=500)
        outage.seen()
        sent = bot.send("are you there?").cursor
        stays_away(installation, away, tx, "deployed_unstable")
        assert "500" in " ".join(installation.status()["trouble"])
        bot.clear_faults()
        assert_not_blamed(installation, tx)
        assert answered(bot, sent, "are you there?")
        outage.over(told=away > TOLD_AFTER_SECONDS)


@away_for(TOLD_AFTER_SECONDS + 5)
def test_the_bot_api_away_out_of_a_probation(installation: Installation, model: Model, away: float) -> None:
    """The same worker goes on afterwards, answers what was written meanwhile, and the owner is told once."""
    active = installation.settled()["active"]
    with installation.bot() as bot:
        outage = Outage(installation, bot, "bot_api", "the chat could not be reached")
        bot.fault(FaultKind.ERROR, count=1_000_000, status=502)
        outage.seen()
        sent = bot.send("still there?").cursor
        stays_away(installation, away, active["tx_id"], "promoted")
        bot.clear_faults()
        assert answered(bot, sent, "still there?")
        outage.over(told=True)
    assert installation.settled()["active"] == active
    assert_not_blamed(installation, active["tx_id"])


@away_for(12)
def test_the_model_away_in_a_probation(installation: Installation, model: Model, checkout: Path, away: float) -> None:
    """The message waits, green keeps its lease and is not blamed, and the owner is told once."""
    tx = in_probation(installation, checkout, f"two_{away}")
    with installation.bot() as bot:
        outage = Outage(installation, bot, "model", "model's server")
        model.go()
        sent = bot.send("think of me").cursor
        outage.seen()
        wait_for(outage.notices, 60, "the notice")  # while it is away
        stays_away(installation, away, tx, "deployed_unstable")
        model.come()
        assert answered(bot, sent, "think of me")
        assert_not_blamed(installation, tx)
        outage.over(told=True)


@away_for(12)
def test_the_model_away_out_of_a_probation(installation: Installation, model: Model, away: float) -> None:
    """The message waits, and nothing about the installation changes."""
    active = installation.settled()["active"]
    with installation.bot() as bot:
        outage = Outage(installation, bot, "model", "model's server")
        model.go()
        sent = bot.send("and now?").cursor
        outage.seen()
        stays_away(installation, away, active["tx_id"], "promoted")
        model.come()
        assert answered(bot, sent, "and now?")
        outage.over(told=away > TOLD_AFTER_SECONDS)
    assert installation.settled()["active"] == active
    assert_not_blamed(installation, active["tx_id"])
