"""Questions to an owner, answered by a button.

A question lives in memory alone: nobody is asked again after a restart, and a button of before is of no use.
"""

import asyncio
import logging
import secrets
import unicodedata
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from supervisor.contract import Press, Pressed, Redactor
from worker.commander.base import Button, Commander, CommanderError, RateLimited, Unreachable

PREFIX: Final = "w:"
ANSWER_SECONDS: Final = 120.0
#: How long the end of a question may take to be shown.
SETTLE_SECONDS: Final = 5.0
CUT_SECONDS: Final = 0.3
#: What a message holds, and room for the verdict.
LONGEST_QUESTION: Final = 3500
NOT_YOURS: Final = Pressed(text="That question was not put to you.", alert=True)

logger = logging.getLogger(__name__)


class Answer(StrEnum):
    """What came of a question. Everything but YES is a no."""

    YES = "yes"
    NO = "no"
    TIMED_OUT = "timed_out"
    INTERRUPTED = "interrupted"
    UNANSWERABLE = "unanswerable"  # it could not be shown


@dataclass(frozen=True, slots=True)
class Wording:
    """A question, its two buttons, and what stands below it once it is answered."""

    text: str
    yes: str
    no: str
    said_yes: str
    said_no: str

    def told(self, answer: Answer) -> str:
        """The verdict in a line."""
        return {
            Answer.YES: self.said_yes,
            Answer.NO: self.said_no,
            Answer.TIMED_OUT: f"{self.said_no} Nobody answered in time.",
            Answer.INTERRUPTED: f"{self.said_no} I was interrupted.",
            Answer.UNANSWERABLE: self.said_no,
        }[answer]


@dataclass
class _Question:
    """One that waits for its answer. A private chat has its user's id."""

    chat_id: int
    wording: Wording
    buttons: dict[str, Answer]
    answered: "asyncio.Future[Answer]"
    shown: asyncio.Event = field(default_factory=asyncio.Event)
    message_id: int | None = None


class Asks:
    """Puts questions. ``seconds`` is how long one waits; ``redact`` sees every word of it first."""

    def __init__(self, *, commander: Commander, redact: Redactor, seconds: float = ANSWER_SECONDS) -> None:
        self._commander = commander
        self._redact = redact
        self._seconds = seconds
        self._open: dict[str, _Question] = {}

    @property
    def seconds(self) -> float:
        """How long a question waits for its answer."""
        return self._seconds

    async def ask(self, chat_id: int, wording: Wording) -> Answer:
        """Put a question and wait; cancelled, the chat is shown that it was interrupted."""
        if len(wording.text) > LONGEST_QUESTION:
            return Answer.UNANSWERABLE
        buttons = {PREFIX + secrets.token_urlsafe(18): answer for answer in (Answer.YES, Answer.NO)}
        question = _Question(chat_id, wording, buttons, asyncio.get_running_loop().create_future())
        self._open.update(dict.fromkeys(buttons, question))
        answer = Answer.INTERRUPTED
        try:
            async with asyncio.timeout(self._seconds):
                await self._show(question)
                answer = await question.answered
        except TimeoutError:
            answer = Answer.TIMED_OUT if question.shown.is_set() else Answer.UNANSWERABLE
        except CommanderError as error:
            logger.warning("chat %d cannot be asked: %s", chat_id, error)
            answer = Answer.UNANSWERABLE
        finally:
            for data in buttons:
                del self._open[data]
            await self._settle(question, answer)
        return answer

    async def press(self, press: Press) -> Pressed | None:
        """An answer, once, by whom it was asked and under the question itself; a PressHandler."""
        question = self._open.get(press.data)
        if question is None:
            return None
        with suppress(TimeoutError):
            async with asyncio.timeout(SETTLE_SECONDS):
                await question.shown.wait()  # a press may be quicker than the answer that tells the message's id
        asked = (question.chat_id, question.chat_id, question.message_id)
        if (press.user_id, press.chat_id, press.message_id) != asked:
            return NOT_YOURS
        if question.answered.done():
            return None
        answer = question.buttons[press.data]
        question.answered.set_result(answer)
        return Pressed(text=question.wording.told(answer))

    async def _show(self, question: _Question) -> None:
        """Send the question; tried again while it is sure that it did not arrive. Raises CommanderError."""
        labels = {Answer.YES: question.wording.yes, Answer.NO: question.wording.no}
        row = [Button(labels[answer], data) for data, answer in question.buttons.items()]
        text = self._redact(question.wording.text)
        while True:
            try:
                question.message_id = await self._commander.ask(question.chat_id, text, row)
            except RateLimited as limit:
                await asyncio.sleep(limit.retry_after)
            except Unreachable:
                await asyncio.sleep(1.0)
            else:
                question.shown.set()
                return

    async def _settle(self, question: _Question, answer: Answer) -> None:
        """Take the buttons off and say what was decided, in the time that there is."""
        if question.message_id is None:
            return
        text = self._redact(f"{question.wording.text}\n\n{question.wording.told(answer)}")
        seconds = CUT_SECONDS if answer is Answer.INTERRUPTED else SETTLE_SECONDS
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while True:
                    try:
                        await self._commander.show(question.chat_id, text, question.message_id)
                    except RateLimited as limit:
                        await asyncio.sleep(limit.retry_after)
                    except Unreachable:
                        await asyncio.sleep(CUT_SECONDS)
                    except CommanderError as error:
                        logger.info("chat %d is not shown what was decided: %s", question.chat_id, error)
                        return
                    else:
                        return


def plain(text: str) -> str:
    """A text with nothing in it that hides or reorders what an owner reads."""
    return "".join(char if char in "\n\t" or not _odd(char) else f"\\u{ord(char):04x}" for char in text)


def _odd(char: str) -> bool:
    return unicodedata.category(char) in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")


def listed(fields: Sequence[tuple[str, str]]) -> str:
    """Names and values, one below the other. Lines of a longer value are marked, so that none looks like a name."""
    return "\n".join(
        f"{name}: {value}" if "\n" not in value else f"{name}:\n{_marked(value)}" for name, value in fields
    )


def _marked(text: str) -> str:
    return "\n".join(f"│ {line}" for line in text.split("\n"))
