"""Which containers have ended, and which of them only because the engine did."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Final, Protocol

from supervisor.engine import EngineError, EngineEvent, EngineUnreachable
from supervisor.ledger import LedgerError
from supervisor.sessions import Signal

_RECONNECT_SECONDS: Final = 0.5
_ENGINE_STOP_SECONDS: Final = 20.0  # that an engine takes to stop its containers, before its stream ends


class Watch(Protocol):
    """A stream of what happens to containers; iterating ends on :meth:`close`."""

    def __iter__(self) -> Iterator[EngineEvent]: ...

    def close(self) -> None:
        """End the iteration, from any thread."""


class Watched(Protocol):
    """The part of the engine that tells of deaths."""

    def version(self) -> dict[str, str]:
        """What it is, asked over a new connection."""

    def watch(self, project: str) -> Watch:
        """What happens to the project's containers from now on."""


class Deaths:
    """The deaths that were told by the engine or found by looking, by the container's name.

    ``elsewhere`` is told each name first; it says whether that container is somebody else's concern.
    """

    def __init__(self, engine: Watched, signal: Signal, *, elsewhere: Callable[[str], bool] = lambda _: False) -> None:
        self._engine = engine
        self._signal = signal
        self._elsewhere = elsewhere
        self._at: dict[str, float] = {}
        self._with_engine: set[str] = set()
        self._engine_lost = False
        self._watch: Watch | None = None

    @property
    def engine_lost(self) -> bool:
        """Whether the engine's stream has ended and it does not answer since."""
        return self._engine_lost

    def known(self, name: str) -> bool:
        """Whether this one is known to have ended."""
        return name in self._at

    def note(self, name: str) -> None:
        """It has ended."""
        self._at.setdefault(name, time.monotonic())
        if self._engine_lost:
            self._with_engine.add(name)

    def forget(self, name: str) -> None:
        """Its container is gone, or there is another one."""
        self._at.pop(name, None)
        self._with_engine.discard(name)

    def with_the_engine(self, name: str) -> bool:
        """Whether it ended because the engine did.

        An engine that stops takes its containers along, the first of them before its stream ends; it takes no new
        connection by then. Raises EngineUnreachable in that moment.
        """
        if name in self._at and name not in self._with_engine:
            self._engine.version()
        return name in self._with_engine

    def watch(self, project: str, stopping: threading.Event, *, begun: Callable[[], None]) -> None:
        """Note each death until ``stopping``; meant for a thread.

        ``begun`` looks for what happened while nobody watched, each time that the watch has begun.
        """
        while not stopping.is_set():
            try:
                self._watch = self._engine.watch(project)
                begun()
                self._engine_lost = False
                self._signal.notify()
                for event in self._watch:
                    if event.action in ("die", "destroy"):
                        if not self._elsewhere(event.name):
                            self.note(event.name)
                        self._signal.notify()
            except (EngineError, LedgerError) as error:
                if isinstance(error, EngineUnreachable) and not self._engine_lost:
                    self._engine_lost = True
                    since = time.monotonic() - _ENGINE_STOP_SECONDS
                    self._with_engine |= {name for name, at in list(self._at.items()) if at >= since}
                self._signal.notify()
                stopping.wait(_RECONNECT_SECONDS)

    def stop_watching(self) -> None:
        """Let the watching thread come to its end."""
        if self._watch is not None:
            self._watch.close()
