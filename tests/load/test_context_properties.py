"""Whatever a conversation holds, what the model is shown fits, is in order, and parts no call from its results."""

from collections.abc import Sequence

from hypothesis import example, given, settings
from hypothesis import strategies as st

from worker.context.blocks import joined, split
from worker.context.compressor import (
    SMALLEST_BUDGET,
    InTurn,
    LastMessages,
    LongMessages,
    TokenBudget,
    ToolResults,
    newest_question,
)
from worker.context.cutting import SHORTEST_CHARS, cut_text
from worker.context.summary import chunks, divided, request
from worker.context.tokens import total_tokens
from worker.models.base import Message, Speaker, ToolCall

#: Texts that tell where they come from, so that order and wholeness can be seen: a number, then so many characters.
LENGTHS = st.one_of(st.integers(0, 400), st.integers(0, 40_000), st.sampled_from([0, 119, 120, 121, 200_000]))
FILLINGS = st.sampled_from(["x", "é", "漢", "\n", '"'])


@st.composite
def conversations(draw: st.DrawFn) -> list[Message]:
    """A prompt, perhaps something pinned, and messages with any interleaving of calls."""
    number = 0

    def text() -> str:
        nonlocal number
        number += 1
        return f"#{number}# " + draw(FILLINGS) * draw(LENGTHS)

    messages = [Message(Speaker.SYSTEM, text())]
    messages += [Message(Speaker.USER, text(), pinned=True) for _ in range(draw(st.integers(0, 2)))]
    for kind in draw(st.lists(st.sampled_from(["user", "assistant", "calls"]), max_size=30)):
        if kind != "calls":
            messages.append(Message(Speaker(kind), text()))
            continue
        calls = tuple(
            ToolCall(f"c{number}-{position}", "tool", {"text": draw(FILLINGS) * draw(LENGTHS)})
            for position in range(draw(st.integers(1, 5)))
        )
        messages.append(Message(Speaker.ASSISTANT, text(), tool_calls=calls))
        messages += [Message(Speaker.TOOL, text(), tool_call_id=call.id) for call in calls]
    return messages


BUDGETS = st.one_of(st.integers(0, 3000), st.integers(0, 200_000))
LIMITS = st.integers(0, 50_000)


def paired(messages: Sequence[Message]) -> bool:
    """Whether every call is followed by its result, and every result follows its call."""
    position = 0
    while position < len(messages):
        message = messages[position]
        position += 1
        if message.role is Speaker.TOOL:
            return False
        for call in message.tool_calls:
            if position >= len(messages) or messages[position].tool_call_id != call.id:
                return False
            position += 1
    return True


def numbers(messages: Sequence[Message]) -> list[int]:
    """Which of the conversation's messages these are; what says only how many are left out has no number."""
    found = [message.text.partition("# ")[0] for message in messages]
    return [int(text[1:]) for text in found if text[:1] == "#" and text[1:].isdecimal()]


@settings(max_examples=400, deadline=None)
@given(conversations(), BUDGETS)
@example([Message(Speaker.SYSTEM, "#1# " + "x" * 900_000), Message(Speaker.USER, "#2# " + "y" * 1_900_000)], 1000)
def test_every_conversation_fits(messages: list[Message], budget: int) -> None:
    """The budget holds, pairs and order too; the newest question is whole or cut with notice; again is no other."""
    rule = TokenBudget(budget)
    left = rule.compress(messages)
    assert total_tokens(left) <= max(budget, SMALLEST_BUDGET)
    assert paired(left)
    assert numbers(left) == sorted(numbers(left))
    assert rule.compress(left) == left
    if total_tokens(messages) <= budget:
        assert left == messages
    if (asked := newest_question(messages)) >= 0:
        shown = left[newest_question(left)].text
        question = messages[asked].text
        assert shown == question or ("are cut here" in shown and shown[:5] == question[:5])


@settings(max_examples=200, deadline=None)
@given(conversations(), st.integers(0, 12), LIMITS)
def test_a_second_pass_changes_nothing(messages: list[Message], count: int, limit: int) -> None:
    """Each rule, and all of them in turn: pairs and order stay, the newest results are whole, twice is as once."""
    for rule in (LastMessages(count), LongMessages(limit), ToolResults()):
        once = rule.compress(messages)
        assert rule.compress(once) == once
        assert paired(once)
        assert numbers(once) == sorted(numbers(once))
    every = InTurn(LastMessages(count), ToolResults(), LongMessages(limit), max_messages=count)
    once, _ = every.compress(messages)
    assert every.compress(once) == (once, [])
    assert len([message for message in once if not message.pinned]) <= count
    batches = [block for block in split(messages) if block.has_calls]
    if batches:
        shortened = ToolResults().compress(messages)
        assert joined(batches[-1:]) == [m for m in shortened if m in joined(batches[-1:])]


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=3000), st.integers(-5, 4000))
def test_a_cut_says_what_is_missing(text: str, limit: int) -> None:
    """Head and tail stay, and the characters between them are counted."""
    cut = cut_text(text, limit)
    assert len(cut) <= max(limit, SHORTEST_CHARS)
    assert cut_text(cut, limit) == cut
    if cut != text:
        head, notice, tail = cut.rpartition("\n[... ")[0], *cut.rpartition("\n[... ")[1:]
        missing, _, tail = tail.partition(" characters are cut here ...]\n")
        assert notice
        assert text.startswith(head)
        assert text.endswith(tail)
        assert int(missing) == len(text) - len(head) - len(tail)


@settings(max_examples=200, deadline=None)
@given(conversations(), st.integers(0, 50_000), st.integers(1000, 100_000))
def test_the_older_part_ends_between_blocks(messages: list[Message], keep: int, limit: int) -> None:
    """What is summed up and what is kept are all of it in order, and the request for the summary is bounded."""
    older, newer = divided(messages, keep)
    assert paired(joined(older))
    assert paired(joined(newer))
    assert sum(block.tokens for block in newer[1:]) <= keep
    asked = newest_question(messages)
    rest = [m for n, m in enumerate(messages) if n != asked and not m.pinned and m.role is not Speaker.SYSTEM]
    assert joined(older) + joined(newer) == rest
    limit = max(limit, SHORTEST_CHARS)
    pieces = chunks(joined(older), limit)
    assert all(len(piece) <= limit for piece in pieces)
    assert sum(piece.count("\n[") + 1 for piece in pieces) >= len(joined(older))
    for piece in pieces:
        assert len(request(None, piece, "question")[1].text) <= limit + 200
