"""The circuit breaker as pure functions: a state and a time in, a state out.

    closed --(threshold failures of one class in a row)--> open --(cool-down)--> half open
    half open --(the probe succeeds)--> closed;  --(the probe fails)--> open

Two kinds of work are counted apart: polls, whose failures are all of one class, and runs. While the circuit is open
no run is begun, and no poll either when it was polls that opened it: while a model is out of order its owner must
still be heard. Half open, it admits one probe of the kind that opened it: one poll, or one run.
"""

from dataclasses import dataclass, replace
from enum import StrEnum

from worker.control.errors import ErrorClass


class Work(StrEnum):
    """The two kinds of work."""

    POLL = "poll"
    RUN = "run"


class CircuitStatus(StrEnum):
    """Where the circuit is."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True)
class CircuitPolicy:
    """``threshold`` failures in a row open the circuit for ``cooldown_seconds``."""

    threshold: int = 5
    cooldown_seconds: float = 30.0


@dataclass(frozen=True, slots=True)
class Circuit:
    """A state. ``error_class`` opened it at ``opened_at`` seconds; ``probing`` says that the one probe is out.

    The counts are of failures in a row: of polls, and of runs with the class of the last one.
    """

    status: CircuitStatus = CircuitStatus.CLOSED
    error_class: ErrorClass | None = None
    opened_at: float = 0.0
    probing: bool = False
    poll_failures: int = 0
    run_failures: int = 0
    run_class: ErrorClass | None = None

    @property
    def probe(self) -> Work:
        """The kind of work that decides while half open."""
        return Work.POLL if self.error_class is ErrorClass.COMMAND_SOURCE_API else Work.RUN


def cooled(circuit: Circuit, policy: CircuitPolicy, now: float) -> Circuit:
    """The state at a later time: open becomes half open."""
    if circuit.status is CircuitStatus.OPEN and now >= circuit.opened_at + policy.cooldown_seconds:
        return replace(circuit, status=CircuitStatus.HALF_OPEN, probing=False)
    return circuit


def admits(circuit: Circuit, work: Work) -> bool:
    """Whether such work may begin. Polls come one at a time by themselves, so one that is asked for may be made."""
    match circuit.status:
        case CircuitStatus.CLOSED:
            return True
        case CircuitStatus.OPEN:
            return work is Work.POLL and circuit.probe is Work.RUN
        case CircuitStatus.HALF_OPEN:
            return work is Work.POLL or (circuit.probe is Work.RUN and not circuit.probing)


def is_probe(circuit: Circuit, work: Work) -> bool:
    """Whether such work, begun now, is what decides."""
    return circuit.status is CircuitStatus.HALF_OPEN and work is circuit.probe


def begun(circuit: Circuit, work: Work) -> Circuit:
    """Work that was admitted has begun."""
    return replace(circuit, probing=True) if is_probe(circuit, work) else circuit


def abandoned(circuit: Circuit, *, probe: bool) -> Circuit:
    """Work ended without telling anything: the next may be the probe."""
    return replace(circuit, probing=False) if probe else circuit


def succeeded(circuit: Circuit, work: Work, *, probe: bool) -> Circuit:
    """Work went well. What had begun before the circuit opened is no probe and does not close it."""
    if probe:
        return Circuit()
    if work is Work.POLL:
        return replace(circuit, poll_failures=0)
    return replace(circuit, run_failures=0, run_class=None)


def failed(
    circuit: Circuit, policy: CircuitPolicy, work: Work, error_class: ErrorClass, now: float, *, probe: bool
) -> Circuit:
    """Work failed. Whatever a probe fails with, it did not show that things are well again."""
    if probe:
        return replace(circuit, status=CircuitStatus.OPEN, opened_at=now, probing=False)
    if circuit.status is not CircuitStatus.CLOSED:
        return circuit
    if work is Work.POLL:
        failures = circuit.poll_failures + 1
        counted = replace(circuit, poll_failures=failures)
    else:
        failures = circuit.run_failures + 1 if error_class is circuit.run_class else 1
        counted = replace(circuit, run_failures=failures, run_class=error_class)
    if failures < policy.threshold:
        return counted
    return Circuit(CircuitStatus.OPEN, error_class, opened_at=now)
