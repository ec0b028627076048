"""One run: from a claimed message to the model's answer, over as many turns as its tools take."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Final

from worker.agent.conversation import Conversation, Conversations
from worker.agent.journal import Attempt, Journal
from worker.agent.observer import RunObserver
from worker.agent.scope import CallScope
from worker.agent.terms import SetTerms, Terms
from worker.agent.toolset import Toolset
from worker.control.limits import LimitReached, LimitType, Spent, day_start
from worker.control.progress import same_calls, short_hash
from worker.models.base import CompletionResponse, ContextOverflow, ModelProvider, ToolCall, ValidationError
from worker.store.runs import CallRecord, CallStatus, TurnRecord
from worker.text import sound
from worker.tools.base import ErrorClass, ToolError, ToolResult

#: Nothing was begun, so the call can be made.
NOT_BEGUN: Final = CallStatus.ASKED


class LimitHit(Exception):
    """The run ends here: something is used up."""

    def __init__(self, limit: LimitReached) -> None:
        super().__init__(f"{limit.limit_type} reached: {limit.value:g} of {limit.threshold:g}")
        self.limit = limit


class Stalled(Exception):
    """The run ends here: the model asks for the same again and again."""

    def __init__(self, k: int, calls: Sequence[CallRecord]) -> None:
        names = ", ".join(record.call.name for record in calls)
        super().__init__(f"the model made the same tool call {k} times in a row: {names}")
        self.k = k
        self.state = short_hash(repr([(record.call.name, record.call.arguments) for record in calls]))


class AgentLoop:
    """Asks the model, runs the tools that it asks for, and asks again, until it answers.

    ``clock`` gives seconds since the Unix epoch, ``monotonic`` seconds; ``progressed`` is called at every step.
    """

    def __init__(
        self,
        *,
        model: ModelProvider,
        conversations: Conversations,
        toolset: Toolset,
        journal: Journal,
        terms: SetTerms,
        no_progress_k: int,
        progressed: Callable[[], None],
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._model = model
        self._conversations = conversations
        self._toolset = toolset
        self._journal = journal
        self._set_terms = terms
        self._k = no_progress_k
        self._progressed = progressed
        self._clock = clock
        self._monotonic = monotonic

    async def run(self, attempt: Attempt, observer: RunObserver) -> CompletionResponse:
        """The answer to the attempt's message. Raises ModelError, ToolError, LimitHit, Stalled."""
        limits = self._set_terms.limits(attempt.task)
        left = limits.max_wall_time_seconds - self._journal.seconds(attempt)
        try:
            async with asyncio.timeout(left) as deadline:
                attempt.terms = Terms(limits, await self._set_terms.brief(attempt.task))
                return await self._until_answered(attempt, observer)
        except TimeoutError:
            if not deadline.expired():
                raise
            value, threshold = self._journal.seconds(attempt), limits.max_wall_time_seconds
            limit = LimitReached(LimitType.MAX_WALL_TIME_SECONDS, max(value, threshold), threshold)
            self._tell(attempt, limit, observer)
            raise LimitHit(limit) from None

    async def _until_answered(self, attempt: Attempt, observer: RunObserver) -> CompletionResponse:
        turns = self._journal.turns(attempt)
        if turns and not turns[-1].calls:  # the worker ended between the answer and its place in the outbox
            return CompletionResponse(turns[-1].text, 0, 0, spoken_by=turns[-1].spoken_by)
        conversation = await self._conversations.open(attempt)
        while True:
            if turns:
                await self._work_off(attempt, turns, observer)
                turns = self._journal.turns(attempt)
            response = await self._turn(attempt, conversation, turns, observer)
            if not response.tool_calls:
                return response
            turns = self._journal.turns(attempt)

    async def _turn(
        self, attempt: Attempt, conversation: Conversation, turns: Sequence[TurnRecord], observer: RunObserver
    ) -> CompletionResponse:
        """Ask the model once."""
        number = len(turns) + 1
        messages = await conversation.messages(turns)
        spent = self._within_limits(attempt, number, observer)
        event_id = self._journal.turn_started(attempt, number)
        self._progressed()

        def on_text(text: str) -> None:
            self._progressed()
            observer.text_delta(text)

        try:
            response = await self._model.complete(messages, self._toolset.specs(), on_text)
        except ContextOverflow:
            messages = await conversation.after_overflow(turns)
            spent = self._within_limits(attempt, number, observer)  # a summary may have cost what was left
            response = await self._model.complete(messages, self._toolset.specs(), on_text)
        response = replace(response, text=sound(response.text))
        conversation.answered(response)
        answered = bool(response.tool_calls or response.text.strip())
        self._journal.turn_completed(attempt, event_id, number, response, kept=answered)
        self._progressed()
        attempt.seen.reply_hash = short_hash(response.text)
        self._watch_budget(attempt, response)
        if not answered:
            raise ValidationError("the model's answer is empty")
        after = replace(spent, tokens=spent.tokens + response.tokens)
        if not response.tool_calls and (over := attempt.terms.limits.overrun(after)) is not None:
            self._journal.limit_reached(attempt, over)
        return response

    def _within_limits(self, attempt: Attempt, number: int, observer: RunObserver) -> Spent:
        """What the run has used before its turn of this ``number``. Raises LimitHit."""
        limits = attempt.terms.limits
        budgeted = limits.budget_tokens_per_day is not None
        today = self._journal.tokens_since(day_start(self._clock())) if budgeted else 0
        spent = self._journal.spent(attempt, turns=number - 1, tokens_today=today)
        if (limit := limits.reached(spent)) is not None:
            self._tell(attempt, limit, observer)
            raise LimitHit(limit)
        return spent

    def _watch_budget(self, attempt: Attempt, response: CompletionResponse) -> None:
        """Warn when just this answer brought the day's tokens, which other runs add to as well, near the budget."""
        limits = attempt.terms.limits
        if limits.budget_tokens_per_day is None:
            return
        today = self._journal.tokens_since(day_start(self._clock()))
        near = limits.warning(today - response.tokens, today)
        if near is not None:
            self._journal.budget_warned(attempt, near, limits.budget_tokens_per_day)

    async def _work_off(self, attempt: Attempt, turns: Sequence[TurnRecord], observer: RunObserver) -> None:
        """Run the calls of the last turn that have not been made, in order."""
        calls = turns[-1].calls
        if all(record.status is NOT_BEGUN for record in calls):
            made = [[record.call for record in turn.calls] for turn in turns]
            if same_calls(made, self._k):
                raise Stalled(max(self._k, 2), calls)
        for record in calls:
            if record.status is NOT_BEGUN:
                await self._call(attempt, record, turns[-1].event_id, observer)

    async def _call(self, attempt: Attempt, record: CallRecord, turn_event: int, observer: RunObserver) -> None:
        call = record.call
        event_id = self._journal.call_started(record, turn_event)
        observer.tool_started(call.name, call.arguments)
        self._progressed()
        begun = self._monotonic()
        output = partial(observer.tool_output, call.name)
        scope = CallScope(attempt.task.chat_id, call.id, event_id, on_output=output)
        result = await self._result_of(call, attempt, scope)
        self._journal.call_ended(attempt, record, event_id, result, latency=self._monotonic() - begun)
        observer.tool_finished(call.name, result.ok)
        self._progressed()

    async def _result_of(self, call: ToolCall, attempt: Attempt, scope: CallScope) -> ToolResult:
        """The result of a tool call; that there is none is one, too."""
        if call.problem:
            return ToolError("bad_arguments", call.problem, ErrorClass.VALIDATION).result()
        try:
            return await self._toolset.call(call.name, call.arguments, attempt, scope)
        except ToolError as error:
            return error.result()

    def _tell(self, attempt: Attempt, limit: LimitReached, observer: RunObserver) -> None:
        self._journal.limit_reached(attempt, limit)
        observer.limit_reached(limit.limit_type, limit.value, limit.threshold)
