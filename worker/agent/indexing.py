"""The index of messages, kept up beside all other work: no reply waits for it."""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from worker.models.base import ModelError
from worker.models.embeddings_base import Embedder, TextsRefused
from worker.store.errors import Fenced
from worker.store.history import History
from worker.store.recall import WordIndex
from worker.store.vectors import VectorIndex

#: Messages in one transaction: it takes a few milliseconds.
BATCH: Final = 100
#: Texts in one request for vectors, and numbers of messages that are looked through for one.
EMBEDDED: Final = 64
LOOKED_THROUGH: Final = 1000
#: Whoever else works gets a turn between two batches.
PAUSE_SECONDS: Final = 0.02
#: Of a text that was refused so many characters are tried: in any language they are no more than 8,000 tokens.
SHORTENED_CHARS: Final = 2000
#: What no server refuses that takes anything.
PLAIN_TEXT: Final = "hello"
LOOK_SECONDS: Final = 60.0
AFTER_FAILURE_SECONDS: Final = 60.0

logger = logging.getLogger(__name__)


class Indexing:
    """Indexes what is not indexed: the newest first by their vectors, and all that an older revision left out."""

    def __init__(
        self, words: WordIndex, history: History, vectors: VectorIndex | None, embedder: Embedder | None
    ) -> None:
        self._words = words
        self._vectors = vectors
        self._embedder = embedder
        self._news = asyncio.Event()
        self._cleared = False
        self._done_from: int | None = None
        self._done_to = 0
        history.on_added = self._news.set

    async def run(self) -> None:
        """Go on for ever. Raises Fenced."""
        while True:
            self._news.clear()
            try:
                await self._index_all()
                await self._embed_all()
            except Fenced:
                raise
            except ModelError as error:
                logger.warning("vectors of new messages are made later: %s", error)
                await asyncio.sleep(AFTER_FAILURE_SECONDS)
            except Exception:
                # Recall is a help, no condition: what is not indexed now is indexed later.
                logger.exception("unexpected error in the index of messages")
                await asyncio.sleep(AFTER_FAILURE_SECONDS)
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._news.wait()

    async def _index_all(self) -> None:
        indexed = BATCH
        while indexed:
            indexed = self._words.catch_up(BATCH)
            await asyncio.sleep(PAUSE_SECONDS)

    async def _embed_all(self) -> None:
        """Vectors for what is new; then further and further back, until everything has one."""
        if self._vectors is None or self._embedder is None:
            return
        if not self._cleared:
            await self._clear_outdated(self._vectors)
            self._cleared = True
        while (span := self._next_span(self._vectors.newest())) is not None:
            await self._embed_span(self._vectors, self._embedder, *span)
            self._covered(*span)

    async def _clear_outdated(self, vectors: VectorIndex) -> None:
        """Remove what another model made. Only a new process can have another model."""
        outdated = await asyncio.to_thread(vectors.outdated)
        for start in range(0, len(outdated), BATCH):
            vectors.remove(outdated[start : start + BATCH])
            await asyncio.sleep(PAUSE_SECONDS)

    async def _embed_span(self, vectors: VectorIndex, embedder: Embedder, first: int, end: int) -> None:
        """Vectors for the messages from ``first`` to before ``end``, the newest first."""
        while rows := vectors.missing(first, end, EMBEDDED):
            made = await _embedded([text for _, _, text in rows], embedder)
            vectors.add({row[:2]: vector for row, vector in zip(rows, made, strict=True) if vector is not None})
            end = rows[-1][0]  # what was refused is not asked for again
            await asyncio.sleep(PAUSE_SECONDS)
        await asyncio.sleep(PAUSE_SECONDS)

    def _next_span(self, newest: int) -> tuple[int, int] | None:
        """Which numbers to look through next, None when that is done."""
        if self._done_from is None:
            self._done_from = self._done_to = newest + 1
        if newest >= self._done_to:
            return self._done_to, min(newest, self._done_to + LOOKED_THROUGH) + 1
        return (max(self._done_from - LOOKED_THROUGH, 1), self._done_from) if self._done_from > 1 else None

    def _covered(self, first: int, end: int) -> None:
        if self._done_from is not None:
            self._done_from = min(self._done_from, first)
        self._done_to = max(self._done_to, end)


async def _embedded(texts: Sequence[str], embedder: Embedder) -> list[list[float] | None]:
    """The vectors of texts; None for one that is refused alone, so that it does not keep the others from theirs."""
    try:
        return [*await embedder.embed(texts)]
    except TextsRefused:
        if len(texts) == 1:
            return [await _embedded_alone(texts[0], embedder)]
    half = len(texts) // 2
    return [*await _embedded(texts[:half], embedder), *await _embedded(texts[half:], embedder)]


async def _embedded_alone(text: str, embedder: Embedder) -> list[float] | None:
    try:
        return (await embedder.embed([text[:SHORTENED_CHARS]]))[0]
    except TextsRefused as error:
        await embedder.embed([PLAIN_TEXT])  # else it is the server, and no text is to be given up for that
        logger.warning("a message will not be found by its meaning, as its text is refused: %s", error)
        return None
