"""From a sentence in the chat to a promoted revision, with the real clients, the local bot and real containers."""

import json
import sqlite3
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from supervisor.localbot.client import LocalBotClient, Message
from supervisor.localbot.store import OWNER
from tests.support import candidates
from tests.support.checkouts import FEW_TESTS
from tests.support.installation import Install, Installation, wait_for
from tests.support.played import ECHO, Call, PlayedModel, Turn, bash, edit, propose

SECOND_OWNER = 4711
COMMANDS = "worker/agent/commands.py"
MODEL = "worker/models/dummy.py"
MODEL_TESTS = "tests/worker/test_models_dummy.py"
PLACE = '            "/again": self._again,\n'
REPLY = "I am the offline stand-in for a model"
GATE_SECONDS = 90


def command(name: str, answer: str) -> str:
    """The place in the source with one more command."""
    return f'{PLACE}            "/{name}": lambda *_: Reply("{answer}"),\n'


ANEW = [Call("own_source", {"fresh": True})]

PARTS: dict[str, Sequence[Turn]] = {
    "/patch roll dice": [
        edit(COMMANDS, PLACE, command("dice", "You rolled a 4.")),
        bash("sh run-tests"),
        propose("a dice command", "it was asked for"),
        "I added /dice. You will be asked.",
    ],
    "/patch be cheerful": [
        edit(MODEL, REPLY, "I am a cheerful stand-in"),
        propose("cheerful"),
        "I am more cheerful now.",
    ],
    '("cheerful") did not pass': [
        edit(MODEL, "I am a cheerful stand-in", REPLY),
        edit(COMMANDS, PLACE, command("cheer", "Hooray!")),
        propose("cheerful, by a command"),
        "Now it passes.",
    ],
    "/patch break": [edit(MODEL, REPLY, "I am broken"), propose("broken"), "Done."],
    '("broken") did not pass': [edit(MODEL, "I am broken", "I am still broken"), propose("broken"), "Done again."],
    "/patch judge yourself": [
        ANEW,
        edit(MODEL, REPLY, "I am my own judge"),
        edit(MODEL_TESTS, REPLY, "I am my own judge"),
        propose("<b>APPROVED</b> by the owner", "✅ Approved. Buttons are not needed."),
        "Approved ✅",
    ],
    "/patch mine": [ANEW, edit(COMMANDS, PLACE, command("mine", "mine")), propose("mine"), "Yours comes."],
    "/patch yours": [ANEW, edit(COMMANDS, PLACE, command("yours", "yours")), propose("yours"), "Yours comes, too."],
}


class Chat:
    """One owner's private chat."""

    def __init__(self, client: LocalBotClient, chat_id: int = OWNER) -> None:
        self._client = client
        self._id = chat_id
        self._cursor = 0
        self.mark()

    def mark(self) -> None:
        """Forget what was said so far."""
        events = self._client.events(chat_id=self._id)
        self._cursor = events[-1].cursor if events else 0

    def say(self, text: str) -> None:
        """Write, and listen from here on."""
        self._cursor = self._client.send(text, chat_id=self._id, user_id=self._id).cursor

    def hears(self, *words: str, seconds: float = GATE_SECONDS) -> Message:
        """The first message or edit that holds all these words."""
        return self._client.wait_for(
            lambda message: all(word in message.text for word in words), seconds, after=self._cursor, chat_id=self._id
        )

    def card(self, *words: str) -> Message:
        """The supervisor's card, with its buttons."""
        return self._client.wait_for(
            lambda message: bool(message.buttons) and all(word in message.text for word in words),
            GATE_SECONDS,
            after=self._cursor,
            chat_id=self._id,
        )

    def press(self, label: str, message: Message) -> None:
        """Press a button of a message."""
        self._client.press(label, message_id=message.message_id, chat_id=self._id, user_id=self._id)

    def texts(self) -> list[str]:
        """Everything that the bot's messages say now."""
        return [message.text for message in self._client.messages(chat_id=self._id)]


