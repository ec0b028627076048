"""Between our types and Anthropic's messages: pure translation."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from anthropic.types import Message as Answer

from worker.models.arguments import tool_call
from worker.models.base import (
    CompletionResponse,
    ContextOverflow,
    Message,
    ProviderApiError,
    Speaker,
    Stop,
    ToolSpec,
)

#: A text block may not be empty.
EMPTY: Final = "[empty]"
#: How the envelope of a failed call begins.
FAILED: Final = '{"ok": false'
STOPS: Final = {"tool_use": Stop.TOOL_CALLS, "max_tokens": Stop.LENGTH, "refusal": Stop.REFUSAL}
REFUSED_TEXT: Final = "The model's provider refused to answer this."

Block = dict[str, Any]


def request(
    model: str,
    messages: Sequence[Message],
    tools: Sequence[ToolSpec],
    *,
    longest: int,
    own: Callable[[Message], list[Block] | None],
) -> dict[str, object]:
    """The body of a request for an answer of ``longest`` tokens. ``own`` gives an answer in the provider's form."""
    body: dict[str, object] = {
        "model": model,
        "max_tokens": longest,
        "messages": _turns(messages, own),
        "cache_control": {"type": "ephemeral"},
    }
    system = [message.text for message in messages if message.role is Speaker.SYSTEM and message.text.strip()]
    if system:
        body["system"] = "\n\n".join(system)
    if tools:
        body["tools"] = [{"name": t.name, "description": t.description, "input_schema": dict(t.schema)} for t in tools]
    return body


def _turns(messages: Sequence[Message], own: Callable[[Message], list[Block] | None]) -> list[dict[str, object]]:
    """Messages of one side in a row are one turn; results are the other side's."""
    turns: list[tuple[str, list[Block]]] = []
    for message in messages:
        if message.role is Speaker.SYSTEM:
            continue
        role = "assistant" if message.role is Speaker.ASSISTANT else "user"
        if not turns or turns[-1][0] != role:
            turns.append((role, []))
        turns[-1][1].extend(own(message) or _blocks(message))
    return [{"role": role, "content": blocks} for role, blocks in turns]


def _blocks(message: Message) -> list[Block]:
    if message.role is Speaker.TOOL:
        result = {"type": "tool_result", "tool_use_id": message.tool_call_id, "content": message.text}
        return [{**result, "is_error": True}] if _is_error(message.text) else [result]
    calls = [{"type": "tool_use", "id": c.id, "name": c.name, "input": c.arguments} for c in message.tool_calls]
    if message.text.strip() or not calls:
        return [{"type": "text", "text": message.text if message.text.strip() else EMPTY}, *calls]
    return calls


def _is_error(text: str) -> bool:
    """Whether it is a tool's envelope that says that it failed."""
    return text.startswith(FAILED)


@dataclass
class Collected:
    """An answer, whole or put together from the events of a stream."""

    blocks: list[Block] = field(default_factory=list)
    written: dict[int, str] = field(default_factory=dict)
    stop_reason: str = ""
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    written_tokens: int = 0

    @classmethod
    def whole(cls, answer: Answer) -> "Collected":
        """An answer that came in one piece."""
        collected = cls([block.model_dump(mode="json", exclude_none=True) for block in answer.content])
        for number, block in enumerate(collected.blocks):
            if block["type"] == "tool_use":
                collected.written[number] = json.dumps(block["input"])
        collected.stop_reason = answer.stop_reason or ""
        collected._count(answer.usage)
        return collected

    def add(self, event: Any) -> str:
        """One more event of a stream; gives the text in it."""
        match event.type:
            case "message_start":
                self._count(event.message.usage)
            case "content_block_start":
                self.blocks.append(event.content_block.model_dump(mode="json", exclude_none=True))
            case "content_block_delta":
                return self._add_delta(event.index, event.delta)
            case "message_delta":
                self.stop_reason = event.delta.stop_reason or self.stop_reason
                self.output_tokens = event.usage.output_tokens
        return ""

    def _add_delta(self, index: int, delta: Any) -> str:
        block = self.blocks[index]
        match delta.type:
            case "text_delta":
                block["text"] += delta.text
                return str(delta.text)
            case "input_json_delta":
                self.written[index] = self.written.get(index, "") + delta.partial_json
            case "thinking_delta":
                block["thinking"] = block.get("thinking", "") + delta.thinking
            case "signature_delta":
                block["signature"] = delta.signature
        return ""

    def _count(self, usage: Any) -> None:
        """What went in: fresh, read from the cache, and written to it, which are counted apart."""
        self.cached_tokens = usage.cache_read_input_tokens or 0
        self.written_tokens = usage.cache_creation_input_tokens or 0
        self.input_tokens = usage.input_tokens + self.cached_tokens + self.written_tokens
        self.output_tokens = usage.output_tokens

    def response(self) -> CompletionResponse:
        """The answer in our types. Raises ModelError."""
        if not self.stop_reason:
            raise ProviderApiError("the provider's answer broke off")
        text = "".join(block["text"] for block in self.blocks if block["type"] == "text")
        if self.stop_reason == "model_context_window_exceeded" and not text:
            raise ContextOverflow("the conversation fills the model's window")
        asked = [(n, block) for n, block in enumerate(self.blocks) if block["type"] == "tool_use"]
        calls = tuple(
            tool_call(number, block["id"], block["name"], self.written.get(index, ""))
            for number, (index, block) in enumerate(asked, start=1)
        )
        for (_, block), call in zip(asked, calls, strict=True):
            block["input"] = call.arguments
        if self.stop_reason == "refusal" and not text:
            text = REFUSED_TEXT
        stop = STOPS.get(self.stop_reason, Stop.END)
        return CompletionResponse(
            text,
            self.input_tokens,
            self.output_tokens,
            calls,
            cached_tokens=self.cached_tokens,
            written_tokens=self.written_tokens,
            stop=stop,
        )
