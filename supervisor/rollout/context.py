"""What the parts of a roll-out share, so that each of them names only what it needs beside that."""

from collections.abc import Callable
from dataclasses import dataclass

from supervisor.ledger import Ledger
from supervisor.outages import OutageMonitor
from supervisor.rollout.activation import Activation
from supervisor.settings import Settings
from supervisor.timing import Clocks
from supervisor.updates.attempts import Attempts
from supervisor.updates.binding import Engine
from supervisor.workers.containers import WorkerContainers
from supervisor.workers.pool import WorkerPool


@dataclass(frozen=True)
class Context:
    """What every part works with: the record, the workers, and what may excuse them."""

    ledger: Ledger
    containers: WorkerContainers
    pool: WorkerPool
    activation: Activation
    outages: OutageMonitor
    settings: Settings
    clocks: Clocks


@dataclass(frozen=True)
class Trial:
    """What is asked about an update under way: is it what was approved, how often was it tried, who is to blame."""

    engine: Engine
    attempts: Attempts
    bot_api_answers: Callable[[], bool]


class Part:
    """A part of the roll-out, with what is shared at hand."""

    def __init__(self, context: Context) -> None:
        self._ledger = context.ledger
        self._containers = context.containers
        self._pool = context.pool
        self._activation = context.activation
        self._outages = context.outages
        self._settings = context.settings
        self._clocks = context.clocks
