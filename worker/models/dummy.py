"""The offline model: it answers without any network, as told by a script or with a fixed hint."""

import asyncio
import json
from collections.abc import Sequence
from typing import Final

from worker.models.arguments import tool_call
from worker.models.base import (
    CompletionResponse,
    Message,
    ModelError,
    OnText,
    ProviderApiError,
    ToolCall,
    ToolSpec,
    ValidationError,
)
from worker.scripts import Action, Step, endless

#: What the agent says to every message while it has neither a key nor a script.
OFFLINE_REPLY: Final = (
    "I am the offline stand-in for a model: I run, but I cannot think. "
    "To give me a model, put OPENAI_API_KEY=... into the file .env and run: make up"
)
OK_REPLY: Final = "dummy-ok"
SLEPT_REPLY: Final = "dummy-after-sleep"


class DummyModel:
    """Takes one step of the script for each call; with no steps it always gives OFFLINE_REPLY."""

    provider = "dummy"
    model_name = "dummy"

    def __init__(self, steps: tuple[Step, ...] | None = None) -> None:
        self._steps = endless(steps or (Step(Action.MSG, OFFLINE_REPLY),))

    async def complete(
        self,
        messages: Sequence[Message],  # noqa: ARG002 - it never reads
        tools: Sequence[ToolSpec] = (),  # noqa: ARG002 - its calls stand in the script
        on_text: OnText | None = None,
    ) -> CompletionResponse:
        """The next scripted answer, at one token each way."""
        response = await self._step(next(self._steps))
        if on_text is not None and response.text:
            on_text(response.text)
        return response

    async def _step(self, step: Step) -> CompletionResponse:
        match step.action:
            case Action.ERR:
                raise _error(step.text)
            case Action.SLEEP:
                await asyncio.sleep(step.seconds)
                return _completion(SLEPT_REPLY)
            case Action.MSG:
                return _scripted(step.text)
            case Action.OK:
                return _completion(OK_REPLY)

    async def close(self) -> None:
        """Nothing to free."""


def _error(name: str) -> ModelError:
    """The error whose class has that name; any other name is taken as it is."""
    classes: tuple[type[ModelError], ...] = (ProviderApiError, ValidationError)
    of_name = next((known for known in classes if known.error_class == name), ModelError)
    return of_name(f"scripted error of class {name}", name)


def _scripted(text: str) -> CompletionResponse:
    """A message that is a JSON object with ``tool_calls`` and ``final_answer`` stands for what it describes."""
    try:
        reply = json.loads(text)
    except ValueError:
        return _completion(text)
    if not isinstance(reply, dict) or not {"tool_calls", "final_answer"} & reply.keys():
        return _completion(text)
    try:
        calls = tuple(
            tool_call(number, "", str(call["name"]), json.dumps(dict(call.get("arguments") or {})))
            for number, call in enumerate(reply.get("tool_calls") or (), start=1)
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValidationError(f"malformed tool call in the scripted reply: {error!r}") from error
    answer = str(reply.get("final_answer") or "")
    if not calls and not answer:
        raise ValidationError("the reply has neither a tool call nor a final answer")
    return _completion(answer, calls)


def _completion(text: str, tool_calls: tuple[ToolCall, ...] = ()) -> CompletionResponse:
    return CompletionResponse(text, input_tokens=1, output_tokens=1, tool_calls=tool_calls)
