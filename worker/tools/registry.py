"""All tools, by name."""

from typing import Final

from worker.tools import time
from worker.tools.base import Tool

TOOLS: Final[dict[str, Tool]] = {tool.name: tool for tool in (time.TOOL,)}
