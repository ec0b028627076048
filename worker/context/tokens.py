"""How many tokens messages have: a quarter of their characters, corrected by what the provider counted last."""

import json
from collections.abc import Iterable, Sequence
from typing import Final

from worker.models.base import Message, ToolSpec, estimated_tokens

#: What a message costs beside its text.
OVERHEAD: Final = 4
#: A correction beyond this is no property of a language, but of a provider that counts something else.
LEAST, MOST = 0.8, 8.0
#: Below that many tokens a provider's own overhead tells more than the text.
SHORTEST: Final = 200
REMEMBERED: Final = 1000


def message_tokens(message: Message) -> int:
    """Roughly how many tokens a message has, its calls included."""
    calls = sum(estimated_tokens(call.name + json.dumps(call.arguments)) + OVERHEAD for call in message.tool_calls)
    return estimated_tokens(message.text) + calls + OVERHEAD


def total_tokens(messages: Iterable[Message]) -> int:
    """The same for all of them."""
    return sum(map(message_tokens, messages))


def tool_tokens(tools: Sequence[ToolSpec]) -> int:
    """Roughly how many tokens the descriptions of tools have."""
    return sum(estimated_tokens(t.name + t.description + json.dumps(dict(t.schema))) + OVERHEAD for t in tools)


class Calibration:
    """What a provider counts for each token that we estimate, chat by chat, as languages differ."""

    def __init__(self) -> None:
        self._factors: dict[int, float] = {}

    def factor(self, chat_id: int) -> float:
        """Tokens as counted, for each one as estimated."""
        return self._factors.get(chat_id, 1.0)

    def counted(self, chat_id: int, *, estimated: int, counted: int) -> None:
        """The provider counted what was estimated before."""
        if estimated < SHORTEST:
            return
        self._remember(chat_id, min(max(counted / estimated, LEAST), MOST))

    def _remember(self, chat_id: int, factor: float) -> None:
        self._factors.pop(chat_id, None)
        if len(self._factors) >= REMEMBERED:
            del self._factors[next(iter(self._factors))]
        self._factors[chat_id] = factor
