"""The journal: what a run does is written down as it happens, each fact in one transaction with its event.

An attempt that never ended, because its worker was killed, is closed when its message is claimed again. So every
``agent.started``, ``turn.started`` and ``tool_call.started`` gets its end, in whichever path.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from supervisor.contract import EventType, Redactor
from worker.agent import notices
from worker.agent.terms import Terms
from worker.control.limits import LimitReached, Limits, Spent, day_start
from worker.control.progress import Progress
from worker.models.base import CompletionResponse
from worker.store import Store, Task
from worker.store.runs import CallRecord, CallStatus, RunRecord, TurnRecord
from worker.text import sound
from worker.tools import wire
from worker.tools.base import ErrorClass, ToolError, ToolResult

#: Arguments that are longer, as JSON, stand in events only as their beginning; in characters.
LONGEST_ARGUMENTS: Final = 2000
#: Of an error that is longer, in characters, events keep the end.
LONGEST_ERROR: Final = 500
INTERRUPTED: Final = "interrupted"
INTERRUPTED_RESULT: Final = (
    "The worker was stopped while this call was under way. Nobody knows what came of it, "
    "and it was not made again: look before you repeat it."
)


def result_text(result: ToolResult) -> str:
    """What the model is given of a result."""
    return sound(json.dumps(wire.plain(result), ensure_ascii=False))


@dataclass
class Seen:
    """What an attempt found out that its fingerprint is made of."""

    history_count: int = 0
    compressed_count: int = 0
    reply_hash: str = ""


@dataclass
class Attempt:
    """One attempt on a task, under its ``agent.started`` event. Times are seconds of the monotonic clock."""

    task: Task
    event_id: int
    run: RunRecord
    begun_at: float
    turn_begun_at: float = 0.0
    seen: Seen = field(default_factory=Seen)
    terms: Terms = field(default_factory=Terms)


class Journal:
    """Writes down the attempts of all tasks. ``monotonic`` gives seconds, ``price`` what an answer cost."""

    def __init__(
        self,
        store: Store,
        *,
        redact: Redactor,
        process_event: int,
        model_name: str,
        price: Callable[[CompletionResponse], float | None],
        monotonic: Callable[[], float],
    ) -> None:
        self._store = store
        self._redact = redact
        self._process_event = process_event
        self._model_name = model_name
        self._price = price
        self._monotonic = monotonic

    def begin(self, task: Task) -> Attempt:
        """An attempt begins; one that was cut before it is closed."""
        with self._store.write():
            run = self._store.runs.open(task.id, task.chat_id)
            if run.event_id is not None:
                self._fail(run.id, task, INTERRUPTED, "the worker ended in the middle of the run")
            payload = {**_about(task), "update_id": task.update_id, "attempt": task.attempts, "text": task.text}
            event_id = self._store.events.append(EventType.AGENT_STARTED, payload, parent_id=self._process_event)
            self._store.runs.attempt_begun(run.id, event_id)
        return Attempt(task, event_id, run, begun_at=self._monotonic())

    def turns(self, attempt: Attempt) -> list[TurnRecord]:
        """What the run has so far."""
        return self._store.runs.turns(attempt.run.id)

    def seconds(self, attempt: Attempt) -> float:
        """How long the run has taken so far, earlier attempts included."""
        return attempt.run.seconds + self._monotonic() - attempt.begun_at

    def spent(self, attempt: Attempt, *, turns: int, tokens_today: int) -> Spent:
        """What the run has used."""
        return Spent(turns, self.seconds(attempt), self.tokens(attempt), tokens_today)

    def tokens(self, attempt: Attempt) -> int:
        """What the run cost so far, in tokens both ways."""
        return sum(self._store.runs.tokens(attempt.run.id))

    def tokens_since(self, moment: float) -> int:
        """What all runs cost since a moment, in seconds since the Unix epoch."""
        return self._store.runs.tokens_since(moment)

    def turn_started(self, attempt: Attempt, number: int) -> int:
        """The model is asked; gives the event's id."""
        payload = {"turn": number, "model_name": self._model_name}
        with self._store.write():
            event_id = self._store.events.append(EventType.TURN_STARTED, payload, parent_id=attempt.event_id)
            self._store.runs.turn_begun(attempt.run.id, event_id)
        attempt.turn_begun_at = self._monotonic()
        return event_id

    def turn_completed(
        self, attempt: Attempt, event_id: int, number: int, response: CompletionResponse, *, kept: bool
    ) -> None:
        """The model answered. What is not ``kept`` counts, and is no answer."""
        payload = {
            **_about(attempt.task),
            "turn": number,
            "model_name": response.spoken_by.partition(":")[2] or self._model_name,
            "latency_ms": self._latency_ms(attempt),
            **_cost(response, self._price(response)),
            "tool_calls": len(response.tool_calls),
        }
        with self._store.write():
            self._store.runs.turn_ended(attempt.run.id, event_id, response, kept=kept, seconds=self.seconds(attempt))
            self._store.events.append(EventType.TURN_COMPLETED, payload, parent_id=event_id)

    def call_started(self, record: CallRecord, turn_event: int) -> int:
        """A tool is about to be called; gives the event's id."""
        call = record.call
        arguments = json.dumps(call.arguments, ensure_ascii=False)
        short = len(arguments) <= LONGEST_ARGUMENTS
        payload = {
            "tool_call_id": call.id,
            "tool_name": call.name,
            "arguments": call.arguments if short else self._redact(arguments)[:LONGEST_ARGUMENTS] + "…",
        }
        # On the disk before anything happens: not even after a power cut may it look as if the call was never made.
        with self._store.write(durable=True):
            event_id = self._store.events.append(EventType.TOOL_CALL_STARTED, payload, parent_id=turn_event)
            self._store.runs.call_begun(record.id, event_id)
        return event_id

    def call_ended(
        self, attempt: Attempt, record: CallRecord, event_id: int, result: ToolResult, *, latency: float
    ) -> None:
        """The call came to its result after ``latency`` seconds; the model is told, whichever it is."""
        text = result_text(result)
        payload: dict[str, object] = {
            "tool_call_id": record.call.id,
            "tool_name": record.call.name,
            "latency_ms": round(latency * 1000),
            "exit_code": result.exit_code,
            "truncated_lines": result.truncated_lines,
            "truncated_bytes": result.truncated_bytes,
            "result_chars": len(text),
        }
        if result.ok:
            status, event_type = CallStatus.DONE, EventType.TOOL_CALL_COMPLETED
        else:
            status, event_type = CallStatus.FAILED, EventType.TOOL_CALL_FAILED
            payload["error_class"] = result.error_class
            payload["code"] = result.meta.get("code", "")
            payload["error"] = self._redact(result.stderr)[-LONGEST_ERROR:]
        run_id, seconds = attempt.run.id, self.seconds(attempt)
        with self._store.write():
            self._store.runs.call_ended(record.id, status, text, run_id=run_id, seconds=seconds)
            self._store.events.append(event_type, payload, parent_id=event_id)

    def limit_reached(self, attempt: Attempt, limit: LimitReached, **more: object) -> None:
        """Something is used up, or near it."""
        payload = {
            **_about(attempt.task),
            "limit_type": limit.limit_type,
            "value": round(limit.value, 3),
            "threshold": limit.threshold,
            **more,
        }
        self._store.events.append(EventType.CONTROL_LIMIT_REACHED, payload, parent_id=attempt.event_id)

    def budget_warned(self, attempt: Attempt, near: LimitReached, budget: int) -> None:
        """The day's budget of tokens is nearly used up: the chat is told, once."""
        with self._store.write():
            self.limit_reached(attempt, near, warning=True, budget=budget)
            text = notices.budget_warning(near, budget)
            self._store.outbox.add(attempt.task.chat_id, text, event_id=attempt.event_id)

    def compacted(self, attempt: Attempt, made: Mapping[str, object], summary: CompletionResponse | None) -> None:
        """The conversation was made shorter; what a summary cost is the run's."""
        payload = {**_about(attempt.task), **made, **(_cost(summary, self._price(summary)) if summary else {})}
        with self._store.write():
            event_id = self._store.events.append(EventType.CONTEXT_COMPACTED, payload, parent_id=attempt.event_id)
            if summary is not None:
                self._store.runs.billed(attempt.run.id, event_id, summary)

    def used_up(self, attempt: Attempt, limits: Limits) -> bool:
        """Whether the run, or its day, may cost no more."""
        day = limits.budget_tokens_per_day
        today = 0 if day is None else self.tokens_since(day_start(self._store.now()))
        return limits.reached(self.spent(attempt, turns=0, tokens_today=today)) is not None

    def completed(self, attempt: Attempt) -> None:
        """The run came to its answer."""
        turns = self.turns(attempt)
        payload = {
            **_about(attempt.task),
            "turns": len(turns),
            "tool_calls": sum(len(turn.calls) for turn in turns),
            **self._cost_of_run(attempt.run.id),
        }
        with self._store.write():
            self._end_attempt(attempt, Progress(), closed=True)
            self._store.events.append(EventType.AGENT_COMPLETED, payload, parent_id=attempt.event_id)

    def failed(
        self, attempt: Attempt, error_class: str, error: str, *, closed: bool, progress: Progress | None = None
    ) -> None:
        """The attempt came to nothing; a ``closed`` run is never gone on with."""
        latency_ms = self._latency_ms(attempt)
        with self._store.write():
            self._fail(attempt.run.id, attempt.task, error_class, error, latency_ms=latency_ms)
            self._end_attempt(attempt, progress or attempt.run.progress, closed=closed)

    def _fail(self, run_id: int, task: Task, error_class: str, error: str, *, latency_ms: int | None = None) -> None:
        """Give an end to everything that began in the run and has none."""
        runs, events = self._store.runs, self._store.events
        run = runs.get(run_id)
        failed = {"error_class": error_class, "error": error}
        if run.turn_event_id is not None:
            tokens = {"latency_ms": latency_ms, "input_tokens": 0, "output_tokens": 0}
            ended = {"model_name": self._model_name, **tokens, **failed}
            events.append(EventType.TURN_COMPLETED, ended, parent_id=run.turn_event_id)
        for record in runs.begun_calls(run_id):
            text = result_text(ToolError(INTERRUPTED, INTERRUPTED_RESULT, ErrorClass.UNKNOWN).result())
            runs.call_ended(record.id, CallStatus.INTERRUPTED, text, run_id=run_id, seconds=run.seconds)
            call = record.call
            cut = {"tool_call_id": call.id, "tool_name": call.name, "error_class": ErrorClass.UNKNOWN}
            cut |= {"code": error_class, "error": error}
            events.append(EventType.TOOL_CALL_FAILED, cut, parent_id=record.event_id)
        payload = {**_about(task), "attempts": task.attempts, **failed, **self._cost_of_run(run_id)}
        events.append(EventType.AGENT_FAILED, payload, parent_id=run.event_id)

    def _cost_of_run(self, run_id: int) -> dict[str, object]:
        """Tokens of all attempts; dollars where the price of each answer is known."""
        used_in, used_out = self._store.runs.tokens(run_id)
        cost = self._store.costs.of_run(run_id)
        dollars = {"cost_usd": round(cost.dollars, 6)} if cost.calls and not cost.unpriced else {}
        return {"input_tokens": used_in, "output_tokens": used_out, **dollars}

    def _latency_ms(self, attempt: Attempt) -> int:
        return round((self._monotonic() - attempt.turn_begun_at) * 1000)

    def _end_attempt(self, attempt: Attempt, progress: Progress, *, closed: bool) -> None:
        seconds = self.seconds(attempt)
        self._store.runs.attempt_ended(attempt.run.id, seconds=seconds, progress=progress, closed=closed)


def _about(task: Task) -> dict[str, object]:
    return {"chat_id": task.chat_id, "task_id": task.id}


def _cost(response: CompletionResponse, dollars: float | None) -> dict[str, object]:
    """What an answer cost. Without a price there is no ``cost_usd``, which is not the same as 0."""
    cost: dict[str, object] = {
        "input_tokens": response.input_tokens,
        "output_tokens": response.output_tokens,
        "cached_tokens": response.cached_tokens,
    }
    if dollars is not None:
        cost["cost_usd"] = round(dollars, 6)
    if response.spoken_by:
        cost["spoken_by"] = response.spoken_by
    if response.estimated:
        cost["estimated"] = True
    return cost
