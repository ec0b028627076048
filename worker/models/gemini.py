"""Google's Gemini, through the official SDK."""

from collections.abc import Sequence
from typing import Any, Final

import httpx
import httpx2
from google import genai
from google.genai import errors, types

from worker.models import failures
from worker.models.base import CompletionResponse, Message, OnText, ProviderApiError, ToolSpec, ValidationError
from worker.models.gemini_wire import Collected, config, contents, retry_delay
from worker.models.verbatim import Verbatim

DEFAULT_MODEL: Final = "gemini-3.8-flash"
TIMEOUT_SECONDS: Final = 300
#: The SDK takes whichever of the two it finds.
TRANSPORT_ERRORS: Final = (httpx.HTTPError, httpx2.HTTPError)


class GeminiModel:
    """One model of Google's."""

    provider = "gemini"

    def __init__(self, *, api_key: str, base_url: str | None, model: str | None) -> None:
        self.model_name = model or DEFAULT_MODEL
        options = types.HttpOptions(
            base_url=base_url,
            timeout=TIMEOUT_SECONDS * 1000,
            retry_options=types.HttpRetryOptions(attempts=1),  # the control layer retries, and counts what it does
        )
        self._client = genai.Client(api_key=api_key, vertexai=False, http_options=options)
        self._models: Any = self._client.aio.models
        self._answers: Verbatim[list[types.Part]] = Verbatim()

    async def complete(
        self, messages: Sequence[Message], tools: Sequence[ToolSpec] = (), on_text: OnText | None = None
    ) -> CompletionResponse:
        """One completion; streamed when ``on_text`` wants it. Raises ModelError."""
        asked = {
            "model": self.model_name,
            "contents": contents(messages, self._answers.of),
            "config": config(messages, tools),
        }
        collected = Collected()
        try:
            if on_text is None:
                collected.add(await self._models.generate_content(**asked))
            else:
                async for piece in await self._models.generate_content_stream(**asked):
                    if text := collected.add(piece):
                        on_text(text)
            response = collected.response()
        except errors.APIError as error:
            words, headers = f"{type(error).__name__}: {error}", getattr(error.response, "headers", None) or {}
            wait = retry_delay(error.details)
            raise failures.of_status(error.code or 0, words, headers=headers, wait=wait) from error
        except (*TRANSPORT_ERRORS, errors.UnknownApiResponseError) as error:
            raise ProviderApiError(f"{type(error).__name__}: {error}") from error
        except (AttributeError, IndexError, TypeError, ValueError) as error:
            raise ValidationError(f"the provider's answer is malformed: {error}") from error
        self._answers.keep(response.text, response.tool_calls, collected.parts)
        return response

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aio.aclose()
        self._client.close()
