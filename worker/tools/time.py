"""The tool ``time``."""

from dataclasses import dataclass
from datetime import UTC, datetime

from worker.tools.base import Arguments, Tool


@dataclass(frozen=True, slots=True)
class TimeArguments(Arguments):
    """Takes nothing."""


async def run(arguments: TimeArguments) -> dict[str, object]:  # noqa: ARG001 - every tool takes its arguments
    """The present time."""
    return {"utc": datetime.now(UTC).isoformat(timespec="seconds")}


TOOL = Tool("time", "Tells the present date and time in UTC.", TimeArguments, run)
