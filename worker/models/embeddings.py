"""Vectors of texts, from any server that speaks OpenAI's embeddings, through the official SDK."""

from collections.abc import Sequence
from typing import Final

import httpx2
from openai import APIStatusError, AsyncOpenAI, OpenAIError

from worker.models import failures
from worker.models.base import ProviderApiError, ValidationError
from worker.models.embeddings_base import TextsRefused

TIMEOUT_SECONDS: Final = 30.0
#: Of a long text so many characters are embedded; models read some 8,000 tokens.
EMBEDDED_CHARS: Final = 8000


class OpenAIEmbedder:
    """One embeddings model. A server of one's own needs no key."""

    def __init__(self, *, api_key: str | None, base_url: str | None, model: str) -> None:
        self.model_name = model
        self._client = AsyncOpenAI(api_key=api_key or "none", base_url=base_url, timeout=TIMEOUT_SECONDS, max_retries=0)

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """The vectors of texts, in their order. Raises ProviderApiError, also as TextsRefused, or ValidationError."""
        shown = [text[:EMBEDDED_CHARS] or " " for text in texts]
        try:
            answer = await self._client.embeddings.create(model=self.model_name, input=shown, encoding_format="float")
            vectors = [list(map(float, item.embedding)) for item in sorted(answer.data, key=lambda item: item.index)]
        except APIStatusError as error:
            refused = TextsRefused if error.status_code in failures.REFUSED else ProviderApiError
            raise refused(f"{type(error).__name__}: {error}") from error
        except (OpenAIError, httpx2.HTTPError) as error:
            raise ProviderApiError(f"{type(error).__name__}: {error}") from error
        except (AttributeError, TypeError, ValueError) as error:
            raise ValidationError(f"the answer with embeddings is malformed: {error}") from error
        if len(vectors) != len(texts) or len({len(vector) for vector in vectors}) > 1 or not all(vectors):
            raise ValidationError(f"{len(texts)} texts were given, and {len(vectors)} vectors of like length expected")
        return vectors

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()
