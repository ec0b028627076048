"""What the model is shown in a run: the context and the turns so far, always within its window."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

from supervisor.contract.providers import Provider
from worker.agent.journal import INTERRUPTED_RESULT, Attempt, Journal
from worker.context import ContextBuilder
from worker.context.blocks import joined
from worker.context.compressor import TokenBudget, ToolResults
from worker.context.cutting import cut_text
from worker.context.summary import (
    INSTRUCTION,
    KEPT_TOKENS,
    LONGEST_CHARS,
    MESSAGE_CHARS,
    as_message,
    checked,
    chunks,
    divided,
    files_of,
    request,
)
from worker.context.tokens import Calibration, message_tokens, tool_tokens, total_tokens
from worker.context.window import LearnedWindow, Window
from worker.models.base import (
    CompletionResponse,
    Message,
    ModelError,
    ModelProvider,
    Speaker,
    ToolSpec,
    estimated_tokens,
)
from worker.store.history import History
from worker.store.runs import TurnRecord
from worker.store.summaries import Covered, Files, Summaries, Summary

SUMMARY_SECONDS: Final = 120.0
#: After a summary that came to nothing, none is asked for this long.
COOLDOWN_SECONDS: Final = 300.0
#: Of the window, the most that is kept word for word when the rest is summed up.
KEPT_SHARE: Final = 3
#: So many rows of the history are summed up at most, by so many requests; those before them can be recalled.
ROWS: Final = 500
PIECES: Final = 4
#: A summary must be worth its price: it stands for so many tokens at least, and for this part of the room.
LEAST_REPLACED: Final = 2000
LEAST_SHARE: Final = 4
#: One batch of results has a third of the room, when the conversation does not fit otherwise.
RESULTS_SHARE: Final = 3
#: Rows that are shown no more, and that no summary stands for, before they are summed up. As they take no room, their
#: summary need not be shorter than they are, up to so many tokens.
UNSHOWN_ROWS: Final = 8
SHORT_SUMMARY: Final = 1000

logger = logging.getLogger(__name__)


class Recall(Protocol):
    """Finds what of earlier times is of use."""

    async def look_up(self, chat_id: int, text: str) -> None:
        """Have what belongs to a message at hand, for the context that is built next in this chat."""


@dataclass
class Cooldown:
    """Whether a summary may be asked for. ``monotonic`` gives seconds."""

    monotonic: Callable[[], float]
    over_at: float = 0.0

    @property
    def over(self) -> bool:
        """Whether enough time has passed."""
        return self.monotonic() >= self.over_at

    def begin(self) -> None:
        """From now on for COOLDOWN_SECONDS."""
        self.over_at = self.monotonic() + COOLDOWN_SECONDS


@dataclass
class _Made:
    """What a compaction did."""

    before_tokens: int
    rules: list[str] = field(default_factory=list)
    response: CompletionResponse | None = None
    seconds: float = 0.0
    error: str = ""

    def bill(self, response: CompletionResponse) -> None:
        """A request for a summary was answered."""
        self.response = response if self.response is None else response.after(self.response)


class Conversations:
    """Opens conversations. ``window`` is the model's in tokens; ``tools`` gives the tools that it is offered."""

    def __init__(
        self,
        *,
        model: ModelProvider,
        context: ContextBuilder,
        history: History,
        summaries: Summaries,
        recall: Recall | None,
        journal: Journal,
        window: int,
        tools: Callable[[], Sequence[ToolSpec]],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.model = model
        self.context = context
        self.history = history
        self.summaries = summaries
        self.recall = recall
        self.journal = journal
        self.calibration = Calibration()
        self.learned = LearnedWindow(window)
        self.cooldown = Cooldown(monotonic)
        self.monotonic = monotonic
        self._tools = tools

    @property
    def window(self) -> Window:
        """What there is room for."""
        return Window(self.learned.tokens, taken=tool_tokens(self._tools()))

    def budget(self, chat_id: int) -> int:
        """The most that a chat's messages may have, in tokens as they are estimated."""
        budget = self.window.budget(self.calibration.factor(chat_id))
        ceiling = self.learned.ceiling(chat_id)
        return budget if ceiling is None else min(budget, ceiling)

    @property
    def can_summarise(self) -> bool:
        """Whether there is a model to ask for a summary, and none has failed just now. The stand-in is none."""
        return self.model.provider != Provider.DUMMY and self.cooldown.over

    async def open(self, attempt: Attempt) -> "Conversation":
        """The conversation of an attempt, with the context that its message needs."""
        if self.recall is not None:
            await self.recall.look_up(attempt.task.chat_id, attempt.task.text)
        return Conversation(self, attempt)


class Conversation:
    """One run's messages for the model. Older parts are replaced by what stands for them, when there is no room."""

    def __init__(self, home: Conversations, attempt: Attempt) -> None:
        self._home = home
        self._attempt = attempt
        self._chat_id = attempt.task.chat_id
        self._told: list[str] = []
        self._shown: Sequence[Message] = ()
        self._build()

    async def messages(self, turns: Sequence[TurnRecord]) -> Sequence[Message]:
        """Everything so far, made to fit. Raises Fenced."""
        await self._sum_up_unshown(turns)
        whole = self._whole(turns)
        if not self._fits(whole):
            whole = await self._compacted(whole, turns)
        self._shown = whole
        extra = sum(1 + len(turn.calls) for turn in turns)
        seen, context = self._attempt.seen, self._context
        seen.history_count, seen.compressed_count = context.original_count + extra, context.compressed_count + extra
        return whole

    async def after_overflow(self, turns: Sequence[TurnRecord]) -> Sequence[Message]:
        """The provider found that what it was given last does not fit: fewer."""
        shown = total_tokens(self._shown)
        estimated = shown + self._home.window.taken
        self._home.learned.refused(self._chat_id, estimated=estimated, messages=shown)
        return await self.messages(turns)

    def answered(self, response: CompletionResponse) -> None:
        """The provider has counted what it was given last."""
        home, estimated = self._home, total_tokens(self._shown) + self._home.window.taken
        if not response.estimated:
            home.calibration.counted(self._chat_id, estimated=estimated, counted=response.input_tokens)
        home.learned.answered(self._chat_id, estimated=estimated, factor=home.calibration.factor(self._chat_id))

    def _build(self) -> None:
        task = self._attempt.task
        self._context = self._home.context.build(
            task.chat_id, task.text, parent_id=self._attempt.event_id, brief=self._attempt.terms.brief
        )

    def _whole(self, turns: Sequence[TurnRecord]) -> list[Message]:
        return [*self._context.messages, *_spoken(self._uncovered(turns))]

    def _uncovered(self, turns: Sequence[TurnRecord]) -> Sequence[TurnRecord]:
        """The turns that no summary stands for."""
        summary = self._summary()
        if summary is None or summary.covered.run_id != self._attempt.run.id:
            return turns
        return [turn for turn in turns if turn.id > summary.covered.turn_id]

    def _summary(self) -> Summary | None:
        home = self._home
        return home.summaries.latest(self._chat_id, context_after=home.history.context_after(self._chat_id))

    @property
    def _budget(self) -> int:
        return self._home.budget(self._chat_id)

    def _fits(self, messages: Sequence[Message]) -> bool:
        return total_tokens(messages) <= self._budget

    async def _compacted(self, whole: list[Message], turns: Sequence[TurnRecord]) -> list[Message]:
        """Fewer or shorter messages: first by the cheapest rule, and by force when nothing else helps."""
        made = _Made(before_tokens=total_tokens(whole))
        for results in (ToolResults(), ToolResults(newest=self._budget * 4 // RESULTS_SHARE)):
            shorter = results.compress(whole)
            if not self._fits(shorter) and await self._summarise(shorter, turns, made):
                self._build()
                whole = self._whole(turns)
                shorter = results.compress(whole)
            if self._fits(shorter):
                break
        made.rules = [results.name] * (shorter != whole) + made.rules
        if not self._fits(shorter):
            budget = TokenBudget(self._budget)
            shorter = budget.compress(shorter)
            made.rules.append(budget.name)
        if made.rules != self._told or made.response is not None or made.error:
            self._told = list(made.rules)
            self._tell(made, shorter)
        return shorter

    def _tell(self, made: _Made, after: Sequence[Message]) -> None:
        payload: dict[str, object] = {
            "before_tokens": made.before_tokens,
            "after_tokens": total_tokens(after),
            "budget_tokens": self._budget,
            "rules": made.rules,
        }
        if made.response is not None or made.error:
            payload["latency_ms"] = round(made.seconds * 1000)
        if made.error:
            payload["summary_error"] = made.error
        self._home.journal.compacted(self._attempt, payload, made.response)

    async def _summarise(self, messages: Sequence[Message], turns: Sequence[TurnRecord], made: _Made) -> bool:
        """Put a summary in the place of the older part; False when none could be had, or it would not help."""
        former = self._summary()
        older, _ = divided(messages, min(KEPT_TOKENS, self._budget // KEPT_SHARE))
        if made.response is not None or not self._worth_it(messages, joined(older), former):
            return False
        uncovered = self._uncovered(turns)
        covered = self._covered(joined(older), [block.has_calls for block in older].count(True), uncovered, former)
        told = [message for message in joined(older) if not message.history_id]
        behind = former.covered.history_id if former else 0
        history = self._home.history.recent(self._chat_id, ROWS, after=behind, up_to=covered.history_id)
        files = files_of(_calls(uncovered, covered.turn_id))
        replaced = total_tokens(joined(older)) + _tokens(former)
        return await self._sum_up([*history, *told], covered, files, replaced, made)

    def _worth_it(self, messages: Sequence[Message], older: Sequence[Message], former: Summary | None) -> bool:
        """Whether enough is replaced by a summary, and whether the rest will fit beside it."""
        replaced, budget = total_tokens(older), self._budget
        rest = total_tokens(messages) - replaced - _tokens(former)
        longest = min(budget, LONGEST_CHARS) // 4
        return replaced >= max(LEAST_REPLACED, budget // LEAST_SHARE) and rest + longest <= budget

    async def _sum_up_unshown(self, turns: Sequence[TurnRecord]) -> None:
        """Put a summary in the place of what is shown no more, as there are only so many recent messages."""
        shown = [message.history_id for message in self._context.messages if message.history_id]
        former = self._summary()
        behind = former.covered.history_id if former else 0
        if not shown or not self._home.can_summarise:
            return
        unshown = self._home.history.recent(self._chat_id, ROWS, after=behind, up_to=min(shown) - 1)
        if len(unshown) < UNSHOWN_ROWS:
            return
        made = _Made(before_tokens=total_tokens(self._whole(turns)))
        replaced = max(total_tokens(unshown) + _tokens(former), SHORT_SUMMARY)
        covered = Covered(unshown[-1].history_id)
        if await self._sum_up(unshown, covered, Files(), replaced, made):
            self._build()
        if made.response is not None or made.error:
            self._tell(made, self._whole(turns))

    async def _sum_up(
        self, messages: Sequence[Message], covered: Covered, files: Files, replaced: int, made: _Made
    ) -> bool:
        """Sum messages up, in place of ``replaced`` tokens; False when that could not be had."""
        home, former = self._home, self._summary()
        if not home.can_summarise or home.journal.used_up(self._attempt, self._attempt.terms.limits):
            return False
        files = (former.files if former else Files()).joined(files)
        begun = home.monotonic()
        try:
            text = await self._merged(former, messages, made)
            summary = checked(text, replaced, longest=self._budget, files=files)
        except (ModelError, TimeoutError) as error:
            made.error = str(error) or f"it took longer than {SUMMARY_SECONDS:g} s"
            home.cooldown.begin()
            logger.warning("a conversation could not be summed up, and is cut instead: %s", made.error)
            return False
        finally:
            made.seconds = home.monotonic() - begun
        after = home.history.context_after(self._chat_id)
        home.summaries.add(self._chat_id, replace(summary, covered=covered), context_after=after)
        made.rules.append("summary")
        return True

    async def _merged(self, former: Summary | None, messages: Sequence[Message], made: _Made) -> str:
        """The text of a summary. What is too long for one request is summed up in pieces, each merged into the next."""
        pieces = chunks(messages, self._room)
        if len(pieces) > PIECES:  # what was said first is the goal
            pieces = [pieces[0], *pieces[1 - PIECES :]]
        text = ""
        for piece in pieces:
            response = await self._ask(request(former, piece, self._attempt.task.text))
            made.bill(response)
            text = response.text
            if not text.strip():
                break
            former = Summary(cut_text(text, min(self._budget, LONGEST_CHARS)))
        return text

    @property
    def _room(self) -> int:
        """How many characters of a conversation fit into a request for its summary, beside the former one."""
        beside = estimated_tokens(INSTRUCTION) + (min(self._budget, LONGEST_CHARS) + MESSAGE_CHARS) // 4
        return max((self._budget - beside) * 4, MESSAGE_CHARS)

    async def _ask(self, messages: Sequence[Message]) -> CompletionResponse:
        async with asyncio.timeout(SUMMARY_SECONDS):
            return await self._home.model.complete(messages)

    def _covered(
        self, older: Sequence[Message], batches: int, uncovered: Sequence[TurnRecord], former: Summary | None
    ) -> Covered:
        """What the blocks of the older part are: rows of the history, and turns after those."""
        rows = [message.history_id for message in older if message.history_id]
        history_id = max(rows, default=former.covered.history_id if former else 0)
        if not batches:
            return Covered(history_id)
        # Turns come after all of the history that is shown.
        shown = [message.history_id for message in self._context.messages]
        history_id = max([history_id, *shown])
        return Covered(history_id, self._attempt.run.id, uncovered[batches - 1].id)


def _tokens(summary: Summary | None) -> int:
    return message_tokens(as_message(summary)) if summary else 0


def _calls(turns: Sequence[TurnRecord], up_to: int) -> Iterator[Message]:
    return _spoken([turn for turn in turns if turn.id <= up_to])


def _spoken(turns: Sequence[TurnRecord]) -> Iterator[Message]:
    """What was said in the turns so far, as the model is shown it."""
    for turn in turns:
        calls = tuple(record.call for record in turn.calls)
        yield Message(Speaker.ASSISTANT, turn.text, tool_calls=calls)
        for record in turn.calls:
            yield Message(Speaker.TOOL, record.result or INTERRUPTED_RESULT, tool_call_id=record.call.id)
