"""Under which terms a run works."""

from dataclasses import dataclass, field
from typing import Protocol

from worker.control.limits import Limits
from worker.store import Task


@dataclass(frozen=True, slots=True)
class Terms:
    """What a run may cost, and what the model is told beside the system prompt."""

    limits: Limits = field(default_factory=Limits)
    brief: str = ""


class SetTerms(Protocol):
    """Sets the terms of a task's run, at the beginning of each attempt."""

    def limits(self, task: Task) -> Limits:
        """What it may cost."""

    async def brief(self, task: Task) -> str:
        """What the model is told; the time that this takes is the run's. Raises ToolError."""


class SameForAll:
    """The terms where every message is an ordinary one."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits

    def limits(self, task: Task) -> Limits:  # noqa: ARG002 - a SetTerms
        """Those of every run."""
        return self._limits

    async def brief(self, task: Task) -> str:  # noqa: ARG002 - a SetTerms
        """Nothing more is to be told."""
        return ""
