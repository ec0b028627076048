"""Up to a thousand messages while both sides fail: each is answered once, and in order within its chat."""

import random
import re
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import pytest

from supervisor.localbot.faults import FaultKind
from tests.load.stage import READ_TIMEOUT_SECONDS, TOKEN, Model, Stage, Wait, stage, wait_for
from worker.agent.courier import WAITS

CHATS: Final = range(1, 21)
MESSAGES: Final = 1000
#: So many messages may be on their way at once: people write faster, but then the polls that fail would be few.
AT_ONCE: Final = 60
#: What goes wrong at the Bot API: every so many messages, which call, and how.
FAULTS: Final = (
    (25, "sendMessage", FaultKind.RETRY_AFTER, 1.0),
    (25, "sendMessage", FaultKind.ERROR, 0.0),
    (40, "sendMessage", FaultKind.DROP, 0.0),
    (40, "sendMessage", FaultKind.DROP_AFTER, 0.0),
    (100, "sendMessage", FaultKind.DELAY, READ_TIMEOUT_SECONDS + 0.5),
    (40, "getUpdates", FaultKind.ERROR, 0.0),
    (70, "getUpdates", FaultKind.DROP_AFTER, 0.0),
    (250, "getUpdates", FaultKind.RETRY_AFTER, 1.0),
)


@dataclass(frozen=True)
class Conversation:
    """What was asked in each chat, on a stage that still stands but for its worker."""

    here: Stage
    model: Model
    asked: dict[int, list[str]]
    doubted: set[str]  # answers that may have arrived, which people were told, and which were asked for again if not
    seconds: float


@contextmanager
def conversation(messages: int, wait: Wait = wait_for) -> Iterator[Conversation]:
    """Have so many messages answered while both sides fail."""
    chance = random.Random(4)
    model = Model(chance, faults={"error": 0.03, "rate": 0.03, "drop": 0.03, "stall": 0.01, "break": 0.02})
    with stage(model, CHATS) as here:
        here.start()
        wait(here.bot.polls, 20, "the first poll")
        begun = time.monotonic()
        asked = _talk(here, messages, chance, wait)
        wait(lambda: _settled(here, messages), 60, "the answers")
        seconds = time.monotonic() - begun
        here.bot.clear_faults()
        time.sleep(READ_TIMEOUT_SECONDS + 1)  # what was delayed arrives now
        doubted = _ask_again_for_what_is_missing(here, wait)
        wait(lambda: _settled(here, messages), 30, "what was asked for again")
        assert here.stop(signal.SIGTERM) == 0
        yield Conversation(here, model, asked, doubted, seconds)


@pytest.mark.fault(44)
@pytest.mark.fault(
    43,
    what="waits are obeyed, what surely did not arrive is sent again",
    user="a late answer; after a time-out in a send a notice with `/again`",
    within=f"the time that Telegram names, else {WAITS.base_seconds:g} s to {WAITS.max_seconds:g} s",
)
@pytest.mark.parametrize("messages", [MESSAGES // 3, pytest.param(MESSAGES, marks=pytest.mark.exhaustive)])
def test_every_message_is_answered_once_and_in_order(messages: int) -> None:
    """429, 500, time-outs and broken connections on both sides lose nothing, double nothing and change no order."""
    with conversation(messages) as talk:
        here, doubted = talk.here, talk.doubted
        for chat, texts in talk.asked.items():
            wanted = [f"re:{text}" for text in texts]
            assert Counter(here.answers(chat)) == Counter(wanted), f"chat {chat}"
            in_order = [answer for answer in here.answers(chat) if answer not in doubted]
            assert in_order == [answer for answer in wanted if answer not in doubted], f"chat {chat}"
        assert here.rows("SELECT COUNT(*) FROM inbox WHERE status = 'dead'") == [(0,)]
        assert TOKEN.partition(":")[2] not in here.log.read_text()
        print(  # noqa: T201 - the figures that the test is run for
            f"\n{messages} messages, {len(CHATS)} chats: {talk.seconds:.1f} s; in doubt and told: {len(doubted)}; "
            f"model calls: {dict(talk.model.hits)}"
        )


def _talk(here: Stage, messages: int, chance: random.Random, wait: Wait) -> dict[int, list[str]]:
    """Send all messages at a steady rate, and have the Bot API fail meanwhile; what was asked in each chat."""
    asked: dict[int, list[str]] = {chat: [] for chat in CHATS}
    for number in range(1, messages + 1):
        chat = chance.choice(CHATS)
        text = f"m{number:04}"
        here.bot.send(text, chat_id=chat, user_id=chat)
        asked[chat].append(text)
        for every, method, kind, seconds in FAULTS:
            if number % every == 0:
                here.bot.fault(kind, method, seconds=seconds)
        if number % 20 == 0:
            limit = number - AT_ONCE
            wait(lambda: len(here.rows("SELECT 1 FROM inbox WHERE status = 'done'")) >= limit, 60, "room")  # noqa: B023
    return asked


def _settled(here: Stage, messages: int) -> bool:
    """Whether all messages came in, and nothing is open or on its way out."""
    ((known,),) = here.rows("SELECT COUNT(*) FROM inbox WHERE kind = 'message'") or [(0,)]
    ((open_messages,),) = here.rows("SELECT COUNT(*) FROM inbox WHERE status IN ('queued', 'in_progress', 'failed')")
    ((pending,),) = here.rows("SELECT COUNT(*) FROM outbox WHERE status = 'pending'")
    return (known, open_messages, pending) == (messages, 0, 0)


def _ask_again_for_what_is_missing(here: Stage, wait: Wait) -> set[str]:
    """Do what the worker tells people to do who miss an answer; gives the answers that were in doubt."""
    doubted = here.rows("SELECT id, chat_id, text FROM outbox WHERE status = 'ambiguous' AND kind = 'answer'")
    for reply_id, chat, text in doubted:
        told = [message.text for message in here.bot.messages(chat_id=chat)]
        assert any(re.search(rf"/again_{reply_id}\b", words) for words in told), f"chat {chat} was not told"
        if text not in here.answers(chat):
            here.bot.send(f"/again_{reply_id}", chat_id=chat, user_id=chat)
    commands = len([1 for _, chat, text in doubted if text not in here.answers(chat)])
    wait(lambda: len(here.rows("SELECT 1 FROM inbox WHERE kind = 'command'")) >= commands, 10, "the commands")
    return {text for _, _, text in doubted}
