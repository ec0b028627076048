"""Faults that tests and chaos runs order, and the record of what was called and answered."""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Final

from supervisor.localbot.errors import RequestRefused

_REMEMBERED: Final = 4096
EVERY_METHOD: Final = "*"


class FaultKind(StrEnum):
    """What goes wrong with a call."""

    RETRY_AFTER = "retry_after"  # 429, "seconds" is the time to wait
    ERROR = "error"  # the HTTP "status", without the call being done
    DELAY = "delay"  # "seconds" pass, then the call is done
    DROP = "drop"  # the connection is closed before the call is done
    DROP_AFTER = "drop_after"  # the call is done, then the connection is closed without an answer


@dataclass
class Fault:
    """An order: the next ``count`` calls of ``method`` go wrong."""

    kind: FaultKind
    method: str = EVERY_METHOD
    count: int = 1
    seconds: float = 1.0
    status: int = 500

    @classmethod
    def from_json(cls, order: dict[str, Any]) -> "Fault":
        """An order as the user's side sends it. ``RequestRefused`` when it is none."""
        try:
            return cls(**{**order, "kind": FaultKind(order.get("kind", ""))})
        except (TypeError, ValueError) as exc:
            raise RequestRefused(f"not a fault: {exc}") from None


class Faults:
    """The orders that still stand, first come first served."""

    def __init__(self) -> None:
        self._orders: list[Fault] = []

    def order(self, fault: Fault) -> None:
        """Add an order."""
        self._orders.append(fault)

    def clear(self) -> None:
        """Everything goes well again."""
        self._orders.clear()

    def take(self, method: str) -> Fault | None:
        """The fault of this call, counted down."""
        for fault in self._orders:
            if fault.method.lower() in {EVERY_METHOD, method.lower()}:
                fault.count -= 1
                if fault.count <= 0:
                    self._orders.remove(fault)
                return fault
        return None


class PollOutcome(StrEnum):
    """How a poll ended."""

    OPEN = "open"  # it has not
    ANSWERED = "answered"
    CONFLICT = "conflict"  # a newer poll took its place
    GONE = "gone"  # the client closed the connection
    FAILED = "failed"


@dataclass
class Poll:
    """One ``getUpdates``. Times in seconds since the Unix epoch; ``mark`` tells one client connection from another."""

    mark: str
    offset: int
    started: float
    ended: float | None = None
    outcome: PollOutcome = PollOutcome.OPEN
    updates: int = 0


@dataclass
class Call:
    """One call of a method and the HTTP status of its answer; 0 when the connection was closed instead."""

    at: float
    mark: str
    method: str
    status: int
    chat_id: int | None


@dataclass
class Record:
    """The latest polls and calls."""

    clock: Callable[[], float] = time.time
    polls: deque[Poll] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))
    calls: deque[Call] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))

    def poll(self, mark: str, offset: int) -> Poll:
        """Note the start of a poll."""
        poll = Poll(mark, offset, self.clock())
        self.polls.append(poll)
        return poll

    def call(self, mark: str, method: str, status: int, chat_id: int | None) -> None:
        """Note an answered call."""
        self.calls.append(Call(self.clock(), mark, method, status, chat_id))

    def as_json(self) -> dict[str, list[dict[str, Any]]]:
        """Both lists, oldest first."""
        return {"polls": [asdict(poll) for poll in self.polls], "calls": [asdict(call) for call in self.calls]}
