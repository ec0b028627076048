"""Event ids: time-ordered 63-bit integers, unique across the ledger and the worker's database.

Layout, from the high bits: 41 bits of milliseconds since 2020-01-01 UTC (until 2089), 1 bit for the side that made
the id, 21 bits that start at random in each millisecond and count up. The side's bit keeps the two files apart; in
one file the primary key refuses the rare collision between two processes, and the writer asks for another id.
"""

import secrets
import threading
from collections.abc import Callable
from enum import IntEnum

EPOCH_MS = 1_577_836_800_000
_COUNTER_BITS = 21
_COUNTER_MASK = (1 << _COUNTER_BITS) - 1


class Side(IntEnum):
    """Which of the two databases an id belongs to."""

    SUPERVISOR = 0
    WORKER = 1


class EventIds:
    """A source of ids. They rise strictly within one process, also when the clock goes back.

    ``clock`` gives seconds since the Unix epoch.
    """

    def __init__(self, side: Side, clock: Callable[[], float]) -> None:
        self._side = side
        self._clock = clock
        self._lock = threading.Lock()
        self._tick = 0
        self._counter = 0

    def next(self) -> int:
        """A new id, larger than every one this object gave before."""
        with self._lock:
            now = max(0, int(self._clock() * 1000) - EPOCH_MS)
            if now > self._tick:
                self._tick, self._counter = now, secrets.randbits(_COUNTER_BITS - 1)
            elif self._counter < _COUNTER_MASK:
                self._counter += 1
            else:
                self._tick, self._counter = self._tick + 1, 0
            return (self._tick << (_COUNTER_BITS + 1)) | (self._side << _COUNTER_BITS) | self._counter


def milliseconds(event_id: int) -> int:
    """The time inside an id, in milliseconds since the Unix epoch."""
    return (event_id >> (_COUNTER_BITS + 1)) + EPOCH_MS


def side(event_id: int) -> Side:
    """The database that an id belongs to."""
    return Side((event_id >> _COUNTER_BITS) & 1)


def first_id(moment: float) -> int:
    """What every id of a time, in seconds since the Unix epoch, and after it reaches at least."""
    return max(0, int(moment * 1000) - EPOCH_MS) << (_COUNTER_BITS + 1)
