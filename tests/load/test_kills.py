"""kill -9, fifty times, while messages come in: none is lost, and every double answer has its reason."""

import random
import signal
import threading
import time
from typing import Final

from tests.load.stage import Model, Stage, stage, wait_for

CHATS: Final = range(1, 11)
MESSAGES: Final = 500
KILLS: Final = 50
#: How long a worker may live, from its start on: some die before they poll, some in the middle of their work.
LIVES_SECONDS: Final = (0.3, 1.6)


def test_fifty_kills_lose_no_message() -> None:
    """Every message is answered; doubled is exactly what Telegram had accepted and we had not yet noted."""
    chance = random.Random(9)
    with stage(Model(chance), CHATS) as here:
        over = threading.Event()
        sender = threading.Thread(target=_talk, args=(here, over))
        sender.start()
        begun = time.monotonic()
        try:
            in_the_window: dict[str, int] = {}
            for _ in range(KILLS):
                in_the_window.update(_one_life(here, chance))
        finally:
            over.set()
            sender.join()
        here.start()
        wait_for(lambda: _answered(here) >= MESSAGES, 60, "the last answers")
        wait_for(lambda: here.rows("SELECT 1 FROM outbox WHERE status = 'pending'") == [], 20, "the outbox")
        assert here.stop(signal.SIGTERM) == 0
        doubled = 0
        for chat in CHATS:
            answers = here.answers(chat)
            assert {f"re:{text}" for text in _texts(chat)} - set(answers) == set(), f"chat {chat}"
            first = list(dict.fromkeys(answers))
            assert first == [f"re:{text}" for text in _texts(chat)], f"chat {chat} is out of order"
            doubled += len(answers) - len(first)
        print(  # noqa: T201 - the figures that the test is run for
            f"\n{MESSAGES} messages, {KILLS} kills in {time.monotonic() - begun:.0f} s: lost 0, answered twice "
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


def _talk(here: Stage, over: threading.Event) -> None:
    """Write all messages, spread over the time that the kills take."""
    pause = KILLS * sum(LIVES_SECONDS) / 2 / MESSAGES
    for number in range(MESSAGES):
        chat = CHATS[number % len(CHATS)]
        here.bot.send(_text(number), chat_id=chat, user_id=chat)
        over.wait(pause)


def _text(number: int) -> str:
    return f"m{number:04}"


def _texts(chat: int) -> list[str]:
    return [_text(number) for number in range(MESSAGES) if CHATS[number % len(CHATS)] == chat]


def _answered(here: Stage) -> int:
    return len(here.rows("SELECT 1 FROM inbox WHERE kind = 'message' AND status = 'done'"))
