"""A conversation in blocks that may be kept or left out, but never parted: a call stays with its results."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from worker.context.tokens import total_tokens
from worker.models.base import Message, Speaker

#: What a call is given whose result is not there.
NO_RESULT: Final = "[no result was recorded]"


@dataclass(frozen=True, slots=True)
class Block:
    """One message, or an assistant's calls with all their results."""

    messages: tuple[Message, ...]

    @property
    def first(self) -> Message:
        """What it begins with."""
        return self.messages[0]

    @property
    def has_calls(self) -> bool:
        """Whether it is of calls and results."""
        return bool(self.first.tool_calls)

    @property
    def kept(self) -> bool:
        """Whether it is only left out when nothing else is left."""
        return self.first.role is Speaker.SYSTEM or self.first.pinned

    @property
    def tokens(self) -> int:
        """Roughly how long it is."""
        return total_tokens(self.messages)


def split(messages: Sequence[Message]) -> list[Block]:
    """The blocks of a conversation. A result without its call is left out, a call without its result is given one."""
    blocks: list[Block] = []
    position = 0
    while position < len(messages):
        message = messages[position]
        position += 1
        if message.role is Speaker.TOOL:
            continue
        if not message.tool_calls:
            blocks.append(Block((message,)))
            continue
        results: dict[str, list[Message]] = {}
        while position < len(messages) and messages[position].role is Speaker.TOOL:
            results.setdefault(messages[position].tool_call_id, []).append(messages[position])
            position += 1
        paired = (
            results[call.id].pop(0) if results.get(call.id) else Message(Speaker.TOOL, NO_RESULT, tool_call_id=call.id)
            for call in message.tool_calls
        )
        blocks.append(Block((message, *paired)))
    return blocks


def joined(blocks: Iterable[Block]) -> list[Message]:
    """The messages of blocks, in their order."""
    return [message for block in blocks for message in block.messages]


def with_results(block: Block, text: str) -> Block:
    """The same calls, each with this result."""
    return Block((block.first, *(replace(result, text=text) for result in block.messages[1:])))
