"""The circuit breaker at work: holds the circuit's present state, and records how it changes."""

import logging
from collections.abc import Callable
from typing import Final

from supervisor.contract import EventType
from worker.control import circuit
from worker.control.circuit import Circuit, CircuitPolicy, CircuitStatus, Work
from worker.control.errors import ErrorClass
from worker.store.events import Events

#: How soon to ask again while another's probe is out.
ASK_AGAIN_SECONDS: Final = 0.05
SHORTEST_WAIT_SECONDS: Final = 0.001

logger = logging.getLogger(__name__)


class Breaker:
    """One for the whole process. ``monotonic`` gives seconds; ``process_event`` is the parent of its events."""

    def __init__(
        self, *, policy: CircuitPolicy, events: Events, process_event: int, monotonic: Callable[[], float]
    ) -> None:
        self._policy = policy
        self._events = events
        self._process_event = process_event
        self._monotonic = monotonic
        self._circuit = Circuit()
        self._poll_is_probe = False

    def poll_wait(self) -> float:
        """Seconds until to ask again; 0 when a poll may be made now. Its outcome may be reported."""
        wait = self._wait(Work.POLL)
        if not wait:
            self._poll_is_probe = circuit.is_probe(self._circuit, Work.POLL)
        return wait

    def poll_succeeded(self) -> None:
        """The poll that was allowed last came back."""
        self._move(circuit.succeeded(self._circuit, Work.POLL, probe=self._poll_is_probe))
        self._poll_is_probe = False

    def poll_failed(self, error: str) -> None:
        """The poll that was allowed last failed, for another reason than its rate or another poller."""
        self._failed(Work.POLL, ErrorClass.COMMAND_SOURCE_API, error, probe=self._poll_is_probe)
        self._poll_is_probe = False

    def run_wait(self) -> float:
        """Seconds until to ask again; 0 when a run may begin now."""
        return self._wait(Work.RUN)

    def run_begun(self) -> bool:
        """A run that was allowed has begun. Whether it is the probe; its end must be told with that."""
        probe = circuit.is_probe(self._circuit, Work.RUN)
        self._move(circuit.begun(self._circuit, Work.RUN))
        return probe

    def run_succeeded(self, *, probe: bool) -> None:
        """A run came to its answer."""
        self._move(circuit.succeeded(self._circuit, Work.RUN, probe=probe))

    def run_failed(self, error_class: ErrorClass, error: str, *, probe: bool) -> None:
        """A run failed."""
        self._failed(Work.RUN, error_class, error, probe=probe)

    def run_abandoned(self, *, probe: bool) -> None:
        """A run was stopped or cut, or ended at a limit."""
        self._move(circuit.abandoned(self._circuit, probe=probe))

    def _wait(self, work: Work) -> float:
        now = self._monotonic()
        self._move(circuit.cooled(self._circuit, self._policy, now))
        if circuit.admits(self._circuit, work):
            return 0.0
        if self._circuit.status is CircuitStatus.OPEN:
            return max(self._circuit.opened_at + self._policy.cooldown_seconds - now, SHORTEST_WAIT_SECONDS)
        return ASK_AGAIN_SECONDS

    def _failed(self, work: Work, error_class: ErrorClass, error: str, *, probe: bool) -> None:
        now = self._monotonic()
        after = circuit.failed(self._circuit, self._policy, work, error_class, now, probe=probe)
        if after.status is CircuitStatus.OPEN and self._circuit.status is not CircuitStatus.OPEN:
            logger.warning("the circuit is open after errors of class %s: %s", after.error_class, error)
        self._move(after)

    def _move(self, after: Circuit) -> None:
        before, self._circuit = self._circuit, after
        if after.status is before.status:
            return
        payload: dict[str, object] = {"error_class": after.error_class or before.error_class}
        match after.status:
            case CircuitStatus.OPEN:
                event = EventType.CIRCUIT_OPENED
                payload |= {"threshold": self._policy.threshold, "cooldown_seconds": self._policy.cooldown_seconds}
                payload["reopened"] = before.status is CircuitStatus.HALF_OPEN
            case CircuitStatus.HALF_OPEN:
                event = EventType.CIRCUIT_HALF_OPEN
            case CircuitStatus.CLOSED:
                event = EventType.CIRCUIT_CLOSED
                payload["recovered"] = True
        self._events.append(event, payload, parent_id=self._process_event)
