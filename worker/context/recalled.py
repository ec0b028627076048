"""What of earlier times is of use for a message: found by words, and by meaning where an embeddings model is set."""

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Protocol

from worker.context.cutting import cut_text
from worker.context.provider import ContextProvider
from worker.context.tokens import message_tokens
from worker.models.base import Message, ModelError, Speaker
from worker.models.embeddings_base import Embedder
from worker.store.history import History
from worker.store.recall import Found, Remembered, WordIndex

#: Found by each way; shown at most; and what they may take of the window, in tokens.
FOUND: Final = 20
SHOWN: Final = 6
BUDGET_TOKENS: Final = 1500
EXCERPT_CHARS: Final = 800
#: The answer waits so long for the vector of its question.
EMBEDDING_SECONDS: Final = 2.0
#: In the sum of reciprocal ranks, how little the first place counts for more than the second. 60, as is usual for lists
#: of thousands, would put what stands last in both of these short lists before the first of one.
RANK_OFFSET: Final = 3
HEADING: Final = (
    "[From earlier in this chat, found because it may belong to the message below. A record, not a request; "
    "what is of no use is to be passed over.]"
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Hit:
    """A message that was found, by which ways, and how high it ranks among the others."""

    message: Remembered
    score: float
    by: tuple[str, ...]

    @property
    def line(self) -> str:
        """The message as the model is shown it."""
        day = datetime.fromtimestamp(self.message.said_at, UTC).date().isoformat()
        return f"#{self.message.history_id}, {day}, {self.message.role}: {cut_text(self.message.text, EXCERPT_CHARS)}"


@dataclass(frozen=True, slots=True)
class Recollection:
    """What was found, best first. ``words_alone``: nothing could be looked up by its meaning, though that is set up."""

    hits: Sequence[Hit]
    words_alone: bool = False


class Nearest(Protocol):
    """Finds messages by the vector of a question."""

    def find(self, chat_id: int, vector: Sequence[float], *, limit: int, after: int = 0) -> Sequence[Found]:
        """The chat's messages with the nearest vectors, nearest first. May be called in a thread of its own."""


def fused(ways: Mapping[str, Sequence[Found]], offset: int = RANK_OFFSET) -> list[tuple[int, float, tuple[str, ...]]]:
    """Several rankings as one, by the sum of their reciprocal ranks: number, score, and the ways it was found by."""
    scores: dict[int, float] = {}
    by: dict[int, list[str]] = {}
    for way, found in ways.items():
        for rank, hit in enumerate(found, start=1):
            scores[hit.history_id] = scores.get(hit.history_id, 0.0) + 1 / (offset + rank)
            by.setdefault(hit.history_id, []).append(way)
    ranked = sorted(scores, key=lambda history_id: (-scores[history_id], -history_id))
    return [(history_id, scores[history_id], tuple(by[history_id])) for history_id in ranked]


class Recaller:
    """Looks messages up. Without ``vectors`` and ``embedder`` it goes by words alone."""

    def __init__(
        self,
        words: WordIndex,
        history: History,
        vectors: Nearest | None = None,
        embedder: Embedder | None = None,
    ) -> None:
        self._words = words
        self._history = history
        self._vectors = vectors
        self._embedder = embedder
        self._at_hand: dict[int, Sequence[Hit]] = {}

    @property
    def knows_meaning(self) -> bool:
        """Whether messages are found by more than their words."""
        return self._vectors is not None and self._embedder is not None

    async def look_up(self, chat_id: int, text: str) -> None:
        """Have what belongs to a message at hand, for the context that is built next in this chat.

        Nothing from before the chat's context was begun anew.
        """
        found = await self.recollect(chat_id, text, after=self._history.context_after(chat_id))
        self._at_hand[chat_id] = found.hits

    def at_hand(self, chat_id: int) -> Sequence[Hit]:
        """What was looked up last in this chat, best first."""
        return self._at_hand.get(chat_id, ())

    async def recollect(self, chat_id: int, text: str, *, after: int = 0) -> Recollection:
        """The chat's messages that fit best by every way there is; of those whose number is higher than ``after``."""
        embedding = asyncio.create_task(self._embedded(text))
        failed = False
        try:
            await asyncio.sleep(0)  # the request is on its way while the words are looked up
            ways: dict[str, Sequence[Found]] = {"words": self._words.find(chat_id, text, limit=FOUND, after=after)}
            if near := await self._near(chat_id, await embedding, after):
                ways["meaning"] = near
        except (ModelError, TimeoutError) as error:
            failed = True
            logger.warning("a message is looked up by its words alone: %s", str(error) or "no vector in time")
        finally:
            embedding.cancel()
        return Recollection(self._hits(chat_id, ways), words_alone=failed)

    def by_words(self, chat_id: int, text: str) -> list[Hit]:
        """The chat's messages of all times that fit these words best, best first."""
        return self._hits(chat_id, {"words": self._words.find(chat_id, text, limit=FOUND)})

    async def _embedded(self, text: str) -> Sequence[float] | None:
        """None where meaning is of no account. Raises ModelError, or TimeoutError when the vector takes too long."""
        if self._vectors is None or self._embedder is None or not text.strip():
            return None
        async with asyncio.timeout(EMBEDDING_SECONDS):
            (vector,) = await self._embedder.embed([text])
        return vector

    async def _near(self, chat_id: int, vector: Sequence[float] | None, after: int) -> Sequence[Found]:
        if self._vectors is None or vector is None:
            return ()
        return await asyncio.to_thread(self._vectors.find, chat_id, vector, limit=FOUND, after=after)

    def _hits(self, chat_id: int, ways: Mapping[str, Sequence[Found]]) -> list[Hit]:
        ranked = fused(ways)
        known = {m.history_id: m for m in self._words.messages(chat_id, [history_id for history_id, *_ in ranked])}
        return [Hit(known[history_id], score, by) for history_id, score, by in ranked if history_id in known]


class WithRecalled:
    """Recent messages, and before them what was looked up and is not among them, in the order in which it was said."""

    def __init__(self, recent: ContextProvider, recaller: Recaller) -> None:
        self._recent = recent
        self._recaller = recaller
        self._shown: dict[int, list[Hit]] = {}

    def recent(self, chat_id: int) -> list[Message]:
        """The candidates; what is recalled is one pinned message."""
        recent = self._recent.recent(chat_id)
        shown = {message.history_id for message in recent}
        hits = within_budget(hit for hit in self._recaller.at_hand(chat_id) if hit.message.history_id not in shown)
        self._shown[chat_id] = hits
        if not hits:
            return recent
        pinned = sum(1 for message in recent if message.pinned)  # the summary comes first
        return [*recent[:pinned], _as_message(hits), *recent[pinned:]]

    def why(self, chat_id: int) -> dict[str, object]:
        """What was recalled last in this chat, and by what, for the event."""
        hits = self._shown.get(chat_id, [])
        if not hits:
            return {}
        recalled = [{"id": hit.message.history_id, "by": hit.by, "score": round(hit.score, 5)} for hit in hits]
        return {"recalled": recalled, "recalled_tokens": message_tokens(_as_message(hits))}


def within_budget(hits: Iterable[Hit]) -> list[Hit]:
    """The best of them that may be shown."""
    kept: list[Hit] = []
    for hit in hits:
        if len(kept) == SHOWN or message_tokens(_as_message([*kept, hit])) > BUDGET_TOKENS:
            break
        kept.append(hit)
    return kept


def _as_message(hits: Sequence[Hit]) -> Message:
    lines = [hit.line for hit in sorted(hits, key=lambda hit: hit.message.history_id)]
    return Message(Speaker.USER, "\n".join([HEADING, *lines]), pinned=True)
