"""Where the time comes from, and how long the roll-out waits for what."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Clocks:
    """The wall clock for records, the monotonic one for windows."""

    wall: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic


@dataclass(frozen=True)
class Timing:
    """Waits that no setting changes, in seconds. The defaults are those that installations use."""

    ready: float = 30.0  # from a container's start until its worker is healthy
    settled: float = 0.5  # that it stays so before work is given to it
    grace: float = 0.5  # beyond the drain's deadline, for the word of the release
    activate: float = 5.0  # from the grant until the new holder has taken over
    first_poll: float = 15.0
    poll_errors: float = 5.0  # of nothing else, before the Bot API is asked whose fault it is
    look: float = 0.25  # between two looks at a green in its probation, where nothing wakes the roll-out
    idle: float = 5.0  # between two looks of the roll-out where nothing changes
    engine_retry: float = 5.0
    standby_retry: float = 30.0
    slowest_restart: float = 60.0  # where there is nothing to go back to
    slowest_standby: float = 600.0  # between two starts of an N-1 that does not stay
    probe: float = 5.0  # between two looks at the Bot API and the model, where it matters
    told_after: float = 30.0  # that something outside is away, before the owners hear of it
    rescue_after: float = 5.0  # with no worker, before the supervisor polls the bot itself
    rescue_over: float = 60.0  # with a worker, before another such time is told anew


SYSTEM_CLOCKS: Final = Clocks()
IN_SERVICE: Final = Timing()
