"""Whatever was said, called, recalled, summed up, counted or refused: what the model is shown fits and is in order."""

import asyncio
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor.contract import Redactor
from tests.load.test_context_properties import FILLINGS, numbers, paired
from worker.agent.conversation import Conversation, Conversations
from worker.agent.journal import Attempt, Journal
from worker.agent.memory import Memory
from worker.commander.base import Incoming, UpdateKind
from worker.context import ContextBuilder, InTurn, LastMessages, LongMessages, PlainAssembler
from worker.context.compressor import MESSAGE_SHARE, SMALLEST_BUDGET
from worker.context.tokens import total_tokens
from worker.models.base import CompletionResponse, Message, OnText, ProviderApiError, Speaker, ToolCall, ToolSpec
from worker.settings import SMALLEST_WINDOW
from worker.store import InboxStatus, Store
from worker.store.runs import TurnRecord
from worker.tools.base import ToolResult

CHAT: Final = 7
SHOWN: Final = 6
TOOLS: Final = (ToolSpec("tool", "Does something. " * 500, {"type": "object"}),)


@dataclass(frozen=True)
class Said:
    """Something in the history, from before the message in hand."""

    filling: str
    length: int


@dataclass(frozen=True)
class Turn:
    """The model calls tools, and its provider counts ``factor`` tokens for each that is estimated."""

    filling: str
    results: tuple[int, ...]
    factor: float


@dataclass(frozen=True)
class Refused:
    """The provider says that it was too much."""


LENGTHS: Final = st.one_of(st.integers(0, 400), st.integers(0, 60_000))
PAST: Final = st.lists(st.builds(Said, FILLINGS, LENGTHS), max_size=25)
STEPS: Final = st.lists(
    st.one_of(
        st.builds(Turn, FILLINGS, st.lists(LENGTHS, min_size=1, max_size=3).map(tuple), st.floats(0.5, 9)),
        st.just(Refused()),
    ),
    max_size=12,
)


class Summariser:
    """Sums up with each of ``texts`` in turn; None is a failure."""

    provider = "a provider"
    model_name = "m"

    def __init__(self, texts: Sequence[str | None]) -> None:
        self._texts = list(texts)
        self.asked = 0

    async def complete(
        self, messages: Sequence[Message], tools: Sequence[ToolSpec] = (), on_text: OnText | None = None
    ) -> CompletionResponse:
        self.asked += 1
        text = self._texts.pop(0) if self._texts else "## Goal\nGo on."
        if text is None:
            raise ProviderApiError("down")
        return CompletionResponse(text, total_tokens(messages), 10)

    async def close(self) -> None:
        """Nothing to free."""


def opened(store: Store, window: int, texts: Sequence[str | None]) -> tuple[Conversations, Journal]:
    """Put together as the worker does."""
    memory = Memory(store, shown=SHOWN, vectors=None, embedder=None)
    longest = LongMessages(int(window * 4 * MESSAGE_SHARE))
    context = ContextBuilder(
        system_prompt="#0# Be brief.",
        provider=memory.provider,
        compressor=InTurn(LastMessages(SHOWN), longest, max_messages=SHOWN),
        assembler=PlainAssembler(),
        events=store.events,
        why=memory.provider.why,
    )
    journal = Journal(
        store, redact=Redactor(), process_event=0, model_name="m", price=lambda _: None, monotonic=time.monotonic
    )
    model = Summariser(texts)
    conversations = Conversations(
        model=model,
        context=context,
        history=store.history,
        summaries=store.summaries,
        recall=memory.recaller,
        journal=journal,
        window=window,
        tools=lambda: TOOLS,
    )
    return conversations, journal


def remembered(store: Store, past: Sequence[Said]) -> int:
    """The past in the history and its index; gives the next number."""
    for number, said in enumerate(past, start=1):
        speaker = Speaker.USER if number % 2 else Speaker.ASSISTANT
        store.history.add(CHAT, Message(speaker, f"#{number}# the anchor {said.filling * said.length}"))
    while store.words.catch_up(100):
        pass
    return len(past) + 1


