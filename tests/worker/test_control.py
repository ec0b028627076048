"""The policies of the control plane, as the pure functions they are."""

import sqlite3

import pytest
from peewee import OperationalError

from worker.commander.base import Unreachable
from worker.control import circuit
from worker.control.circuit import Circuit, CircuitPolicy, CircuitStatus, Work
from worker.control.errors import ErrorClass, classify
from worker.control.limits import LimitReached, Limits, LimitType, Spent, day_start
from worker.control.progress import Progress, fingerprint, same_calls
from worker.control.retry import RetryPolicy
from worker.control.verdict import GiveUp, Retry, after_failure
from worker.models.base import ModelError, ProviderApiError, ToolCall, ValidationError
from worker.store import Fenced
from worker.tools.base import ToolError

LIMITS = Limits(max_turns=3, max_wall_time_seconds=10, max_tokens=100, budget_tokens_per_day=1000)
RETRIES = RetryPolicy(max_retries=3, base_seconds=1, max_seconds=60)
POLICY = CircuitPolicy(threshold=2, cooldown_seconds=30)


@pytest.mark.parametrize(
    ("error", "error_class"),
    [
        (ProviderApiError("x"), "provider_api"),
        (ValidationError("x"), "validation"),
        (ModelError("x", "tool_exec"), "tool_exec"),
        (ModelError("x", "no class of ours"), "unknown"),
        (ModelError("x"), "unknown"),
        (ToolError("broken", "x"), "tool_exec"),
        (Unreachable("x"), "command_source_api"),
        (OperationalError("database is locked"), "db"),
        (Fenced(1, 2), "db"),
        (sqlite3.OperationalError("not through the store"), "unknown"),
        (RuntimeError("provider_api"), "unknown"),
    ],
)
def test_errors_are_classed_by_their_type(error: Exception, error_class: str) -> None:
    """Never by their words."""
    assert classify(error) == error_class


@pytest.mark.parametrize(
    ("spent", "reached"),
    [
        (Spent(2, 9.9, 99, 999), None),
        (Spent(3, 99, 999, 9999), LimitReached(LimitType.MAX_TURNS, 3, 3)),
        (Spent(2, 10, 99, 999), LimitReached(LimitType.MAX_WALL_TIME_SECONDS, 10, 10)),
        (Spent(2, 9, 100, 999), LimitReached(LimitType.MAX_TOKENS, 100, 100)),
        (Spent(2, 9, 99, 1000), LimitReached(LimitType.BUDGET_TOKENS_PER_DAY, 1000, 1000)),
    ],
)
def test_limits(spent: Spent, reached: LimitReached | None) -> None:
    """What is used up forbids another call; the first in order is told."""
    assert LIMITS.reached(spent) == reached


def test_the_budget_is_warned_of_once() -> None:
    """The warning comes with the step over 80 %, and with no other; without a budget never."""
    warned = [LIMITS.warning(before, before + 100) is not None for before in range(0, 1000, 100)]
    assert warned == [False] * 7 + [True, False, False]
    assert Limits().warning(0, 10**9) is None
    assert Limits().reached(Spent(tokens_today=10**9)) is None


def test_a_day_begins_at_midnight_utc() -> None:
    """To the second."""
    assert day_start(86_400 * 100 + 86_399.5) == 86_400 * 100
    assert day_start(86_400 * 101) == 86_400 * 101


def test_verdicts() -> None:
    """Exhaustion is judged before stall, stall before another attempt."""
    fresh, stuck = Progress("a", 1), Progress("a", 3)
    assert after_failure(RETRIES, 2, fresh, 3) == Retry(2.0)
    assert after_failure(RETRIES, 3, stuck, 3) == GiveUp(stalled=True)
    assert after_failure(RETRIES, 4, stuck, 3) == GiveUp(stalled=False)


def test_progress_counts_what_repeats() -> None:
    """Only the same state in a row counts."""
    progress = Progress()
    for state, repeats in (("a", 1), ("a", 2), ("b", 1), ("b", 2), ("b", 3)):
        progress = progress.after(state)
        assert progress.repeats == repeats
    assert progress.stalled(3)
    assert not progress.stalled(4)