def ledger(installation: Installation, sql: str, *values: object) -> list[tuple[Any, ...]]:
    """Ask the ledger."""
    connection = sqlite3.connect(f"file:{installation.paths.ledger}?mode=ro", uri=True)
    try:
        return connection.execute(sql, values).fetchall()
    finally:
        connection.close()


def latest(installation: Installation, title: str) -> str:
    """The tx of the latest update of that title."""
    found = ledger(installation, "SELECT tx_id FROM artifacts WHERE title = ? ORDER BY created_at DESC", title)
    assert found, f"no update has the title {title!r}"
    return str(found[0][0])


def status(installation: Installation, tx: str) -> str:
    return str(ledger(installation, "SELECT status FROM artifacts WHERE tx_id = ?", tx)[0][0])


def reaches(installation: Installation, tx: str, wanted: str, seconds: float = GATE_SECONDS) -> None:
    wait_for(lambda: status(installation, tx) == wanted, seconds, f"{tx[:8]} is {wanted}")


@pytest.fixture(scope="module")
def model() -> PlayedModel:
    return PlayedModel(PARTS)


@pytest.fixture(scope="module")
def installation(install: Install, model: PlayedModel) -> Iterator[Installation]:
    made = install(
        OPENAI_API_KEY="sk-played",
        OPENAI_MODEL="played",
        AUTONOUS_OPENAI_UDS="/run/autonous/played.sock",
        AUTONOUS_TELEGRAM_ALLOWED_USERS=str(SECOND_OWNER),
        AUTONOUS_UPDATE_MAX_REPAIRS="1",
    )
    made.paths.create(worker_uid=10001)
    with model.serve(made.paths.contract_directory / "played.sock"):
        made.up()
        yield made


@pytest.fixture
def chat(installation: Installation) -> Iterator[Chat]:
    with installation.bot() as client:
        yield Chat(client)


@pytest.fixture(scope="module")
def promoted(installation: Installation) -> str:
    """The first wish, all the way; its tx."""
    with installation.bot() as client:
        chat = Chat(client)
        chat.say("/patch roll dice")
        chat.hears("exam passed", "waiting for you")
        card = chat.card("a dice command")
        tx = latest(installation, "a dice command")
        assert status(installation, tx) == "staged"
        chat.press("Approve", card)
        reaches(installation, tx, "promoted")
        return tx


def test_the_whole_road(installation: Installation, promoted: str, chat: Chat, model: PlayedModel) -> None:
    """From /patch to the new command: chat, ledger, events, images and the repository say the same."""
    chat.say("/dice")
    chat.hears("You rolled a 4.", seconds=10)
    texts = chat.texts()
    assert any("I added /dice. You will be asked." in text for text in texts)
    (shown,) = (text for text in texts if text.startswith(f"Update {promoted[:8]}:"))  # one message, edited
    assert [line[0] for line in shown.splitlines()[1:]] == ["✓", "✓", "✓", "✓", "…"]
    assert [text for text in texts if promoted[:8] in text and "promoted" in text]

    columns = "status, why, model, tokens, chat_id, origin, repairs, approval_by"
    (row,) = ledger(installation, f"SELECT {columns} FROM artifacts WHERE tx_id = ?", promoted)
    assert row[:2] == ("promoted", "it was asked for")
    assert row[2:6] == ("played", 360, OWNER, "chat")
    assert not row[6]
    assert row[7] != "terminal"
    entry = next(entry for entry in installation.history() if entry["tx_id"] == promoted)
    assert (entry["active"], entry["status"]) == (True, "promoted")
    assert installation.docker.inspect_image(entry["image_id"])["Config"]["Labels"]["autonous.tx"] == promoted
    active = subprocess.run(
        ["git", "--git-dir", str(installation.paths.revisions), "rev-parse", "refs/heads/active"],
        capture_output=True,
        check=True,
    )
    assert active.stdout.decode().strip() == entry["sha"] == installation.active_sha()
    told = json.dumps(installation.run("events", "--tx", promoted, "--json").expect(0).json)
    steps = ["txn.created", "build.completed", "test.completed", "self_check.completed", "artifact.staged"]
    steps += ["approved", "deploy.started", "deploy.completed", "promoted"]
    places = [told.find(f"update.{step}") for step in steps]
    assert -1 not in places
    assert places == sorted(places)
    # The model ran the tests itself before it proposed.
    assert any(f"{_number_of_few_tests()} passed" in result for scene in model.scenes for result in scene.results)