def asked(store: Store, journal: Journal, text: str) -> Attempt:
    """An attempt on a message."""
    update = Incoming(1, UpdateKind.MESSAGE, CHAT, CHAT, True, text, None)
    store.inbox.add("test", update, kind="message", text=text, status=InboxStatus.QUEUED)
    task = store.inbox.claim(CHAT)
    assert task is not None
    return journal.begin(task)


def turn(journal: Journal, attempt: Attempt, conversation: Conversation, step: Turn, number: int, size: int) -> int:
    """The model answers with calls, which get their results; gives the next number."""
    calls = tuple(ToolCall(f"c{number}-{place}", "tool", {}) for place, _ in enumerate(step.results))
    response = CompletionResponse(f"#{number}# next", int(size * step.factor), 10, calls)
    conversation.answered(response)
    event = journal.turn_started(attempt, number)
    journal.turn_completed(attempt, event, number, response, kept=True)
    for record, length in zip(journal.turns(attempt)[-1].calls, step.results, strict=True):
        result = ToolResult(ok=True, stdout=step.filling * length)
        journal.call_ended(attempt, record, journal.call_started(record, event), result, latency=0.0)
    return number + 1


@settings(max_examples=40, deadline=None)
@given(
    PAST,
    STEPS,
    st.sampled_from([SMALLEST_WINDOW, 32_768, 128_000]),
    LENGTHS,
    st.lists(st.sampled_from([None, "", "## Goal\nAll of it.", "x" * 30_000]), max_size=3),
)
def test_what_the_model_is_shown_fits(
    past: list[Said], steps: list[Turn | Refused], window: int, question: int, texts: list[str | None]
) -> None:
    """Within what there is room for, results with their calls, oldest first, the question whole or cut with notice.

    A second pass changes nothing, nor does another worker that goes on with the same turns.
    """

    async def play(store: Store) -> None:
        conversations, journal = opened(store, window, texts)
        number = remembered(store, past)
        text = f"#{number}# where is the anchor? {'?' * question}"
        attempt = asked(store, journal, text)
        conversation = await conversations.open(attempt)
        number += 1
        await shown(conversation, [])
        for step in steps:
            turns = journal.turns(attempt)
            if isinstance(step, Refused):
                before = total_tokens(await conversation.messages(turns))
                after = total_tokens(await shown(conversation, turns, refused=True))
                assert after <= max(before // 2, SMALLEST_BUDGET)
            else:
                size = total_tokens(await shown(conversation, turns)) + conversations.window.taken
                number = turn(journal, attempt, conversation, step, number, size)
        last = await shown(conversation, journal.turns(attempt))
        again = await conversations.open(attempt)
        assert await again.messages(journal.turns(attempt)) == last

    with tempfile.TemporaryDirectory() as directory:
        made = Store(Path(directory, "agent.db"), clock=time.time, sha="", redact=Redactor())
        with closing(made) as store:
            store.lease.take(1)
            asyncio.run(play(store))


async def shown(conversation: Conversation, turns: Sequence[TurnRecord], *, refused: bool = False) -> Sequence[Message]:
    """What the model is given now, looked at."""
    messages = await (conversation.after_overflow(turns) if refused else conversation.messages(turns))
    text = conversation._attempt.task.text
    assert total_tokens(messages) <= max(conversation._budget, SMALLEST_BUDGET)
    assert paired(messages)
    assert numbers(messages) == sorted(numbers(messages))
    found = [message.text for message in messages if message.text[:5] == text[:5]]
    assert found
    assert found[0] == text or "are cut here" in found[0]
    model = conversation._home.model
    assert isinstance(model, Summariser)
    asked = model.asked
    assert await conversation.messages(turns) == messages, "a second pass changes nothing"
    assert model.asked == asked, "nor is another summary paid for"
    return messages
