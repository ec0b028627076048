"""``/recall``: answered at once where messages are found by words, and beside the intake where a server is asked."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from textwrap import shorten
from typing import Final, Protocol

from worker.agent import notices
from worker.context.recalled import Hit, Recollection
from worker.store import Store
from worker.store.errors import Fenced, is_store_failure
from worker.vitals import Vitals

#: So many messages are shown.
SHOWN: Final = 5
#: After this time an answer that could not be stored is stored again.
AGAIN_SECONDS: Final = 1.0
NOTHING_TEXT: Final = "Nothing that was said here fits these words."
LATER_TEXT: Final = "What is forgotten is not recalled again; it stays in the history."
#: What a line says where both ways were open, by the ways it was found.
FOUND_BY: Final = {("words",): "its words", ("meaning",): "its meaning", ("words", "meaning"): "its words and meaning"}
NO_VECTOR_TEXT: Final = "By words alone: the embeddings server did not answer as it should."
LATE_TEXT: Final = "I ended before I could answer this. If you still want to know, ask again: /recall {words}"
LATE_CHARACTERS: Final = 200
CUT_TEXT: Final = "By words alone: there was no time for the embeddings server."

logger = logging.getLogger(__name__)


class Remembers(Protocol):
    """What finds earlier messages."""

    @property
    def knows_meaning(self) -> bool:
        """Whether messages are found by more than their words."""

    def by_words(self, chat_id: int, text: str) -> Sequence[Hit]:
        """The chat's messages of all times that fit these words, best first."""

    async def recollect(self, chat_id: int, text: str) -> Recollection:
        """The same by every way there is. Within seconds."""


@dataclass(frozen=True, slots=True)
class Question:
    """What a chat wants to be recalled, and the row of the inbox that it came in.

    It is ``late`` when whoever asked has long given up waiting.
    """

    row_id: int
    chat_id: int
    words: str
    late: bool = False


class Recalling:
    """Answers questions side by side. ``answered`` is called for a chat with an answer to be sent."""

    def __init__(self, *, memory: Remembers, store: Store, vitals: Vitals, answered: Callable[[int], None]) -> None:
        self._memory = memory
        self._store = store
        self._vitals = vitals
        self._answered = answered
        self._open: dict[Question, asyncio.Task[None]] = {}

    @property
    def takes_time(self) -> bool:
        """Whether somebody else has to be asked."""
        return self._memory.knows_meaning

    def at_once(self, chat_id: int, words: str) -> str:
        """The answer by words alone."""
        return _told(self._memory.by_words(chat_id, words))

    def begin(self, question: Question) -> None:
        """Have a question answered, once it is stored."""
        if question not in self._open:
            self._open[question] = asyncio.create_task(self._answer(question))

    async def run(self, left: Iterable[Question]) -> None:
        """Answer for ever, beginning with what a predecessor left; what is cut is answered by words."""
        for question in left:
            self.begin(question)
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            await self._cut()

    async def _cut(self) -> None:
        for task in self._open.values():
            task.cancel()
        await asyncio.gather(*self._open.values(), return_exceptions=True)
        for question in self._open:
            try:
                self._store.outbox.add(question.chat_id, self._in_short(question), inbox_id=question.row_id)
            except Exception as error:  # the next worker finds that there is no answer
                logger.warning("what was asked to be recalled is left to the next worker: %s", error)
        self._open.clear()

    async def _answer(self, question: Question) -> None:
        text = await self._found(question)
        try:
            while not self._stored(question, text):  # noqa: ASYNC110 - the store has no event for it
                await asyncio.sleep(AGAIN_SECONDS)
        except Exception as error:  # left to the next worker
            logger.exception("unexpected error in /recall")
            self._vitals.internal_error(error)
        del self._open[question]

    def _in_short(self, question: Question) -> str:
        """The answer for which nobody else is asked."""
        if question.late:
            return LATE_TEXT.format(words=shorten(question.words, LATE_CHARACTERS, placeholder="…"))
        return _told(self._memory.by_words(question.chat_id, question.words), CUT_TEXT)

    async def _found(self, question: Question) -> str:
        if question.late:
            return self._in_short(question)
        try:
            found = await self._memory.recollect(question.chat_id, question.words)
        except Exception as error:
            logger.exception("unexpected error in /recall")
            self._vitals.internal_error(error)
            return notices.SPOILT
        return _told(found.hits, NO_VECTOR_TEXT) if found.words_alone else _told(found.hits, both=True)

    def _stored(self, question: Question, text: str) -> bool:
        """False when the store takes nothing now. With the lease lost it never will: the next worker answers."""
        try:
            self._store.outbox.add(question.chat_id, text, inbox_id=question.row_id)
        except Fenced:
            return True
        except Exception as error:
            if not is_store_failure(error):
                raise
            logger.warning("what was recalled cannot be told now: %s", error)
            return False
        self._answered(question.chat_id)
        return True


def _told(hits: Sequence[Hit], remark: str = "", *, both: bool = False) -> str:
    """What the chat is shown: each message, how it was found where there are ``both`` ways, and how it is forgotten."""
    if not hits:
        return "\n\n".join(filter(None, [remark, NOTHING_TEXT]))
    shown = [
        "\n".join([hit.line, *([f"found by {FOUND_BY[hit.by]}"] if both else []), f"/forget_{hit.message.history_id}"])
        for hit in hits[:SHOWN]
    ]
    return "\n\n".join(filter(None, [remark, *shown, LATER_TEXT]))
