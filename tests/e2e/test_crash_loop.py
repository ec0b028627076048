"""A promoted revision that keeps dying is taken back from the chat, through its short lives or through the rescue."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from supervisor.contract import EventType
from supervisor.ledger import Ledger
from supervisor.localbot.client import LocalBotClient, LocalBotRefused, Message
from tests.support import candidates
from tests.support.echo import PREFIX, SETTINGS, SOCKET, EchoModel
from tests.support.installation import Install, Installation, wait_for

#: Longer than the probation of 2 s, and short enough to be met several times.
LIFE_SECONDS = 4.0
#: The supervisor stands in after five seconds without a worker, so before the next one is started.
DELAY_FOR_RESCUE = {"SUPERVISOR_RESTART_DELAY_SECONDS": "8"}


@pytest.fixture(scope="module")
def installation(install: Install) -> Iterator[Installation]:
    """Up, and never going back by itself, so that the way back is the person's alone."""
    made = install(
        **SETTINGS,
        SUPERVISOR_CRASH_THRESHOLD="1000",
    )
    made.paths.create(worker_uid=10001)
    with EchoModel(seconds=0.05).serve(made.paths.contract_directory / SOCKET):
        made.up()
        yield made


@pytest.fixture
def bot(installation: Installation) -> Iterator[LocalBotClient]:
    """The owner's side of the chat."""
    with installation.bot() as client:
        yield client


def count(installation: Installation, event: EventType) -> int:
    """How often this has happened."""
    with Ledger.read_only(installation.paths.ledger) as ledger:
        return len(ledger.events(event))


def verdicts(installation: Installation, tx: str) -> list[str]:
    """What came of the presses about an update."""
    with Ledger.read_only(installation.paths.ledger) as ledger:
        pressed = ledger.events(EventType.UPDATE_PRESSED)
    return [str(event.payload["verdict"]) for event in pressed if event.payload.get("tx_id") == tx]


def answers(bot: LocalBotClient) -> list[str]:
    """What the model has answered, as it stands now."""
    return [message.text for message in bot.messages() if message.text.startswith(PREFIX)]


def assert_taken_back(installation: Installation, tx: str, base_sha: str) -> None:
    """By a person, to its base, which serves."""
    shown = installation.show(tx)
    assert (shown["status"], shown["blame"]) == ("rolled_back", "person")
    assert installation.settled()["active"]["sha"] == base_sha
    assert count(installation, EventType.CRASH_LOOP_DETECTED) == 0


@pytest.mark.exhaustive
def test_through_a_worker_that_lives_for_seconds(
    installation: Installation, bot: LocalBotClient, checkout: Path
) -> None:
    """The word, the card and the press are each carried by whichever worker lives then; what was said is answered."""
    base = installation.active_sha()
    tx = installation.promote(candidates.exits_in_service(checkout, LIFE_SECONDS))
    activated = count(installation, EventType.WORKER_ACTIVATED)
    wait_for(lambda: count(installation, EventType.WORKER_ACTIVATED) >= activated + 2, 90, "two lives after the first")
    bot.send("said in the loop")
    bot.send(f"rollback {tx[:8]}")

    def asked() -> Message | None:
        return next((m for m in bot.messages() if any(b.label == "Go back" for b in m.buttons)), None)

    card = wait_for(asked, 60, "the question")
    assert card is not None

    def goes_back() -> bool:
        with suppress(LocalBotRefused):  # the button is gone
            bot.press("Go back", message_id=card.message_id)
        return installation.status_of(tx) != "promoted"

    wait_for(goes_back, 60, "the press to count")
    wait_for(lambda: installation.status_of(tx) == "rolled_back", 60, "the way back")
    assert_taken_back(installation, tx, base)
    assert verdicts(installation, tx).count("accepted") == 1
    assert installation.say("and afterwards") == f"{PREFIX}and afterwards"
    assert answers(bot) == [f"{PREFIX}said in the loop", f"{PREFIX}and afterwards"]


@pytest.mark.exhaustive
def test_through_the_rescue_when_it_dies_at_once(
    installation: Installation, bot: LocalBotClient, checkout: Path
) -> None:
    """No worker lives to relay a word: the supervisor obeys it by itself, and the rest is answered by the base."""
    installation.settings |= DELAY_FOR_RESCUE
    installation.down()
    installation.up()
    base = installation.active_sha()
    tx = installation.promote(candidates.exits_at_activation_when_told(checkout))
    (installation.paths.state / candidates.TOLD).touch()
    exits = count(installation, EventType.WORKER_EXITED)
    installation.docker.kill(installation.active_container()["Id"])
    wait_for(lambda: count(installation, EventType.WORKER_EXITED) > exits, 20, "its death")
    cursor = bot.send("said while none lives").cursor
    bot.send(f"rollback {tx[:8]}")
    bot.wait_for(lambda m: f"Update {tx[:8]}: going back" in m.text, 60, after=cursor)
    wait_for(lambda: installation.status_of(tx) == "rolled_back", 60, "the way back")
    assert_taken_back(installation, tx, base)
    wait_for(lambda: f"{PREFIX}said while none lives" in answers(bot), 60, "the answer to what was kept")
    assert installation.say("once more") == f"{PREFIX}once more"
    assert answers(bot).count(f"{PREFIX}said while none lives") == 1
