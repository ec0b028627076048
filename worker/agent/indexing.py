"""The index of messages, kept up beside all other work: no reply waits for it."""

import asyncio
import logging
from contextlib import suppress
from typing import Final

from worker.models.base import ModelError
from worker.models.embeddings_base import Embedder
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
        while indexed == BATCH:
            indexed = self._words.catch_up(BATCH)
            await asyncio.sleep(PAUSE_SECONDS)

    async def _embed_all(self) -> None:
        """Vectors for what is new; then further and further back, until everything has one."""
        if self._vectors is None or self._embedder is None:
            return
        cleared = BATCH
        while cleared:
            cleared = self._vectors.clear_outdated(BATCH)
            await asyncio.sleep(PAUSE_SECONDS)
        while (span := self._next_span(self._vectors.newest())) is not None:
            first, end = span
            rows = self._vectors.missing(first, end, EMBEDDED)
            if rows:
                vectors = await self._embedder.embed([text for _, _, text in rows])
                self._vectors.add({(row[0], row[1]): vector for row, vector in zip(rows, vectors, strict=True)})
            if len(rows) < EMBEDDED:
                self._covered(first, end)
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
