"""kill -9, up to fifty times, while messages come in: none is lost, and every double answer has its reason."""

import random
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import pytest

from tests.load.stage import Model, Stage, Wait, stage, wait_for

CHATS: Final = range(1, 11)
MESSAGES: Final = 500
KILLS: Final = 50
#: How long a worker may live, from its start on: some die before they poll, some in the middle of their work.
LIVES_SECONDS: Final = (0.3, 1.6)


@dataclass(frozen=True)
class Killed:
    """What is left on the stage when the kills are over and the last worker had its time."""

    here: Stage
    in_the_window: dict[str, int]  # answers that were out and not yet noted when a worker died, and how often
    seconds: float


@contextmanager
def killing(messages: int, kills: int, wait: Wait = wait_for) -> Iterator[Killed]:
    """Kill so many workers, one after the other, while so many messages come in; the last worker may live."""
    chance = random.Random(9)
    with stage(Model(chance), CHATS) as here:
        over = threading.Event()
        sender = threading.Thread(target=_talk, args=(here, messages, kills, over))
        sender.start()
        begun = time.monotonic()
        try:
            in_the_window: dict[str, int] = {}
            for _ in range(kills):
                in_the_window.update(_one_life(here, chance))
        finally:
            over.set()
            sender.join()
        last = time.time()
        here.start()
        wait(lambda: any(poll.started > last for poll in here.bot.polls()), 20, "the last worker's first poll")
        wait(lambda: _answered(here) >= messages, 60, "the last answers")
        wait(lambda: here.rows("SELECT 1 FROM outbox WHERE status = 'pending'") == [], 20, "the outbox")
        assert here.stop(signal.SIGTERM) == 0
        yield Killed(here, in_the_window, time.monotonic() - begun)


@pytest.mark.parametrize("kills", [KILLS // 2, pytest.param(KILLS, marks=pytest.mark.exhaustive)])
def test_kills_lose_no_message(kills: int) -> None:
    """Every message is answered; doubled is exactly what Telegram had accepted and we had not yet noted."""
    messages = kills * MESSAGES // KILLS
    with killing(messages, kills) as killed:
        here, in_the_window = killed.here, killed.in_the_window
        doubled = 0
        for chat in CHATS:
            answers, wanted = here.answers(chat), [f"re:{text}" for text in asked(chat, messages)]
            assert set(wanted) - set(answers) == set(), f"chat {chat}"
            first = list(dict.fromkeys(answers))
            assert first == wanted, f"chat {chat} is out of order"
            doubled += len(answers) - len(first)
        print(  # noqa: T201 - the figures that the test is run for
            f"\n{messages} messages, {kills} kills in {killed.seconds:.0f} s: lost 0, answered twice "
            f"{doubled}; accepted by Telegram and not yet noted when killed: {sum(in_the_window.values())}"
        )
        assert doubled == sum(in_the_window.values())


def _one_life(here: Stage, chance: random.Random) -> dict[str, int]:
    """Start a worker and kill it; the answers that were out and not yet noted as such, and how often they were."""
    here.start()
    time.sleep(chance.uniform(*LIVES_SECONDS))
    here.stop(signal.SIGKILL)
    time.sleep(0.05)  # what the Bot API had read of its connections is done now
    pending = here.rows("SELECT chat_id, text FROM outbox WHERE status = 'pending' AND kind = 'answer'")
    counts = {text: here.answers(chat).count(text) for chat, text in pending}
    return {text: count for text, count in counts.items() if count}


def _talk(here: Stage, messages: int, kills: int, over: threading.Event) -> None:
    """Write all messages, spread over the time that the kills take."""
    pause = kills * sum(LIVES_SECONDS) / 2 / messages
    for number in range(messages):
        chat = CHATS[number % len(CHATS)]
        here.bot.send(_text(number), chat_id=chat, user_id=chat)
        over.wait(pause)


def _text(number: int) -> str:
    return f"m{number:04}"


def asked(chat: int, messages: int) -> list[str]:
    """What is asked in a chat when there are so many messages in all."""
    return [_text(number) for number in range(messages) if CHATS[number % len(CHATS)] == chat]


def _answered(here: Stage) -> int:
    return len(here.rows("SELECT 1 FROM inbox WHERE kind = 'message' AND status = 'done'"))
