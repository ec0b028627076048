"""How often the roll-out looks, and how it waits."""

from collections.abc import Callable
from typing import Final

from supervisor.sessions import Sessions, Signal
from supervisor.timing import Clocks, Timing
from supervisor.workers.containers import WorkerContainers

_SWEEP_SECONDS: Final = 10.0
_IDLE_LOOK_SECONDS: Final = 1.0


class Pace:
    """The roll-out's waits, each of which ends early when something may have changed or it is to stop."""

    def __init__(
        self, *, containers: WorkerContainers, sessions: Sessions, signal: Signal, clocks: Clocks, timing: Timing
    ) -> None:
        self._containers = containers
        self._sessions = sessions
        self._standstills = sessions.look()
        self._signal = signal
        self._clocks = clocks
        self._timing = timing
        self._seen = 0
        self._swept_at = 0.0
        self.stopping = False

    def stop(self) -> None:
        """Wake whoever waits, for the last time."""
        self.stopping = True
        self._signal.notify()

    def begin(self) -> None:
        """From here on every change is noticed by the wait that follows."""
        self._seen = self._signal.count

    def sweep(self) -> None:
        """Look after all workers, now and then for what the engine's events may have missed."""
        self.look()
        now = self._clocks.monotonic()
        if now - self._swept_at >= _SWEEP_SECONDS:
            self._swept_at = now
            self._containers.sweep()

    def idle(self) -> None:
        """Until something changes, or a worker goes silent, which changes nothing and has to be looked for."""

        def to_do() -> bool:
            self.look()
            now = self._clocks.monotonic()
            return self._signal.count != self._seen or any(session.lost(now) for session in self._sessions.all())

        self._signal.until(to_do, self._timing.idle, at_least_every=_IDLE_LOOK_SECONDS)

    def rest(self, seconds: float, *, unless: Callable[[], bool] = lambda: False) -> bool:
        """After a failure: wait, whatever else changes; gives what ``unless`` says, which ends the wait."""
        self._signal.until(lambda: self.stopping or unless(), seconds)
        return unless()

    def pause(self, seconds: float) -> None:
        """Until something may have changed, at most ``seconds``."""
        if seconds > 0:
            self._signal.wait(seconds, self._seen)

    def look(self) -> bool:
        """Look at the workers; whether their silence was forgiven, by whoever looked, since this was asked before."""
        before, self._standstills = self._standstills, self._sessions.look()
        return self._standstills != before
