"""Under which terms a run works."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from worker.control.limits import Limits
from worker.store import Task


@dataclass(frozen=True, slots=True)
class Terms:
    """What a run may cost, and what the model is told beside the system prompt."""

    limits: Limits = field(default_factory=Limits)
    brief: str = ""


#: Gives the terms of a task's run, at the beginning of each attempt. May raise ToolError.
SetTerms = Callable[[Task], Awaitable[Terms]]


def same_for_all(limits: Limits) -> SetTerms:
    """The terms where every message is an ordinary one."""
    terms = Terms(limits)

    async def of(task: Task) -> Terms:  # noqa: ARG001 - a SetTerms
        return terms

    return of
