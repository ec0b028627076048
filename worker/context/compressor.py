"""How the candidates are made to fit.

Every rule is a pure function of the messages, and a second pass of it changes nothing.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from worker.context.blocks import Block, joined, split, with_results
from worker.context.cutting import SHORTEST_CHARS, cut_message, cut_text
from worker.context.tokens import total_tokens
from worker.models.base import Message, Speaker

#: Of a tool's result that is not the newest, so many characters are kept.
OLD_RESULT_CHARS: Final = 2000
#: In so many of the newest batches of calls; of older ones only that they had a result.
CUT_BATCHES: Final = 20
#: One message of the past may have a tenth of the window.
MESSAGE_SHARE: Final = 0.1
#: No window is smaller than this: prompt, question and the notices about what is missing would not fit.
SMALLEST_BUDGET: Final = 512


class Rule(Protocol):
    """One way to make a conversation smaller; ``name`` stands in events."""

    @property
    def name(self) -> str:
        """What it is called."""

    def compress(self, messages: Sequence[Message]) -> list[Message]:
        """The messages that are left, in their order."""


class ContextCompressor(Protocol):
    """Makes a conversation smaller."""

    @property
    def max_messages(self) -> int:
        """How many messages are shown at most."""

    def compress(self, messages: Sequence[Message]) -> tuple[list[Message], list[str]]:
        """The messages to show, oldest first, and the names of the rules that changed something."""


def traced(rules: Iterable[Rule], messages: Sequence[Message]) -> tuple[list[Message], list[str]]:
    """What is left after all rules, and the names of those that changed something."""
    left, names = list(messages), list[str]()
    for rule in rules:
        before, left = left, rule.compress(left)
        if left != before:
            names.append(rule.name)
    return left, names


class LastMessages:
    """Keeps the last ``max_messages`` messages, and what is pinned."""

    name = "max_messages"

    def __init__(self, max_messages: int) -> None:
        self.max_messages = max_messages

    def compress(self, messages: Sequence[Message]) -> list[Message]:
        """The last messages, no call parted from its results."""
        counted = [number for number, message in enumerate(messages) if not message.pinned]
        first = counted[-self.max_messages] if 0 < self.max_messages <= len(counted) else 0
        if not self.max_messages:
            first = len(messages)
        while 0 < first < len(messages) and messages[first].role is Speaker.TOOL:
            first += 1
        return [message for number, message in enumerate(messages) if number >= first or message.pinned]


@dataclass(frozen=True, slots=True)
class LongMessages:
    """Cuts each text that is longer than ``limit`` characters: head and tail stay."""

    limit: int
    name: str = "long_message"

    def compress(self, messages: Sequence[Message]) -> list[Message]:
        """All messages, none too long."""
        return [cut_message(message, self.limit) for message in messages]


@dataclass(frozen=True, slots=True)
class ToolResults:
    """The newest batch of results stays whole; older ones are cut, and those before them dropped for a word on it.

    With ``newest`` that batch may have so many characters in all.
    """

    newest: int | None = None
    name: str = "tool_results"

    def compress(self, messages: Sequence[Message]) -> list[Message]:
        """All messages; every call keeps a result."""
        blocks = split(messages)
        batches = [number for number, block in enumerate(blocks) if block.has_calls]
        for age, number in enumerate(reversed(batches)):
            if age:
                limit = OLD_RESULT_CHARS if age <= CUT_BATCHES else SHORTEST_CHARS
                blocks[number] = _shortened(blocks[number], limit)
            elif self.newest is not None:
                results = len(blocks[number].messages) - 1
                blocks[number] = _shortened(blocks[number], self.newest // results)
        return joined(blocks)


def _shortened(block: Block, limit: int) -> Block:
    return Block((block.first, *(cut_message(result, limit) for result in block.messages[1:])))


class InTurn:
    """Several rules, one after the other; at most as many messages as the first that limits them says."""

    def __init__(self, *rules: Rule, max_messages: int) -> None:
        self._rules = rules
        self.max_messages = max_messages

    def compress(self, messages: Sequence[Message]) -> tuple[list[Message], list[str]]:
        """What is left after all of them, and the names of those that changed something, in that order."""
        return traced(self._rules, messages)


@dataclass(frozen=True, slots=True)
class TokenBudget:
    """Makes a whole prompt fit into ``budget`` tokens, as they are estimated, whatever it holds.

    What fits is left as it is. Else the older tool results are cut; then the oldest messages are left out, but for the
    system prompt, what is pinned, the first thing that a person said, and the newest; then what is left is cut.
    """

    budget: int
    name: str = "token_budget"

    def compress(self, messages: Sequence[Message]) -> list[Message]:
        """The messages that fit."""
        budget = max(self.budget, SMALLEST_BUDGET)
        if total_tokens(messages) <= budget:
            return list(messages)
        left = ToolResults().compress(messages)
        if total_tokens(left) <= budget:
            return left
        return _evenly_cut(_without_oldest(split(left), budget), budget)


def newest_question(messages: Sequence[Message]) -> int:
    """Where the newest message of a person is; -1 where there is none."""
    said = (number for number, m in enumerate(messages) if m.role is Speaker.USER and not m.pinned)
    return max(said, default=-1)


def _without_oldest(blocks: list[Block], budget: int) -> list[Block]:
    """Without as many of the oldest as must go, in whose place stands how many they were."""
    said = [n for n, block in enumerate(blocks) if block.first.role is Speaker.USER and not block.kept]
    batches = [n for n, block in enumerate(blocks) if block.has_calls]
    stay = {n for n, block in enumerate(blocks) if block.kept} | {*said[:1], *said[-1:], *batches[-1:], len(blocks) - 1}
    tokens = sum(block.tokens for block in blocks) + _left_out(len(blocks)).tokens
    gone: set[int] = set()
    for number, block in enumerate(blocks):
        if tokens <= budget:
            break
        if number not in stay:
            gone.add(number)
            tokens -= block.tokens
    if not gone:
        return blocks
    # An earlier pass may have left something out: that is counted in.
    place = min(gone)
    left_out = sum(len(blocks[number].messages) for number in gone)
    kept = [block for number, block in enumerate(blocks) if number >= place and number not in gone]
    return [*blocks[:place], _left_out(left_out), *kept]


def _left_out(number: int) -> Block:
    text = f"[{number} older messages are left out here, as the conversation is longer than the model can read.]"
    return Block((Message(Speaker.USER, text, pinned=True),))


def _evenly_cut(blocks: list[Block], budget: int) -> list[Message]:
    """The longest texts are cut, all to one length, as long as that fits; else ever more is left out."""
    longest = max((len(m.text) for b in blocks for m in b.messages), default=0) + max(_arguments(blocks), default=0)
    for candidates in _fewer(blocks):
        messages = joined(candidates)
        limit = longest
        while limit > SHORTEST_CHARS and total_tokens(messages) > budget:
            limit = max(limit * 3 // 4, SHORTEST_CHARS)
            messages = LongMessages(limit).compress(joined(candidates))
        if total_tokens(messages) <= budget:
            return messages
    question = next((b.first for b in reversed(blocks) if b.first.role is Speaker.USER), blocks[-1].first)
    return [Message(question.role, cut_text(question.text, SHORTEST_CHARS))]


def _fewer(blocks: list[Block]) -> Iterable[list[Block]]:
    """The blocks; then, as these are more than can be cut to size, without ever more of them."""
    yield blocks
    question = newest_question([block.first for block in blocks])
    without_calls = [b for n, b in enumerate(blocks) if n == question or b.kept]
    if blocks[-1].has_calls:  # the newest results go for a word on them
        yield [*without_calls, with_results(Block((blocks[-1].first, *blocks[-1].messages[1:])), "[dropped]")]
    yield without_calls
    yield [b for n, b in enumerate(blocks) if n == question or b.first.role is Speaker.SYSTEM]


def _arguments(blocks: list[Block]) -> Iterable[int]:
    return (len(str(call.arguments)) for block in blocks for call in block.first.tool_calls)
