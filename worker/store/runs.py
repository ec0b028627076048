"""The work on each message, as it happens: what the model said, which tools were called, what came of it.

So a run that was cut goes on from here, in whichever worker claims its message next.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from peewee import fn

from worker.control.progress import Progress
from worker.models.base import CompletionResponse, ToolCall
from worker.store.database import Database
from worker.store.tables import RunRow, ToolCallRow, TurnRow


class RunStatus(StrEnum):
    """Whether a run can go on."""

    OPEN = "open"
    CLOSED = "closed"


class CallStatus(StrEnum):
    """How far a tool call got."""

    ASKED = "asked"
    BEGUN = "begun"
    DONE = "done"
    FAILED = "failed"
    INTERRUPTED = "interrupted"  # begun, and nobody knows what came of it


@dataclass(frozen=True, slots=True)
class CallRecord:
    """One tool call of a turn. ``result`` is the JSON that the model is given."""

    id: int
    call: ToolCall
    status: CallStatus
    event_id: int | None
    result: str


@dataclass(frozen=True, slots=True)
class TurnRecord:
    """One turn that was kept, with its calls in order. ``spoken_by`` is empty for the model that is asked first."""

    id: int
    event_id: int
    text: str
    calls: tuple[CallRecord, ...]
    spoken_by: str = ""


@dataclass(frozen=True, slots=True)
class RunRecord:
    """A run as the database has it. ``seconds`` is how long its earlier attempts took.

    The two event ids are of an attempt, and of a turn, that began and have no end.
    """

    id: int
    event_id: int | None
    turn_event_id: int | None
    seconds: float
    progress: Progress


class RunLog:
    """All runs. ``clock`` gives seconds since the Unix epoch."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    def open(self, inbox_id: int, chat_id: int) -> RunRecord:
        """The message's run that can go on, or a new one."""
        with self._database.write():
            mine = (RunRow.inbox_id == inbox_id) & (RunRow.status == RunStatus.OPEN)
            row = RunRow.select().where(mine).order_by(RunRow.id.desc()).first()
            if row is None:
                now = self._clock()
                values = {"inbox_id": inbox_id, "chat_id": chat_id, "status": RunStatus.OPEN}
                row = RunRow.create(**values, created_at=now, updated_at=now)
            return _run_record(row)

    def get(self, run_id: int) -> RunRecord:
        """A run as it is now."""
        self._database.bind()
        return _run_record(RunRow.get_by_id(run_id))

    def attempt_begun(self, run_id: int, event_id: int) -> None:
        """An attempt began; no turn of an earlier one is open any more."""
        self._set(run_id, event_id=event_id, turn_event_id=None)

    def attempt_ended(self, run_id: int, *, seconds: float, progress: Progress, closed: bool) -> None:
        """The attempt, and every turn in it, has ended; a closed run is never gone on with."""
        status = RunStatus.CLOSED if closed else RunStatus.OPEN
        ended: dict[str, object] = {"event_id": None, "turn_event_id": None, "status": status}
        self._set(run_id, **ended, seconds=seconds, fingerprint=progress.fingerprint, repeats=progress.repeats)

    def turn_begun(self, run_id: int, event_id: int) -> None:
        """The model was asked."""
        self._set(run_id, turn_event_id=event_id)

    def turn_ended(
        self, run_id: int, event_id: int, response: CompletionResponse | None, *, kept: bool, seconds: float
    ) -> None:
        """The model answered, or failed without an answer. ``seconds`` is how long the run has taken so far."""
        with self._database.write():
            self._set(run_id, turn_event_id=None, seconds=seconds)
            if response is None:
                return
            turn_id = self._add_turn(run_id, event_id, response, kept=kept)
            for call in response.tool_calls if kept else ():
                ToolCallRow.insert(
                    run_id=run_id,
                    turn_id=turn_id,
                    call_id=call.id,
                    name=call.name,
                    arguments=json.dumps(call.arguments),
                    problem=call.problem,
                    status=CallStatus.ASKED,
                    updated_at=self._clock(),
                ).execute()

    def billed(self, run_id: int, event_id: int, response: CompletionResponse) -> None:
        """The run cost this beside its turns."""
        self._add_turn(run_id, event_id, response, kept=False)

    def _add_turn(self, run_id: int, event_id: int, response: CompletionResponse, *, kept: bool) -> int:
        with self._database.write():
            return int(
                TurnRow.insert(
                    run_id=run_id,
                    event_id=event_id,
                    kept=kept,
                    text=response.text,
                    spoken_by=response.spoken_by,
                    input_tokens=response.input_tokens,
                    output_tokens=response.output_tokens,
                    created_at=self._clock(),
                ).execute()
            )

    def call_begun(self, record_id: int, event_id: int) -> None:
        """A tool is about to be called."""
        self._set_call(record_id, status=CallStatus.BEGUN, event_id=event_id)

    def call_ended(self, record_id: int, status: CallStatus, result: str, *, run_id: int, seconds: float) -> None:
        """The call has a result, or it is known that it will never have one."""
        with self._database.write():
            self._set_call(record_id, status=status, result=result)
            self._set(run_id, seconds=seconds)

    def turns(self, run_id: int) -> list[TurnRecord]:
        """The turns that were kept, oldest first."""
        self._database.bind()
        rows = list(TurnRow.select().where(TurnRow.run_id == run_id, TurnRow.kept).order_by(TurnRow.id))
        if not rows:
            return []
        calls: dict[int, list[CallRecord]] = {}
        for row in ToolCallRow.select().where(ToolCallRow.run_id == run_id).order_by(ToolCallRow.id):
            calls.setdefault(row.turn_id, []).append(_call_record(row))
        return [TurnRecord(row.id, row.event_id, row.text, tuple(calls.get(row.id, ())), row.spoken_by) for row in rows]

    def begun_calls(self, run_id: int) -> Sequence[CallRecord]:
        """Calls that began and have no result."""
        self._database.bind()
        begun = (ToolCallRow.run_id == run_id) & (ToolCallRow.status == CallStatus.BEGUN)
        return [_call_record(row) for row in ToolCallRow.select().where(begun).order_by(ToolCallRow.id)]

    def tokens(self, run_id: int) -> tuple[int, int]:
        """What a run cost so far: tokens into the model, and out of it; answers that were not kept cost, too."""
        return self._tokens(TurnRow.run_id == run_id)

    def tokens_since(self, moment: float) -> int:
        """What all runs cost since a moment, in tokens both ways."""
        return sum(self._tokens(TurnRow.created_at >= moment))

    def _tokens(self, which: object) -> tuple[int, int]:
        self._database.bind()
        totals = TurnRow.select(fn.SUM(TurnRow.input_tokens), fn.SUM(TurnRow.output_tokens)).where(which)
        used_in, used_out = totals.tuples().first()
        return used_in or 0, used_out or 0

    def _set(self, run_id: int, **columns: object) -> None:
        with self._database.write():
            RunRow.update(updated_at=self._clock(), **columns).where(RunRow.id == run_id).execute()

    def _set_call(self, record_id: int, **columns: object) -> None:
        with self._database.write():
            ToolCallRow.update(updated_at=self._clock(), **columns).where(ToolCallRow.id == record_id).execute()


def _run_record(row: RunRow) -> RunRecord:
    return RunRecord(row.id, row.event_id, row.turn_event_id, row.seconds, Progress(row.fingerprint, row.repeats))


def _call_record(row: ToolCallRow) -> CallRecord:
    call = ToolCall(row.call_id, row.name, json.loads(row.arguments), row.problem)
    return CallRecord(row.id, call, CallStatus(row.status), row.event_id, row.result)
