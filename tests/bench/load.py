"""Messages at a steady rate, and what became of each."""

import itertools
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from supervisor.localbot.client import LocalBotClient
from supervisor.localbot.store import EventKind

_chats = itertools.count(1000)
#: How long an answer may take before the message counts as lost, and how long one waits for a second answer.
LOST_AFTER_SECONDS: Final = 15.0
_SECOND_ANSWER_SECONDS: Final = 1.0


@dataclass(frozen=True)
class Asked:
    """One message. Times in seconds since the epoch, by the local bot's own clock."""

    at: float
    answers: tuple[float, ...]
    places: tuple[tuple[int, int], ...] = ()  # of the answers: chat and message

    @property
    def waited(self) -> float:
        """Seconds until the first answer."""
        return self.answers[0] - self.at

    @property
    def twice(self) -> bool:
        """Whether it was answered more than once."""
        return len(self.answers) > 1


def ask(bot: LocalBotClient) -> int:
    """Send one message in a chat of its own, so that its answer cannot be taken for another's; the chat."""
    chat = next(_chats)
    bot.send("how are you?", chat_id=chat)
    return chat


def outcomes(bot: LocalBotClient, chats: Iterable[int]) -> list[Asked]:
    """What became of the messages in these chats, once each had its time."""
    deadline = time.monotonic() + LOST_AFTER_SECONDS
    for chat in chats:
        while not _outcome(bot, chat).answers and time.monotonic() < deadline:
            time.sleep(0.05)
    time.sleep(_SECOND_ANSWER_SECONDS)
    return [_outcome(bot, chat) for chat in chats]


def _outcome(bot: LocalBotClient, chat: int) -> Asked:
    said = [event for event in bot.events(chat_id=chat) if event.kind is EventKind.MESSAGE]
    answers = [event for event in said if event.from_bot]
    places = tuple((chat, event.message.message_id) for event in answers if event.message)
    return Asked(said[0].at, tuple(event.at for event in answers), places)


class Load:
    """Sends while it is entered; ``chats`` are the messages so far."""

    def __init__(self, user_socket: Path, *, per_second: float) -> None:
        self.chats: list[int] = []
        self._socket = user_socket
        self._pause = 1 / per_second
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._send, name="load")

    def _send(self) -> None:
        with LocalBotClient(self._socket) as bot:
            while not self._over.wait(self._pause):
                self.chats.append(ask(bot))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