def test_a_fingerprint_is_made_of_all_its_parts() -> None:
    """Each of the five makes a difference, and the same five none."""
    base = {"task_id": 1, "history_count": 2, "compressed_count": 2, "error_class": "db", "reply_hash": ""}
    others = [{**base, name: "other" if isinstance(value, str) else 9} for name, value in base.items()]
    names = [fingerprint(**state) for state in [base, *others]]  # type: ignore[arg-type]
    assert len(set(names)) == len(names)
    assert fingerprint(**base) == names[0]  # type: ignore[arg-type]


def test_repeated_calls() -> None:
    """Ids do not matter, order and arguments do; a turn without a call is no repetition."""
    time, later = [ToolCall("1", "time", {"a": 1, "b": 2})], [ToolCall("2", "time", {"b": 2, "a": 1})]
    other = [ToolCall("1", "time", {"a": 2})]
    assert same_calls([other, time, later], 2)
    assert not same_calls([time, other, later], 2)
    assert not same_calls([time], 1)
    assert not same_calls([[], []], 2)
    assert not same_calls([[*time, *other], [*other, *time]], 2)


def failing(*classes: ErrorClass, now: float = 0.0) -> Circuit:
    state = Circuit()
    for error_class in classes:
        work = Work.POLL if error_class is ErrorClass.COMMAND_SOURCE_API else Work.RUN
        state = circuit.failed(state, POLICY, work, error_class, now, probe=False)
    return state


def test_only_failures_of_one_class_in_a_row_open_the_circuit() -> None:
    """Another class, or a success, starts the count anew; polls and runs are counted apart."""
    api, db, poll = ErrorClass.PROVIDER_API, ErrorClass.DB, ErrorClass.COMMAND_SOURCE_API
    assert failing(api, db, api).status is CircuitStatus.CLOSED
    assert failing(api, poll, api).status is CircuitStatus.OPEN
    assert failing(poll, api, poll).error_class is poll
    once = circuit.succeeded(failing(api), Work.RUN, probe=False)
    assert circuit.failed(once, POLICY, Work.RUN, api, 0, probe=False).status is CircuitStatus.CLOSED
    still = circuit.succeeded(failing(api), Work.POLL, probe=False)
    assert circuit.failed(still, POLICY, Work.RUN, api, 0, probe=False).status is CircuitStatus.OPEN


@pytest.mark.parametrize(
    ("error_class", "poll", "run"),
    [(ErrorClass.COMMAND_SOURCE_API, True, False), (ErrorClass.PROVIDER_API, True, True)],
)
def test_what_each_state_admits(error_class: ErrorClass, poll: bool, run: bool) -> None:
    """Open: no run, and no poll where polls failed. Half open: polls, and one run when a run is what decides."""
    opened = failing(error_class, error_class, now=100)
    assert not circuit.admits(opened, Work.RUN)
    assert circuit.admits(opened, Work.POLL) == (error_class is ErrorClass.PROVIDER_API)
    assert circuit.cooled(opened, POLICY, 129.9) == opened
    half = circuit.cooled(opened, POLICY, 130)
    assert (circuit.admits(half, Work.POLL), circuit.admits(half, Work.RUN)) == (poll, run)
    assert not circuit.admits(circuit.begun(half, Work.RUN), Work.RUN)


def test_the_probe_decides() -> None:
    """It closes the circuit or opens it for another cool-down; abandoned, it leaves its place to the next."""
    api = ErrorClass.PROVIDER_API
    half = circuit.begun(circuit.cooled(failing(api, api), POLICY, 30), Work.RUN)
    assert circuit.succeeded(half, Work.RUN, probe=True) == Circuit()
    assert circuit.succeeded(half, Work.RUN, probe=False).status is CircuitStatus.HALF_OPEN
    again = circuit.failed(half, POLICY, Work.RUN, ErrorClass.VALIDATION, 31, probe=True)
    assert (again.status, again.error_class, again.opened_at) == (CircuitStatus.OPEN, api, 31)
    assert circuit.failed(half, POLICY, Work.RUN, api, 31, probe=False) == half
    assert circuit.admits(circuit.abandoned(half, probe=True), Work.RUN)
