"""The tool ``time``."""

from dataclasses import dataclass
from datetime import UTC, datetime

from worker.tools.base import Arguments, Tier, Tool, ToolResult
from worker.tools.workplace import Workplace


@dataclass(frozen=True, slots=True)
class TimeArguments(Arguments):
    """Takes nothing."""


def run(arguments: TimeArguments, workplace: Workplace) -> ToolResult:  # noqa: ARG001 - what every tool takes
    """The present time."""
    return ToolResult(ok=True, stdout=datetime.now(UTC).isoformat(timespec="seconds"))


TOOL = Tool("time", "Tells the present date and time in UTC.", TimeArguments, run, Tier.READ)
