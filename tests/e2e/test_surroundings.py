"""The Bot API and the model go away on the real engine: no revision is blamed, and the clock stands still."""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from supervisor.contract import EventType
from supervisor.ledger import Ledger
from supervisor.localbot.faults import FaultKind
from tests.support import candidates
from tests.support.echo import PREFIX, EchoModel
from tests.support.installation import Install, Installation, wait_for

WINDOW_SECONDS = 4
AWAY_SECONDS = 12


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
        OPENAI_API_KEY="sk-echo",
        OPENAI_MODEL="echo",
        AUTONOUS_OPENAI_UDS="/run/autonous/echo.sock",
        AUTONOUS_UPDATE_STABLE_WINDOW_SECONDS=str(WINDOW_SECONDS),
        AUTONOUS_CONTROL_RETRY_BASE_SECONDS="0.5",
        AUTONOUS_CONTROL_RETRY_MAX_SECONDS="2",
        AUTONOUS_CONTROL_MAX_RETRIES="50",
        AUTONOUS_CONTROL_NO_PROGRESS_K="100",  # the same error again and again is what this is about
        AUTONOUS_CONTROL_CIRCUIT_COOLDOWN_SECONDS="2",
    )
    made.paths.create(worker_uid=10001)
    made.up()
    return made


@pytest.fixture
def model(installation: Installation) -> Iterator[Model]:
    """There, until the test lets it go."""
    made = Model(installation.paths.contract_directory / "echo.sock")
    made.come()
    yield made
    made.go()


def trouble(installation: Installation, event: EventType) -> list[str]:
    """What the supervisor has seen to be away, or back."""
    with Ledger.read_only(installation.paths.ledger) as ledger:
        return [found.payload["what"] for found in ledger.events(event)]


def assert_promoted(installation: Installation, tx: str) -> None:
    wait_for(lambda: installation.status_of(tx) in ("promoted", "rolled_back"), 60, "the end of the probation")
    assert installation.status_of(tx) == "promoted", installation.run("show", tx).out


def in_probation(installation: Installation, checkout: Path, name: str) -> str:
    tx = installation.stage(candidates.adds_a_module(checkout, name))
    installation.run("approve", tx).expect(0)
    wait_for(lambda: installation.status_of(tx) == "deployed_unstable", 30, "the probation")
    return tx


def test_the_bot_api_away_in_a_probation(installation: Installation, model: Model, checkout: Path) -> None:
    """For three windows: green is neither promoted nor blamed; what was written then is answered."""
    tx = in_probation(installation, checkout, "one")
    with installation.bot() as bot:
        bot.fault(FaultKind.ERROR, count=1_000_000, status=500)
        wait_for(
            lambda: "bot_api" in trouble(installation, EventType.EXTERNAL_TROUBLE_STARTED), 15, "the trouble to be seen"
        )
        sent = bot.send("are you there?")
        time.sleep(AWAY_SECONDS)
        assert installation.status_of(tx) == "deployed_unstable"
        assert "500" in " ".join(installation.status()["trouble"])
        bot.clear_faults()
        assert_promoted(installation, tx)
        assert (
            bot.wait_for(lambda m: m.text.startswith(PREFIX), 60, after=sent.cursor).text == f"{PREFIX}are you there?"
        )
    assert trouble(installation, EventType.EXTERNAL_TROUBLE_ENDED) == ["bot_api"]


def test_the_model_away_in_a_probation_and_out_of_it(installation: Installation, model: Model, checkout: Path) -> None:
    """The message waits, green keeps its lease, and the owner is told once; out of a probation nothing changes."""
    tx = in_probation(installation, checkout, "two")
    model.go()
    with installation.bot() as bot:
        sent = bot.send("think of me")
        wait_for(
            lambda: "model" in trouble(installation, EventType.EXTERNAL_TROUBLE_STARTED), 20, "the trouble to be seen"
        )
        notice = bot.wait_for(lambda m: "model's server" in m.text, 60, after=sent.cursor).text
        assert "no revision is blamed" in notice
        assert installation.status_of(tx) == "deployed_unstable"
        model.come()
        answer = bot.wait_for(lambda m: m.text.startswith(PREFIX), 60, after=sent.cursor)
        assert answer.text == f"{PREFIX}think of me"
        assert_promoted(installation, tx)

        active = installation.settled()["active"]
        model.go()
        sent = bot.send("and now?")
        wait_for(
            lambda: trouble(installation, EventType.EXTERNAL_TROUBLE_STARTED).count("model") == 2, 30, "the trouble"
        )
        time.sleep(AWAY_SECONDS)
        model.come()
        assert bot.wait_for(lambda m: m.text.startswith(PREFIX), 60, after=sent.cursor).text == f"{PREFIX}and now?"
        assert [m.text for m in bot.messages() if "model's server" in m.text] == [notice]
    assert installation.settled()["active"] == active
    assert installation.status_of(tx) == "promoted"
