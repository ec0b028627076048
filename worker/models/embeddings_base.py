"""What the agent knows of an embeddings model: texts in, vectors out, whoever provides it."""

from collections.abc import Sequence
from typing import Protocol

from worker.models.base import ProviderApiError


class TextsRefused(ProviderApiError):
    """The server does not take these texts; fewer or shorter ones it may take."""


class Embedder(Protocol):
    """Makes vectors of texts."""

    @property
    def model_name(self) -> str:
        """The model's name; vectors of different models cannot be compared."""

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """The vectors of texts, in their order. Raises ModelError, as TextsRefused when it is the texts' fault."""

    async def close(self) -> None:
        """Free the connections."""
