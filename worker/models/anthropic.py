"""Anthropic's messages, through the official SDK."""

from collections.abc import Sequence
from typing import Any, Final

import httpx2
from anthropic import AnthropicError, APIStatusError, AsyncAnthropic

from worker.models import catalog, failures
from worker.models.anthropic_wire import Block, Collected, request
from worker.models.base import CompletionResponse, Message, OnText, ProviderApiError, ToolSpec, ValidationError
from worker.models.verbatim import Verbatim

DEFAULT_MODEL: Final = "claude-sonnet-5-5"
TIMEOUT_SECONDS: Final = 300.0
CONNECT_TIMEOUT_SECONDS: Final = 10.0
#: An answer is no longer than what is kept free for it.
ANSWER_TOKENS: Final = 16_384


class AnthropicModel:
    """One model of Anthropic's."""

    provider = "anthropic"

    def __init__(self, *, api_key: str, base_url: str | None, model: str | None) -> None:
        self.model_name = model or DEFAULT_MODEL
        known = catalog.facts(self.provider, self.model_name).longest_output
        self._longest = min(known or ANSWER_TOKENS, ANSWER_TOKENS)
        self._client = AsyncAnthropic(
            api_key=api_key,
            base_url=base_url,
            timeout=httpx2.Timeout(TIMEOUT_SECONDS, connect=CONNECT_TIMEOUT_SECONDS),
            max_retries=0,  # the control layer retries, and counts what it does
        )
        self._messages: Any = self._client.messages  # imports what the first call needs
        self._answers: Verbatim[list[Block]] = Verbatim()

    async def complete(
        self, messages: Sequence[Message], tools: Sequence[ToolSpec] = (), on_text: OnText | None = None
    ) -> CompletionResponse:
        """One completion; streamed when ``on_text`` wants it. Raises ModelError."""
        body = request(self.model_name, messages, tools, longest=self._longest, own=self._answers.of)
        try:
            if on_text is None:
                collected = Collected.whole(await self._messages.create(**body))
            else:
                collected = await self._streamed(body, on_text)
            response = collected.response()
        except APIStatusError as error:
            headers = error.response.headers
            raise failures.of_status(error.status_code, f"{type(error).__name__}: {error}", headers=headers) from error
        except (AnthropicError, httpx2.HTTPError) as error:
            raise ProviderApiError(f"{type(error).__name__}: {error}") from error
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:  # the SDK checks nothing
            raise ValidationError(f"the provider's answer is malformed: {error}") from error
        self._answers.keep(response.text, response.tool_calls, collected.blocks)
        return response

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def _streamed(self, body: dict[str, object], on_text: OnText) -> Collected:
        collected = Collected()
        async with await self._messages.create(**body, stream=True) as stream:
            async for event in stream:
                if text := collected.add(event):
                    on_text(text)
        return collected
