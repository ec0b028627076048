"""The beginning and the end of an installation: its bot is claimed, and it is purged."""

import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from supervisor import facts
from supervisor.contract import EventType
from supervisor.crashpoints import CRASH_FILE
from supervisor.ledger import Ledger
from supervisor.localbot.app import create_server
from supervisor.localbot.client import LocalBotClient
from supervisor.localbot.store import BotStore
from tests.crash.elsewhere import deaths
from tests.crash.road import Deaths
from tests.support.installation import Install
from tests.support.purging import of_engine, purge

pytestmark = pytest.mark.exhaustive


@pytest.fixture
def unclaimed(install: Install, tmp_path: Path) -> Iterator[tuple[Deaths, LocalBotClient]]:
    """At a bot of Telegram's that nobody has claimed, with the side of its users; not up yet."""
    bomb = tmp_path / "crash-here"
    token = "123456:" + "a" * 35
    made = install(
        TELEGRAM_BOT_TOKEN=token,
        TELEGRAM_API_BASE_URL="http://127.0.0.1:9",  # the supervisor itself has nothing to say here
        AUTONOUS_TELEGRAM_UDS="/run/autonous/telegram.sock",
        **{CRASH_FILE: str(bomb)},
    )
    made.paths.create(worker_uid=10001)
    socket, user = made.paths.contract_directory / "telegram.sock", made.paths.run / "users.sock"
    with (
        closing(BotStore(tmp_path / "bot.db")) as store,
        create_server(store, token, socket=socket, user_socket=user),
        LocalBotClient(user) as client,
    ):
        yield Deaths(made, bomb), client


def test_as_a_bot_is_claimed_and_as_an_installation_is_purged(unclaimed: tuple[Deaths, LocalBotClient]) -> None:
    """One owner, by one event; and ``make purge`` given again leaves nothing."""
    road, bot = unclaimed
    road.installation.up()
    with Ledger.read_only(road.installation.paths.ledger) as ledger:
        code = ledger.fact(facts.CLAIM)
    before, after = deaths("ledger.owner")
    road.dies_at(before, lambda: bot.send(f"/start {code}"))
    assert road.events(EventType.OWNER_CLAIMED) == []
    road.lay(after)
    road.installation.run("up")  # the worker claims it again, as soon as there is anybody to hear it
    road.come_by(after)
    assert len(road.events(EventType.OWNER_CLAIMED)) == 1
    road.installation.up()
    sent = bot.send("are you there?")
    bot.wait_for(lambda message: bool(message.text), 60, after=sent.cursor)
    bot.send(f"/start {code}")
    time.sleep(1)
    with Ledger.read_only(road.installation.paths.ledger) as ledger:
        assert list(ledger.owners()) == [1]
    assert len(road.events(EventType.OWNER_CLAIMED)) == 1

    networks = of_engine(road.installation)["network"]
    assert networks
    for place, gone in zip(deaths("engine.remove_network"), (0, 1), strict=True):
        road.lay(place)
        purge(road.installation).expect(-9)
        assert not road.bomb.exists()
        assert len(networks) - len(of_engine(road.installation)["network"]) == gone
    purge(road.installation).expect(0)
    assert not any(of_engine(road.installation).values())
