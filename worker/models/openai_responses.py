"""OpenAI's responses, through the official SDK. Nothing is stored at the provider's."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import httpx2
from openai import APIStatusError, AsyncOpenAI, DefaultAsyncHttpxClient, OpenAIError
from openai.types.responses import Response, ResponseOutputItem

from worker import uds
from worker.models import failures
from worker.models.arguments import tool_call
from worker.models.base import (
    CompletionResponse,
    Message,
    OnText,
    ProviderApiError,
    RateLimited,
    Speaker,
    Stop,
    ToolSpec,
    ValidationError,
)
from worker.models.openai import CONNECT_TIMEOUT_SECONDS, DEFAULT_MODEL, TIMEOUT_SECONDS
from worker.models.verbatim import Verbatim

#: The events of a stream after which nothing comes.
LAST_EVENTS: Final = frozenset({"response.completed", "response.incomplete", "response.failed"})
TEXT_EVENTS: Final = frozenset({"response.output_text.delta", "response.refusal.delta"})

Items = list[dict[str, object]]


class OpenAIResponsesModel:
    """One model behind the responses API. ``socket`` is the path of a Unix socket to use instead of the network."""

    provider = "openai-responses"

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
        self._responses: Any = self._client.responses  # imports what the first call needs
        self._answers: Verbatim[Items] = Verbatim()

    async def complete(
        self, messages: Sequence[Message], tools: Sequence[ToolSpec] = (), on_text: OnText | None = None
    ) -> CompletionResponse:
        """One completion; streamed when ``on_text`` wants it. Raises ModelError."""
        body = self._request(messages, tools)
        try:
            whole = await (self._responses.create(**body) if on_text is None else self._streamed(body, on_text))
            return self._read(whole)
        except APIStatusError as error:
            words, headers = f"{type(error).__name__}: {error}", error.response.headers
            raise failures.of_status(error.status_code, words, code=error.code or "", headers=headers) from error
        except (OpenAIError, httpx2.HTTPError) as error:
            raise ProviderApiError(f"{type(error).__name__}: {error}") from error
        except (AttributeError, IndexError, TypeError, ValueError) as error:  # the SDK does not check what it got
            raise ValidationError(f"the provider's answer is malformed: {error}") from error

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def _streamed(self, body: Mapping[str, object], on_text: OnText) -> Response:
        async with await self._responses.create(**body, stream=True) as stream:
            async for event in stream:
                if event.type in TEXT_EVENTS:
                    on_text(event.delta)
                elif event.type in LAST_EVENTS:
                    whole: Response = event.response
                    return whole
        raise ProviderApiError("the provider's answer broke off")

    def _request(self, messages: Sequence[Message], tools: Sequence[ToolSpec]) -> dict[str, object]:
        body: dict[str, object] = {
            "model": self.model_name,
            "input": [item for message in messages for item in self._items(message)],
            "store": False,
            "include": ["reasoning.encrypted_content"],
        }
        system = [message.text for message in messages if message.role is Speaker.SYSTEM]
        if system:
            body["instructions"] = "\n\n".join(system)
        if tools:
            body["tools"] = [
                {
                    "type": "function",
                    "name": tool.name,
                    "description": tool.description,
                    "parameters": dict(tool.schema),
                    "strict": False,
                }
                for tool in tools
            ]
        return body

    def _items(self, message: Message) -> Items:
        if message.role is Speaker.SYSTEM:
            return []
        if message.role is Speaker.TOOL:
            return [{"type": "function_call_output", "call_id": message.tool_call_id, "output": message.text}]
        if (own := self._answers.of(message)) is not None:
            return own
        items: Items = [{"role": message.role.value, "content": message.text}] if message.text else []
        return items + [
            {"type": "function_call", "call_id": c.id, "name": c.name, "arguments": json.dumps(c.arguments)}
            for c in message.tool_calls
        ]

    def _read(self, response: Response) -> CompletionResponse:
        """An answer in our types. Raises ModelError, and what the SDK's unchecked types raise."""
        if response.status == "failed" or response.error is not None:
            raise _failure(response)
        if response.output is None or response.usage is None:
            raise ValidationError("the provider's answer has no output or no count of its tokens")
        refused = any(part.type == "refusal" for item in response.output for part in _parts(item))
        text = "".join(
            part.refusal if part.type == "refusal" else part.text
            for item in response.output
            for part in _parts(item)
            if part.type in ("refusal", "output_text")
        )
        asked = [item for item in response.output if item.type == "function_call"]
        calls = tuple(tool_call(n, item.call_id, item.name, item.arguments) for n, item in enumerate(asked, start=1))
        own = [item.model_dump(mode="json", exclude_none=True, exclude={"status"}) for item in response.output]
        self._answers.keep(text, calls, own)
        details = response.usage.input_tokens_details
        return CompletionResponse(
            text,
            input_tokens=int(response.usage.input_tokens),
            output_tokens=int(response.usage.output_tokens),
            tool_calls=calls,
            cached_tokens=(details.cached_tokens or 0) if details else 0,
            stop=_stop(response, refused=refused, calls=bool(calls)),
        )


def _parts(item: ResponseOutputItem) -> Sequence[Any]:
    return item.content or () if item.type == "message" else ()


def _stop(response: Response, *, refused: bool, calls: bool) -> Stop:
    reason = response.incomplete_details.reason if response.incomplete_details else None
    if refused or reason == "content_filter":
        return Stop.REFUSAL
    if reason == "max_output_tokens":
        return Stop.LENGTH
    return Stop.TOOL_CALLS if calls else Stop.END


def _failure(response: Response) -> Exception:
    code = str(response.error.code) if response.error else ""
    words = response.error.message if response.error else "the provider failed and does not say why"
    if failures.is_overflow(words, code):
        return failures.of_status(failures.REFUSED[0], words, code=code)
    return RateLimited(words) if code == "rate_limit_exceeded" else ProviderApiError(words)
