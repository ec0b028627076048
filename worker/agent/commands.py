"""Commands that are answered at once, without a model and before the messages that wait."""

import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol

from worker.agent.dead_letters import DeadLetters
from worker.agent.recalling import Question, Recalling
from worker.agent.relaying import ALONE_TEXT, RELAYED, Relaying
from worker.control.limits import DAY_SECONDS, day_start
from worker.models import catalog
from worker.store import Store

#: What the chat service's menu offers. The others are named where they are of use.
MENU: Final[Mapping[str, str]] = {
    "stop": "end what I am doing now",
    "status": "what I am and what I am doing",
    "new": "begin a fresh conversation",
    "dead": "messages that I had to give up",
    "patch": "change yourself: /patch <what you want>",
    "cost": "what this has cost",
    "recall": "what was said earlier: /recall WORDS",
    **RELAYED,
    "help": "what I understand",
}
START_TEXT: Final = "I am autonous, an agent that can change its own source. Write to me, or send /help."
HELP_TEXT: Final = "Write to me in plain words. Besides that I understand:\n" + "\n".join(
    f"/{name} - {about}" for name, about in MENU.items()
)
PATCH_TEXT: Final = "Say what you want to be different: /patch <what you want>"
NOTHING_TO_STOP_TEXT: Final = "There is nothing to stop."
#: A question that a predecessor left is answered when it is no older; for a day it is told that it was left.
LEFT_SECONDS: Final = 600.0
LATE_SECONDS: Final = DAY_SECONDS
#: The database's numbers have 64 bits.
_PAST_ALL_ROWS: Final = 2**63
#: A tx_id, or a beginning of one.
_PLAIN_ROLLBACK: Final = re.compile(r"rollback\s+(?P<tx>[0-9a-f]{4,8}[0-9a-f-]{0,28})", re.IGNORECASE)
NEW_TEXT: Final = "A fresh start: I look back at nothing that was said before."

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to a command; with none, what it did will speak for itself. ``then`` is done once it is stored."""

    text: str
    then: Callable[[], object] = lambda: None


class Stoppable(Protocol):
    """What works on the messages."""

    def stop(self, chat_id: int, *, up_to: int) -> bool:
        """End the chat's oldest work up to a row of the inbox and tell the chat; False when there is none."""


Command = Callable[[int, str], Reply]


