"""All tools, by name."""

from collections.abc import Iterable
from typing import Final

from worker.tools import bash, edit, find, grep, ls, read, selfsource, time, write
from worker.tools.base import Tool


def by_name(tools: Iterable[Tool]) -> dict[str, Tool]:
    """The tools by their names. Raises ValueError when two have the same."""
    found: dict[str, Tool] = {}
    for tool in tools:
        if found.setdefault(tool.name, tool) is not tool:
            raise ValueError(f"two tools are named {tool.name!r}")
    return found


TOOLS: Final = by_name(tool.TOOL for tool in (ls, find, grep, read, write, edit, bash, time))

#: What the toolbox does for the worker itself; no model is told of these, and a call of one by a model is refused.
OPERATIONS: Final = by_name((selfsource.CHECKOUT, selfsource.DIFF))
