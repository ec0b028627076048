"""The supervisor's own calls of the Bot API, against the local bot."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.bot.client import BotApiAmbiguous, BotApiAway, BotApiRefused, BotClient, Button
from supervisor.localbot.faults import FaultKind
from supervisor.localbot.store import OWNER
from tests.supervisor.localbot_support import TOKEN, Running, local_bot, short_directory


@pytest.fixture
def running() -> Iterator[Running]:
    with short_directory() as directory, local_bot(directory) as bot:
        yield bot


@pytest.fixture
def client(running: Running) -> Iterator[BotClient]:
    with BotClient("http://localhost/bot", TOKEN, socket=running.socket) as client:
        yield client


def test_a_message_with_buttons_is_sent_changed_and_loses_them(running: Running, client: BotClient) -> None:
    """As a card is: shown, pressed, and settled."""
    sent = client.send(OWNER, "<b>Approve</b> it?", buttons=[[Button("Approve", "s:1"), Button("Reject", "s:2")]])
    running.user.press("Approve")
    [update] = client.updates(None, 1)
    assert update["callback_query"]["data"] == "s:1"
    client.answer_press(update["callback_query"]["id"], "done")
    client.edit(OWNER, sent, "approved")
    client.edit(OWNER, sent, "approved")  # the same again is no error
    [shown] = [message for message in running.user.messages() if message.message_id == sent]
    assert (shown.text, shown.buttons) == ("approved", ())


def test_a_document_is_sent_in_reply(client: BotClient) -> None:
    """It answers the card that it belongs to."""
    card = client.send(OWNER, "a card")
    assert client.send_document(OWNER, "change.patch", b"diff", caption="the diff", reply_to=card) > card


def test_each_failure_has_its_name(running: Running, client: BotClient) -> None:
    """Refused, gone before it was said, and silent after it was."""
    with pytest.raises(BotApiRefused) as refused:
        client.send(OWNER, "")
    assert refused.value.code == 400
    with BotClient("http://localhost/bot", "1:wrong", socket=running.socket) as other, pytest.raises(BotApiRefused):
        other.user_name()
    with BotClient("http://localhost/bot", TOKEN, socket=Path("/nowhere")) as nobody, pytest.raises(BotApiAway) as away:
        nobody.user_name()
    assert TOKEN not in str(away.value)
    running.user.fault(FaultKind.DROP_AFTER, "sendMessage")
    with pytest.raises(BotApiAmbiguous):
        client.send(OWNER, "hello")