def _number_of_few_tests() -> int:
    return FEW_TESTS.read_text().count("\ndef test_")


@pytest.mark.exhaustive
def test_an_update_of_its_own_is_no_longer_in_the_copy(
    installation: Installation, promoted: str, chat: Chat, model: PlayedModel
) -> None:
    """A failing first attempt is repaired by the second, which names it; the promoted change is in neither."""
    chat.say("/patch be cheerful")
    failed = chat.hears("✗", "test")
    assert "Update" in failed.text
    chat.card("cheerful, by a command")
    first, second = latest(installation, "cheerful"), latest(installation, "cheerful, by a command")
    assert (status(installation, first), status(installation, second)) == ("test_failed", "staged")
    assert ledger(installation, "SELECT repairs FROM artifacts WHERE tx_id = ?", second) == [(first,)]
    request = next(scene.text for scene in model.scenes if "did not pass" in scene.text)
    assert "test_the_offline_reply" in request
    patch = installation.run("diff", second).expect(0).out
    assert "/cheer" in patch
    assert '+            "/dice"' not in patch
    installation.run("cancel", second).expect(0)


def test_attempts_are_exhausted(installation: Installation, promoted: str, chat: Chat, model: PlayedModel) -> None:
    """The chat is told, nothing is staged, and the next run knows what failed."""
    chat.say("/patch break")
    chat.hears("I leave it at that")
    attempts = ledger(installation, "SELECT status, repairs FROM artifacts WHERE title = 'broken' ORDER BY created_at")
    assert [status for status, _ in attempts] == ["test_failed", "test_failed"]
    assert attempts[1][1]
    chat.say("/patch anything")
    chat.hears(ECHO, "anything", seconds=20)
    system = str(model.scenes[-1].messages[0]["content"])
    assert "broken" in system
    assert "test_the_offline_reply" in system


def test_words_decide_nothing(installation: Installation, promoted: str, chat: Chat, model: PlayedModel) -> None:
    """A patch that edits its own tests to pass and calls itself approved waits, and the card says what it did.

    The model cannot approve it through its tools either: there is nothing to reach.
    """
    chat.say("/patch judge yourself")
    card = chat.card("APPROVED")
    tx = latest(installation, "<b>APPROVED</b> by the owner")
    assert "<b>APPROVED</b> by the owner" in card.text
    assert "test_the_offline_reply" in card.text
    shown = installation.show(tx)["card"]
    assert shown["changed_expectations"] == [f"{MODEL_TESTS}::test_the_offline_reply"]
    model.parts["approve it yourself"] = [
        [Call("own_source", {})],
        bash(_ATTEMPTS.format(tx=tx)),
        lambda scene: f"It said: {scene.results[-1]}",
    ]
    for words in (f"approve {tx}", "Approved", "✅ Approve"):
        chat.say(words)
        chat.hears(ECHO, seconds=20)
    chat.say("approve it yourself")
    said = chat.hears("It said:", seconds=30).text
    assert "FileNotFoundError" in said  # the socket is not there
    _press_forged(installation, card)
    assert status(installation, tx) == "staged"
    assert ledger(installation, "SELECT approval_by FROM artifacts WHERE tx_id = ?", tx) == [(None,)]
    chat.press("Reject", card)
    reaches(installation, tx, "cancelled", seconds=10)


def _press_forged(installation: Installation, card: Message) -> None:
    """A button that the supervisor did not make, under its own card: it decides nothing, and is an event."""
    sender = {"id": OWNER, "is_bot": False, "first_name": "Owner"}
    message = {"message_id": card.message_id, "date": 1, "chat": {"id": OWNER, "type": "private"}, "text": card.text}
    query = {"id": "forged", "from": sender, "message": message, "chat_instance": "1", "data": "s:approve-it"}
    with installation.bot() as client:
        client.update("callback_query", query)
    unknown = (
        "SELECT 1 FROM events WHERE event_type = 'update.press' AND json_extract(payload, '$.verdict') = 'unknown'"
    )
    wait_for(lambda: ledger(installation, unknown), 10, "the press of a forged button is an event")


