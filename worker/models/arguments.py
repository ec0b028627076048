"""What a model wrote as arguments of a call."""

import json
from typing import Final

from worker.models.base import ToolCall, ValidationError
from worker.text import sound

#: So much of arguments that are no JSON is shown to the model again.
QUOTED_CHARS: Final = 200


def tool_call(number: int, call_id: str, name: str, written: str) -> ToolCall:
    """The ``number``-th call of an answer; with the reason in place of arguments that cannot be read.

    Raises ValidationError for a call that names no tool.
    """
    if not name:
        raise ValidationError("the provider's answer calls a tool without naming it")
    call_id, name, quoted = sound(call_id) or f"call-{number}", sound(name), sound(written[:QUOTED_CHARS])
    try:
        arguments = json.loads(written or "{}")
        json.dumps(arguments, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return ToolCall(call_id, name, {}, f"the arguments have half a surrogate pair in them: {quoted}")
    except (ValueError, RecursionError) as error:
        return ToolCall(call_id, name, {}, f"the arguments are not JSON ({error}): {quoted}")
    if not isinstance(arguments, dict):
        return ToolCall(call_id, name, {}, f"the arguments are not an object: {quoted}")
    return ToolCall(call_id, name, arguments)