class DirectCommands:
    """The commands by name. ``status`` gives the text of ``/status`` for a chat.

    A command may write to the store, as part of the transaction that stores the message it came in.
    """

    def __init__(
        self,
        *,
        store: Store,
        status: Callable[[int], str],
        runs: Stoppable,
        dead_letters: DeadLetters,
        relaying: Relaying,
        recalling: Recalling,
    ) -> None:
        self._store = store
        self._runs = runs
        self._dead = dead_letters
        self._relaying = relaying
        self._recalling = recalling
        self._commands: dict[str, Command] = {
            "/start": lambda *_: Reply(START_TEXT),
            "/help": lambda *_: Reply(HELP_TEXT),
            "/status": lambda chat_id, _: Reply(status(chat_id)),
            "/stop": self._stop,
            "/new": self._new,
            "/dead": lambda chat_id, _: Reply(dead_letters.listing(chat_id)),
            "/replay": self._replay,
            "/again": self._again,
            "/patch": lambda *_: Reply(ALONE_TEXT if relaying.alone else PATCH_TEXT),
            "/cost": self._cost,
            "/recall": self._recall,
            "/forget": self._forget,
            **{f"/{name}": partial(self._relay, name) for name in RELAYED},
        }

    async def run(self) -> None:
        """Go on for ever with what cannot be answered at once, beginning with what a predecessor left."""
        await self._recalling.run(self._left())

    def _left(self) -> list[Question]:
        now = self._store.now()
        try:
            rows = self._store.inbox.unanswered_commands(now - LATE_SECONDS)
        except Exception as error:  # also the driver's own: no command is worth the worker
            logger.warning("what a predecessor was asked to recall is not known: %s", error)
            return []
        return [
            Question(row_id, chat_id, found[1], late=asked_at < now - LEFT_SECONDS)
            for row_id, chat_id, text, asked_at in rows
            if (found := self.find(text)) is not None and found[0] == self._recall and found[1]
        ]

    def is_wish(self, text: str) -> bool:
        """Whether a text asks for a change of the agent itself, and says which one: that is for the model."""
        words = text.split(maxsplit=1)
        return len(words) > 1 and words[0].partition("@")[0].lower() == "/patch" and not self._relaying.alone

    def find(self, text: str) -> tuple[Command, str] | None:
        """The command that a text is, and its argument; None when the text is for the model.

        ``/name@bot`` is understood, and ``/name_7`` as ``/name 7``: that can be tapped on. A rollback needs no slash:
        it must work for somebody in a hurry.
        """
        if rollback := _PLAIN_ROLLBACK.fullmatch(text.strip()):
            return self._commands["/rollback"], rollback["tx"]
        words = text.split(maxsplit=1)
        name = words[0].partition("@")[0].lower() if words else ""
        argument = words[1].strip() if len(words) > 1 else ""
        base, _, number = name.partition("_")
        if number.isascii() and number.isalnum() and not argument:
            name, argument = base, number
        command = self._commands.get(name)
        return None if command is None else (command, argument)

    def _relay(self, name: str, chat_id: int, argument: str) -> Reply:
        return Reply(self._relaying.take(chat_id, name, argument), then=self._relaying.wake)

    def _stop(self, chat_id: int, _: str) -> Reply:
        until_here = self._store.inbox.last_id()  # what comes in the same batch and after it is not meant
        return Reply("", then=lambda: self._stop_now(chat_id, until_here))

    def _stop_now(self, chat_id: int, up_to: int) -> None:
        if not self._runs.stop(chat_id, up_to=up_to):
            self._store.outbox.add(chat_id, NOTHING_TO_STOP_TEXT)

    def _new(self, chat_id: int, _: str) -> Reply:
        self._store.history.start_anew(chat_id)
        return Reply(NEW_TEXT)

    def _replay(self, chat_id: int, argument: str) -> Reply:
        number = _row_number(argument)
        if number is None or not self._dead.replay(chat_id, number):
            return Reply("There is no such message that was given up. /dead lists them.")
        return Reply("I try that one again.")

    def _again(self, chat_id: int, argument: str) -> Reply:
        number = _row_number(argument)
        if number is None or not self._store.outbox.send_again(chat_id, number):
            return Reply("There is no answer of that number that may be missing.")
        return Reply("")

    def _cost(self, chat_id: int, _: str) -> Reply:
        now, costs = self._store.now(), self._store.costs
        today, month = day_start(now), now - 30 * DAY_SECONDS
        return Reply(
            f"this chat, today (UTC): {costs.since(today, chat_id)}\n"
            f"this chat, 30 days: {costs.since(month, chat_id)}\n"
            f"all chats, 30 days: {costs.since(month)}\n"
            f"Prices as of {catalog.date()}."
        )

    def _recall(self, chat_id: int, argument: str) -> Reply:
        if not argument:
            return Reply("What shall I look for? /recall WORDS")
        if not self._recalling.takes_time:
            return Reply(self._recalling.at_once(chat_id, argument))
        question = Question(self._store.inbox.last_id(), chat_id, argument)
        return Reply("", then=lambda: self._recalling.begin(question))

    def _forget(self, chat_id: int, argument: str) -> Reply:
        number = _row_number(argument.removeprefix("#"))
        if number is None or not self._store.words.forget(chat_id, number):
            return Reply("There is no message of that number here. /recall WORDS shows the numbers.")
        return Reply(f"I shall not recall #{number} any more.")


def _row_number(text: str) -> int | None:
    """The number of a row, None where no row could have it."""
    if not text.isdecimal() or len(text) > len(str(_PAST_ALL_ROWS)):
        return None
    number = int(text)
    return number if number < _PAST_ALL_ROWS else None
