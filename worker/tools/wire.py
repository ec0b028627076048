"""How results travel: as one line of JSON, from a call's process to the runner, and from there to the worker."""

import json
from collections.abc import Mapping
from dataclasses import fields

from worker.tools.base import ToolResult

_FIELDS = tuple(field.name for field in fields(ToolResult))


def plain(result: ToolResult) -> dict[str, object]:
    """The envelope as a JSON object, all fields always there, in their order."""
    return {name: getattr(result, name) for name in _FIELDS}


def line(message: Mapping[str, object]) -> bytes:
    """A message as a line; half a surrogate pair, which no UTF-8 can hold, becomes a question mark."""
    return json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace") + b"\n"
