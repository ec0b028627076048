"""What a model wrote as arguments of a call."""

import json
from typing import Final

from worker.models.base import ToolCall, ValidationError

#: So much of arguments that are no JSON is shown to the model again.
QUOTED_CHARS: Final = 200


def tool_call(number: int, call_id: str, name: str, written: str) -> ToolCall:
    """The ``number``-th call of an answer; with the reason in place of arguments that cannot be read.

    Raises ValidationError for a call that names no tool.
    """
    if not name:
        raise ValidationError("the provider's answer calls a tool without naming it")
    call_id = call_id or f"call-{number}"
    try:
        arguments = json.loads(written or "{}")
    except ValueError as error:
        return ToolCall(call_id, name, {}, f"the arguments are not JSON ({error}): {written[:QUOTED_CHARS]}")
    if not isinstance(arguments, dict):
        return ToolCall(call_id, name, {}, f"the arguments are not an object: {written[:QUOTED_CHARS]}")
    return ToolCall(call_id, name, arguments)
