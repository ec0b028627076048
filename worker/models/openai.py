"""OpenAI's chat completions, and whatever else speaks them, through the official SDK."""

import json
from collections.abc import Sequence
from typing import Final, cast

import httpx2
from openai import AsyncOpenAI, DefaultAsyncHttpxClient, OpenAIError
from openai.types.chat import ChatCompletion, ChatCompletionMessage, ChatCompletionMessageParam

from worker import uds
from worker.models.base import CompletionResponse, Message, ProviderApiError, ToolCall, ValidationError

DEFAULT_MODEL: Final = "gpt-5.4-mini"
TIMEOUT_SECONDS: Final = 300.0
CONNECT_TIMEOUT_SECONDS: Final = 10.0


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
        self._completions = self._client.chat.completions  # imports what the first call needs

    async def complete(self, messages: Sequence[Message]) -> CompletionResponse:
        """One completion. Raises ProviderApiError or ValidationError."""
        wire = [{"role": message.role.value, "content": message.text} for message in messages]
        try:
            response = await self._completions.create(
                model=self.model_name, messages=cast("list[ChatCompletionMessageParam]", wire)
            )
            return _translated(response)
        except OpenAIError as error:
            raise ProviderApiError(f"{type(error).__name__}: {error}") from error
        except (AttributeError, IndexError, TypeError, ValueError) as error:  # the SDK does not check what it got
            raise ValidationError(f"the provider's answer is malformed: {error}") from error

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()


def _translated(response: ChatCompletion) -> CompletionResponse:
    message, usage = response.choices[0].message, response.usage
    return CompletionResponse(
        text=message.content or "",
        input_tokens=usage.prompt_tokens if usage else 0,
        output_tokens=usage.completion_tokens if usage else 0,
        tool_calls=_tool_calls(message),
    )


def _tool_calls(message: ChatCompletionMessage) -> tuple[ToolCall, ...]:
    calls = [call for call in message.tool_calls or () if call.type == "function"]
    return tuple(ToolCall(call.id, call.function.name, _arguments(call.function.arguments)) for call in calls)


def _arguments(text: str) -> dict[str, object]:
    try:
        arguments = json.loads(text or "{}")
    except ValueError as error:
        raise ValidationError(f"the arguments of a tool call are not JSON: {error}") from error
    if not isinstance(arguments, dict):
        raise ValidationError("the arguments of a tool call are not a JSON object")
    return arguments
