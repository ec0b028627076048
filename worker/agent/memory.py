"""The agent's memory of earlier times, put together: the indexes, who fills them, and who looks into them."""

from worker.agent.indexing import Indexing
from worker.context import Recaller, RecentHistory, WithRecalled
from worker.models.embeddings_base import Embedder
from worker.store import Store
from worker.store.vectors import VectorIndex


class Memory:
    """Recent messages with what is recalled for them. ``shown`` is how many recent ones."""

    def __init__(self, store: Store, *, shown: int, vectors: VectorIndex | None, embedder: Embedder | None) -> None:
        self.recaller = Recaller(store.words, store.history, vectors, embedder)
        self.provider = WithRecalled(RecentHistory(store.history, shown, store.summaries), self.recaller)
        self.indexing = Indexing(store.words, store.history, vectors, embedder)
        self._vectors = vectors
        self._embedder = embedder

    async def close(self) -> None:
        """Free the connections."""
        if self._embedder is not None:
            await self._embedder.close()
        if self._vectors is not None:
            self._vectors.close()
