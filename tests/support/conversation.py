"""A conversation that goes on while something is done to the installation."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from supervisor.localbot.client import LocalBotClient
from tests.support.echo import PREFIX
from tests.support.installation import Installation, wait_for

PAUSE_SECONDS = 0.1


def said(bot: LocalBotClient, cursor: int, beginning: str) -> list[str]:
    """What the bot said since, as it stands at last; of what begins like this."""
    events = bot.events(cursor)
    texts = {e.message.message_id: e.message.text for e in events if e.from_bot and e.message is not None}
    return [text for text in texts.values() if text.startswith(beginning)]


@dataclass
class Conversation:
    """Somebody who writes numbered messages without waiting for answers."""

    installation: Installation
    pause: float = PAUSE_SECONDS
    sent: list[str] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    #: Those that were sent while whatever was done went on.
    meanwhile: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        with self.installation.bot() as bot:
            self._cursor = bot.events()[-1].cursor if bot.events() else 0

    def during(self, act: Callable[[], object]) -> None:
        """Write while something is done, a little before it and a little after."""
        done = threading.Event()
        writer = threading.Thread(target=self._write, args=(done,))
        writer.start()
        done.wait(1)
        before = len(self.sent)
        try:
            act()
            self.meanwhile += self.sent[before:]
            done.wait(1)
        finally:
            done.set()
            writer.join()
        self.listen_to_the_end()

    def say(self) -> None:
        """One message."""
        with self.installation.bot() as bot:
            self._say(bot)
        self.meanwhile.append(self.sent[-1])

    def listen_to_the_end(self) -> None:
        """Until everything is answered, and a moment more, for one too many."""
        wait_for(lambda: len(set(self.answers())) >= len(self.sent), 120, "all answers")
        time.sleep(0.5)

    def answers(self) -> list[str]:
        """What was answered since the beginning, oldest first; a preview counts as what it became in the end."""
        with self.installation.bot() as bot:
            return said(bot, self._cursor, PREFIX)  # beside them it may say what place in the queue a message has

    def _write(self, done: threading.Event) -> None:
        with self.installation.bot() as bot:
            while not done.wait(self.pause):
                self._say(bot)

    def _say(self, bot: LocalBotClient) -> None:
        text = f"message {len(self.sent) + 1}"
        bot.send(text)
        self.sent.append(text)
        self.times.append(time.time())
