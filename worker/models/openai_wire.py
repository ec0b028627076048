"""Between our types and OpenAI's chat completions: pure translation."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

from openai.types import CompletionUsage
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.chat.chat_completion_chunk import ChoiceDelta

from worker.models.arguments import tool_call
from worker.models.base import (
    CompletionResponse,
    Message,
    ProviderApiError,
    Speaker,
    Stop,
    ToolSpec,
    estimated_tokens,
)


def request(
    model: str, messages: Sequence[Message], tools: Sequence[ToolSpec], *, stream: bool = False
) -> dict[str, object]:
    """The body of a request."""
    body: dict[str, object] = {"model": model, "messages": [_message(message) for message in messages]}
    if tools:
        body["tools"] = [
            {"type": "function", "function": {"name": t.name, "description": t.description, "parameters": t.schema}}
            for t in tools
        ]
    if stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    return body


def _message(message: Message) -> dict[str, object]:
    wire: dict[str, object] = {"role": message.role.value, "content": message.text}
    if message.tool_calls:
        wire["content"] = message.text or None
        wire["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": json.dumps(call.arguments)},
            }
            for call in message.tool_calls
        ]
    if message.role is Speaker.TOOL:
        wire["tool_call_id"] = message.tool_call_id
    return wire


@dataclass
class _Call:
    id: str = ""
    name: str = ""
    arguments: str = ""


@dataclass
class Collected:
    """An answer, whole or put together from the pieces of a stream."""

    text: str = ""
    calls: dict[int, _Call] = field(default_factory=dict)
    usage: CompletionUsage | None = None
    finish_reason: str = ""
    refused: bool = False

    @classmethod
    def whole(cls, completion: ChatCompletion) -> "Collected":
        """An answer that came in one piece. Raises what the SDK's unchecked types raise when they are malformed."""
        choice = completion.choices[0]
        message = choice.message
        collected = cls(message.content or message.refusal or "", usage=completion.usage)
        collected.finish_reason = choice.finish_reason or "stop"
        collected.refused = bool(message.refusal)
        for index, call in enumerate(message.tool_calls or ()):
            if call.type == "function":
                collected.calls[index] = _Call(call.id, call.function.name, call.function.arguments)
        return collected

    def add(self, chunk: ChatCompletionChunk) -> str:
        """One more piece of a stream; gives the text in it."""
        self.usage = chunk.usage or self.usage
        if not chunk.choices:
            return ""
        choice = chunk.choices[0]
        self.finish_reason = choice.finish_reason or self.finish_reason
        delta = choice.delta
        self.refused = self.refused or bool(delta.refusal)
        self._add_calls(delta)
        text = delta.content or delta.refusal or ""
        self.text += text
        return text

    def _add_calls(self, delta: ChoiceDelta) -> None:
        for piece in delta.tool_calls or ():
            call = self.calls.setdefault(piece.index, _Call())
            call.id = call.id or piece.id or ""
            if piece.function is not None:
                call.name += piece.function.name or ""
                call.arguments += piece.function.arguments or ""

    def response(self, messages: Sequence[Message]) -> CompletionResponse:
        """The answer in our types; ``messages`` are what it answers. Raises ProviderApiError or ValidationError."""
        if not self.finish_reason:
            raise ProviderApiError("the provider's answer broke off")
        calls = tuple(
            tool_call(number, call.id, call.name, call.arguments)
            for number, (_, call) in enumerate(sorted(self.calls.items()), start=1)
        )
        if self.usage is None:
            asked = sum(estimated_tokens(message.text) for message in messages)
            said = estimated_tokens(self.text + "".join(call.arguments for call in self.calls.values()))
            return CompletionResponse(self.text, asked, said, calls, estimated=True, stop=self._stop)
        details = self.usage.prompt_tokens_details
        return CompletionResponse(
            self.text,
            input_tokens=int(self.usage.prompt_tokens),
            output_tokens=int(self.usage.completion_tokens),
            tool_calls=calls,
            cached_tokens=(details.cached_tokens or 0) if details else 0,
            stop=self._stop,
        )

    @property
    def _stop(self) -> Stop:
        if self.refused or self.finish_reason == "content_filter":
            return Stop.REFUSAL
        if self.calls:
            return Stop.TOOL_CALLS
        return Stop.LENGTH if self.finish_reason == "length" else Stop.END
