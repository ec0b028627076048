"""OpenAI's chat completions, and whatever else speaks them, through the official SDK."""

import logging
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Final

import httpx2
from openai import APIStatusError, AsyncOpenAI, AsyncStream, DefaultAsyncHttpxClient, OpenAIError
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from worker import uds
from worker.models import failures, openai_wire
from worker.models.base import CompletionResponse, Message, OnText, ProviderApiError, ToolSpec, ValidationError

DEFAULT_MODEL: Final = "gpt-5.4-mini"
#: Seconds of silence after which an answer is given up. The whole of it is bounded by the run's wall time.
TIMEOUT_SECONDS: Final = 300.0
CONNECT_TIMEOUT_SECONDS: Final = 10.0
#: How a server says that it does not take a request of this form.
NOT_LIKE_THIS: Final = (HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_IMPLEMENTED, HTTPStatus.UNPROCESSABLE_ENTITY)

logger = logging.getLogger(__name__)


class OpenAIModel:
    """One model behind the OpenAI API. ``socket`` is the path of a Unix socket to use instead of the network."""

    provider = "openai"

    def __init__(self, *, api_key: str, base_url: str | None, model: str | None, socket: str | None) -> None:
        self.model_name = model or DEFAULT_MODEL
        timeout = httpx2.Timeout(TIMEOUT_SECONDS, connect=CONNECT_TIMEOUT_SECONDS)
        transport = httpx2.AsyncHTTPTransport(uds=socket, verify=uds.no_tls()) if socket else None
        self._client = AsyncOpenAI(
            api_key=api_key,
            base_url=base_url or (f"{uds.HOST}/v1" if socket else None),
            timeout=timeout,
            max_retries=0,  # the control layer retries, and counts what it does
            http_client=DefaultAsyncHttpxClient(transport=transport, timeout=timeout),
        )
        self._completions: Any = self._client.chat.completions  # imports what the first call needs
        self._streams: bool | None = None

    async def complete(
        self, messages: Sequence[Message], tools: Sequence[ToolSpec] = (), on_text: OnText | None = None
    ) -> CompletionResponse:
        """One completion; streamed when ``on_text`` wants it. Raises ModelError."""
        try:
            if on_text is None or self._streams is False:
                collected = await self._whole(messages, tools)
            else:
                collected = await self._streamed(messages, tools, on_text)
            return collected.response(messages)
        except APIStatusError as error:
            raise failures.of_status(
                error.status_code,
                f"{type(error).__name__}: {error}",
                code=error.code or "",
                headers=error.response.headers,
            ) from error
        except (OpenAIError, httpx2.HTTPError) as error:  # the SDK lets transport errors within a stream through
            raise ProviderApiError(f"{type(error).__name__}: {error}") from error
        except (AttributeError, IndexError, TypeError, ValueError) as error:  # the SDK does not check what it got
            raise ValidationError(f"the provider's answer is malformed: {error}") from error

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def _whole(self, messages: Sequence[Message], tools: Sequence[ToolSpec]) -> openai_wire.Collected:
        completion = await self._completions.create(**openai_wire.request(self.model_name, messages, tools))
        return openai_wire.Collected.whole(completion)

    async def _streamed(
        self, messages: Sequence[Message], tools: Sequence[ToolSpec], on_text: OnText
    ) -> openai_wire.Collected:
        """A streamed answer, or a whole one from a server that does not stream, which is then remembered."""
        request = openai_wire.request(self.model_name, messages, tools, stream=True)
        try:
            stream: AsyncStream[ChatCompletionChunk] = await self._completions.create(**request)
        except APIStatusError as error:
            overflow = failures.is_overflow(str(error), error.code or "")
            if self._streams or overflow or error.status_code not in NOT_LIKE_THIS:
                raise
            collected = await self._whole(messages, tools)
            logger.warning("the model's server does not stream: %s", error)
            self._streams = False
            return collected
        async with stream:
            if not stream.response.headers.get("content-type", "").startswith("text/event-stream"):
                await stream.response.aread()
                return openai_wire.Collected.whole(ChatCompletion.construct(**stream.response.json()))
            collected = openai_wire.Collected()
            async for chunk in stream:
                if text := collected.add(chunk):
                    on_text(text)
        self._streams = True
        return collected
