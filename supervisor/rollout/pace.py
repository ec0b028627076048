"""How often the roll-out looks, and how it waits."""

from collections.abc import Callable
from typing import Final

from supervisor.sessions import Sessions, Signal
from supervisor.timing import Clocks
from supervisor.workers.containers import WorkerContainers

_SWEEP_SECONDS: Final = 10.0
_IDLE_SECONDS: Final = 5.0
_IDLE_LOOK_SECONDS: Final = 1.0
_OWN_SILENCE_SECONDS: Final = 2.0


class Pace:
    """The roll-out's waits, each of which ends early when something may have changed or it is to stop."""

    def __init__(self, *, containers: WorkerContainers, sessions: Sessions, signal: Signal, clocks: Clocks) -> None:
        self._containers = containers
        self._sessions = sessions
        self._signal = signal
        self._clocks = clocks
        self._seen = 0
        self._looked_at = clocks.monotonic()
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
        now = self._look()
        if now - self._swept_at >= _SWEEP_SECONDS:
            self._swept_at = now
            self._containers.sweep()

    def idle(self) -> None:
        """Until something changes, or a worker goes silent, which changes nothing and has to be looked for."""

        def to_do() -> bool:
            now = self._look()
            return self._signal.count != self._seen or any(session.lost(now) for session in self._sessions.all())

        self._signal.until(to_do, _IDLE_SECONDS, at_least_every=_IDLE_LOOK_SECONDS)

    def rest(self, seconds: float, *, unless: Callable[[], bool] = lambda: False) -> bool:
        """After a failure: wait, whatever else changes; gives what ``unless`` says, which ends the wait."""
        self._signal.until(lambda: self.stopping or unless(), seconds)
        return unless()

    def pause(self, seconds: float) -> None:
        """Until something may have changed, at most ``seconds``."""
        if seconds > 0:
            self._signal.wait(seconds, self._seen)

    def _look(self) -> float:
        """The time of this look at the workers. Their silence does not count while nobody was looking."""
        now = self._clocks.monotonic()
        if now - self._looked_at > _OWN_SILENCE_SECONDS:
            self._sessions.forgive_silence()
        self._looked_at = now
        return now
