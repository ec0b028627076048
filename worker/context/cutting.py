"""Cutting what is too long, in such a way that the model sees that something is missing, and how much."""

import json
from dataclasses import replace
from typing import Final

from worker.models.base import Message, ToolCall

#: Of what is kept, the share that is taken from the beginning. The end of a log tells more than its middle.
HEAD_SHARE: Final = 0.6
#: So long that a notice and some words beside it have room.
SHORTEST_CHARS: Final = 120


def cut_text(text: str, limit: int) -> str:
    """A text of at most ``limit`` characters, not fewer than SHORTEST_CHARS: head and tail, and what was cut between.

    What is short enough is left as it is, so a second cut changes nothing.
    """
    limit = max(limit, SHORTEST_CHARS)
    if len(text) <= limit:
        return text
    room = limit - len(_notice(len(text)))
    head = int(room * HEAD_SHARE)
    tail = room - head
    return text[:head] + _notice(len(text) - room) + text[len(text) - tail :]


def _notice(missing: int) -> str:
    return f"\n[... {missing} characters are cut here ...]\n"


def cut_message(message: Message, limit: int) -> Message:
    """A message with text and arguments of at most ``limit`` characters each."""
    calls = tuple(cut_arguments(call, limit) for call in message.tool_calls)
    text = cut_text(message.text, limit)
    if text == message.text and calls == message.tool_calls:
        return message
    return replace(message, text=text, tool_calls=calls)


def cut_arguments(call: ToolCall, limit: int) -> ToolCall:
    """A call whose arguments, as JSON, are of some ``limit`` characters at most."""
    written = json.dumps(call.arguments, ensure_ascii=False)
    limit = max(limit, SHORTEST_CHARS)
    if len(json.dumps(call.arguments)) <= limit:
        return call
    # JSON within JSON grows by its escapes, and non-ASCII text up to sixfold when it is written in ASCII.
    kept = max(limit // 8, 0)
    shown = f"{written[:kept]} [... {len(written) - kept} characters are cut here ...]"
    return replace(call, arguments={"cut": shown})
