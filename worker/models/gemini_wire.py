"""Between our types and Gemini's contents: pure translation."""

import json
import re
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from google.genai import types

from worker.models.arguments import tool_call
from worker.models.base import (
    CompletionResponse,
    Message,
    ProviderApiError,
    Speaker,
    Stop,
    ToolSpec,
    ValidationError,
)

ANSWER_TOKENS: Final = 16_384
#: What the API takes in place of the signature of a call that it did not make in this conversation.
NO_SIGNATURE: Final = b"skip_thought_signature_validator"
REFUSED_TEXT: Final = "The model's provider refused to answer this."
REFUSALS: Final = frozenset({"SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "LANGUAGE"})
DURATION: Final = re.compile(r"\d{1,9}(\.\d+)?s")
MALFORMED: Final = frozenset({"MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "MALFORMED_RESPONSE"})


def config(messages: Sequence[Message], tools: Sequence[ToolSpec]) -> types.GenerateContentConfig:
    """Prompt, tools and limits of a request."""
    declared = [
        types.FunctionDeclaration(name=t.name, description=t.description, parameters_json_schema=dict(t.schema))
        for t in tools
    ]
    system = [message.text for message in messages if message.role is Speaker.SYSTEM]
    return types.GenerateContentConfig(
        system_instruction="\n\n".join(system) or None,
        tools=[types.Tool(function_declarations=declared)] if declared else None,
        automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
        max_output_tokens=ANSWER_TOKENS,
    )


def contents(messages: Sequence[Message], own: Callable[[Message], list[types.Part] | None]) -> list[types.Content]:
    """The conversation. Messages of one side in a row are one content; ``own`` gives an answer in Gemini's form."""
    names = {call.id: call.name for message in messages for call in message.tool_calls}
    found: list[types.Content] = []
    for message in messages:
        if message.role is Speaker.SYSTEM:
            continue
        role = "model" if message.role is Speaker.ASSISTANT else "user"
        parts = own(message) or _parts(message, names)
        if found and found[-1].role == role and found[-1].parts is not None:
            found[-1].parts.extend(parts)
        else:
            found.append(types.Content(role=role, parts=list(parts)))
    return found


def _parts(message: Message, names: dict[str, str]) -> list[types.Part]:
    if message.role is Speaker.TOOL:
        name = names.get(message.tool_call_id, "")
        response = types.FunctionResponse(id=message.tool_call_id, name=name, response={"output": message.text})
        return [types.Part(function_response=response)]
    calls = [
        types.Part(
            function_call=types.FunctionCall(id=call.id, name=call.name, args=call.arguments),
            thought_signature=NO_SIGNATURE,
        )
        for call in message.tool_calls
    ]
    return [types.Part(text=message.text), *calls] if message.text or not calls else calls


def retry_delay(body: object) -> float | None:
    """The wait in seconds that an error's body asks for, as in ``"retryDelay": "37.5s"``; None where it names none."""
    error = body.get("error", body) if isinstance(body, dict) else None
    details = error.get("details") if isinstance(error, dict) else None
    for detail in details if isinstance(details, list) else ():
        named = detail.get("retryDelay") if isinstance(detail, dict) else None
        if isinstance(named, str) and DURATION.fullmatch(named):
            return float(named[:-1])
    return None


@dataclass
class Collected:
    """An answer, whole or put together from the pieces of a stream."""

    parts: list[types.Part] = field(default_factory=list)
    finish_reason: str = ""
    blocked: bool = False
    usage: types.GenerateContentResponseUsageMetadata | None = None

    def add(self, piece: types.GenerateContentResponse) -> str:
        """One more piece; gives the text in it."""
        self.usage = piece.usage_metadata or self.usage
        if piece.prompt_feedback is not None and piece.prompt_feedback.block_reason is not None:
            self.blocked = True
        if not piece.candidates:
            return ""
        candidate = piece.candidates[0]
        if candidate.finish_reason is not None:
            self.finish_reason = candidate.finish_reason.value
        parts = (candidate.content.parts or []) if candidate.content else []
        for part in parts:
            self._add(part)
        return "".join(part.text for part in parts if part.text and not part.thought)

    def _add(self, part: types.Part) -> None:
        """A text comes in pieces, and goes back in one."""
        last = self.parts[-1] if self.parts else None
        plain = part.model_copy(update={"text": None}) == types.Part(thought=part.thought)
        if last is not None and last.text and part.text and plain and last.thought == part.thought:
            self.parts[-1] = last.model_copy(update={"text": last.text + part.text})
        else:
            self.parts.append(part)

    def response(self) -> CompletionResponse:
        """The answer in our types. Raises ModelError."""
        if not self.finish_reason and not self.blocked:
            raise ProviderApiError("the provider's answer broke off")
        if self.finish_reason in MALFORMED:
            raise ValidationError(f"the model's answer is malformed: {self.finish_reason}")
        text = "".join(part.text for part in self.parts if part.text and not part.thought)
        asked = [part.function_call for part in self.parts if part.function_call is not None]
        calls = tuple(
            tool_call(number, call.id or f"call-{uuid.uuid4().hex[:12]}", call.name or "", json.dumps(call.args or {}))
            for number, call in enumerate(asked, start=1)
        )
        refused = self.blocked or self.finish_reason in REFUSALS
        if self.usage is None:
            raise ValidationError("the provider does not count its tokens")
        return CompletionResponse(
            text or (REFUSED_TEXT if refused else ""),
            input_tokens=self.usage.prompt_token_count or 0,
            output_tokens=(self.usage.candidates_token_count or 0) + (self.usage.thoughts_token_count or 0),
            tool_calls=calls,
            cached_tokens=self.usage.cached_content_token_count or 0,
            stop=self._stop(refused=refused, calls=bool(calls)),
        )

    def _stop(self, *, refused: bool, calls: bool) -> Stop:
        if refused:
            return Stop.REFUSAL
        if self.finish_reason == "MAX_TOKENS":
            return Stop.LENGTH
        return Stop.TOOL_CALLS if calls else Stop.END
