"""What the agent knows of an embeddings model: texts in, vectors out, whoever provides it."""

from collections.abc import Sequence
from typing import Protocol


class Embedder(Protocol):
    """Makes vectors of texts."""

    @property
    def model_name(self) -> str:
        """The model's name; vectors of different models cannot be compared."""

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """The vectors of texts, in their order. Raises ModelError."""

    async def close(self) -> None:
        """Free the connections."""
