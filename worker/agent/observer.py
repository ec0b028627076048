"""Who watches a run while it is under way."""

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from worker.store import Task


class RunObserver(Protocol):
    """Is told what a run does, as it happens. Its methods return at once and raise nothing."""

    def text_delta(self, text: str) -> None:
        """The model wrote some more of the present turn's text."""

    def tool_started(self, name: str, arguments: Mapping[str, object]) -> None:
        """A tool was called."""

    def tool_output(self, name: str, tail: str) -> None:
        """The tool has put something out; ``tail`` is the end of it so far."""

    def tool_finished(self, name: str, ok: bool) -> None:
        """The tool gave its result, or failed."""

    def limit_reached(self, limit_type: str, value: float, threshold: float) -> None:
        """The run ends here, because ``value`` is not below ``threshold``."""


#: Opens an observer for the run of a task, and closes it when the run is over.
ObserveRun = Callable[[Task], AbstractAsyncContextManager[RunObserver]]