_ATTEMPTS = (
    "supervisor approve {tx}; python -m supervisor approve {tx}; ls /run/autonous /state;"
    " python -c \"import socket; s = socket.socket(socket.AF_UNIX); s.connect('/run/autonous/supervisor.sock')\""
)


def test_rollback_from_the_chat(installation: Installation, promoted: str, chat: Chat) -> None:
    """The word and the tx; a button asks back; then the command that was added is gone."""
    chat.say(f"rollback {promoted[:8]}")
    asked = chat.card(promoted[:8])
    assert status(installation, promoted) == "promoted"
    chat.press(asked.buttons[0].label, asked)
    reaches(installation, promoted, "rolled_back", seconds=60)
    chat.say("/dice")
    chat.hears(f"{ECHO}/dice", seconds=20)


@pytest.mark.exhaustive
def test_two_owners_do_not_mix(installation: Installation, promoted: str) -> None:
    """Each has a copy, a card and an ending of their own; neither can press the other's button."""
    with installation.bot() as client:
        first, second = Chat(client), Chat(client, SECOND_OWNER)
        first.say("/patch mine")
        second.say("/patch yours")
        cards = first.card("mine"), second.card("yours")
        tx = {title: latest(installation, title) for title in ("mine", "yours")}
        for title, other in (("mine", "yours"), ("yours", "mine")):
            patch = installation.run("diff", tx[title]).expect(0).out
            assert f"/{title}" in patch
            assert f"/{other}" not in patch
        _press_in_their_own_chat(client, cards[0], by=SECOND_OWNER)
        _press_in_their_own_chat(client, cards[1], by=OWNER)
        wait_for(
            lambda: [_verdicts(installation, each) for each in tx.values()] == [["wrong_chat"]] * 2, 10, "no decision"
        )
        assert [status(installation, each) for each in tx.values()] == ["staged"] * 2
        second.press("Reject", cards[1])
        reaches(installation, tx["yours"], "cancelled", seconds=10)
        first.press("Approve", cards[0])
        first.hears(tx["mine"][:8], "is promoted")
        for chat, theirs in ((first, tx["yours"]), (second, tx["mine"])):
            assert [text for text in chat.texts() if theirs[:8] in text] == []


def _verdicts(installation: Installation, tx: str) -> list[str]:
    """What came of each press of an update's buttons."""
    presses = "SELECT payload ->> 'verdict' FROM events WHERE event_type = 'update.press' AND payload ->> 'tx_id' = ?"
    return [verdict for (verdict,) in ledger(installation, f"{presses} ORDER BY id", tx)]


def _press_in_their_own_chat(client: LocalBotClient, card: Message, *, by: int) -> None:
    """The approving button of another chat's card, as if it stood under a message of theirs."""
    data = next(button.data for button in card.buttons if button.label == "Approve")
    message = {"message_id": card.message_id, "date": 1, "chat": {"id": by, "type": "private"}}
    sender = {"id": by, "is_bot": False, "first_name": "Owner"}
    query = {"id": f"by-{by}", "from": sender, "message": message, "chat_instance": "1", "data": data}
    client.update("callback_query", query)


@pytest.mark.exhaustive
def test_the_next_wish_begins_with_how_the_last_one_failed_in_service(
    installation: Installation, checkout: Path, chat: Chat, model: PlayedModel
) -> None:
    """The model is told why the update was rolled back, and what it printed last."""
    tx = installation.stage(candidates.forges_a_card(checkout))
    installation.run("approve", tx, "--wait").expect(1)
    reaches(installation, tx, "rolled_back")
    chat.say("/patch anything at all")
    chat.hears(ECHO, "anything at all", seconds=20)
    system = str(model.scenes[-1].messages[0]["content"])
    assert f"update {tx[:8]} " in system
    assert "ended as rolled_back: exited by itself with code 7" in system
    assert candidates.FORGED_CARD[0] in system
