"""Somebody who writes numbered messages at a steady rate in several chats, and what the bot made of them."""

import itertools
import threading
from pathlib import Path

from supervisor.localbot.client import LocalBotClient
from supervisor.localbot.faults import Poll, PollOutcome
from tests.chaos.book import Answer, Asked
from tests.support.echo import PREFIX

CHATS = range(7001, 7005)
PER_SECOND = 4.0
#: The bot remembers its latest polls only.
_POLLS_EVERY = 100


class Talk:
    """Also keeps the polls, so that it can be told whether two workers ever polled at once."""

    def __init__(self, user_socket: Path) -> None:
        self._socket = user_socket
        self._numbers = itertools.count(1)
        self._polls: dict[tuple[str, float], Poll] = {}

    def write(self, over: threading.Event) -> None:
        """Until it is over."""
        with LocalBotClient(self._socket) as bot:
            while not over.wait(1 / PER_SECOND):
                number = next(self._numbers)
                bot.send(f"message {number}", chat_id=CHATS[number % len(CHATS)])
                if number % _POLLS_EVERY == 0:
                    self._keep_polls(bot)

    def read(self) -> tuple[list[Asked], list[Answer]]:
        """All messages, and all whole answers, in the order of their times."""
        asked: list[Asked] = []
        answers: dict[tuple[int, int], Answer] = {}
        with LocalBotClient(self._socket) as bot:
            for chat in CHATS:
                for event in bot.events(chat_id=chat):
                    message = event.message
                    if message is None:
                        continue
                    if not event.from_bot and message.text.startswith("message "):
                        asked.append(Asked(int(message.text.split()[1]), chat, event.at))
                    elif event.from_bot and message.text.startswith(PREFIX):
                        answer = Answer(chat, message.message_id, event.at, message.text)
                        known = answers.get(answer.place)
                        if known is None or known.text != answer.text:  # a preview grows into the answer
                            answers[answer.place] = answer
        return sorted(asked, key=lambda one: one.number), sorted(answers.values(), key=lambda one: one.at)

    def unanswered(self) -> int:
        """How many messages have no answer yet."""
        asked, answers = self.read()
        return len({one.answer for one in asked} - {answer.text for answer in answers})

    def conflicts(self) -> int:
        """How often a worker polled while another one's poll was open."""
        with LocalBotClient(self._socket) as bot:
            self._keep_polls(bot)
        return sum(poll.outcome is PollOutcome.CONFLICT for poll in self._polls.values())

    def _keep_polls(self, bot: LocalBotClient) -> None:
        self._polls.update({(poll.mark, poll.started): poll for poll in bot.polls()})
