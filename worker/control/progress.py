"""Whether a task gets anywhere. Pure functions."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

from worker.models.base import ToolCall


@dataclass(frozen=True, slots=True)
class Progress:
    """The state in which a task's last attempt ended, and how many attempts in a row ended in just that one."""

    fingerprint: str = ""
    repeats: int = 0

    def after(self, fingerprint: str) -> "Progress":
        """One attempt later."""
        return Progress(fingerprint, self.repeats + 1 if fingerprint == self.fingerprint else 1)

    def stalled(self, k: int) -> bool:
        """Whether the last ``k`` attempts all ended in the same state."""
        return self.repeats >= k


def fingerprint(
    *, task_id: int, history_count: int, compressed_count: int, error_class: str, reply_hash: str = ""
) -> str:
    """A short name for the state in which an attempt ended."""
    state = json.dumps([task_id, history_count, compressed_count, error_class, reply_hash], separators=(",", ":"))
    return short_hash(state)


def short_hash(text: str) -> str:
    """A name for a text, with 64 bits."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def same_calls(turns: Sequence[Sequence[ToolCall]], k: int) -> bool:
    """Whether the last ``k`` turns, at least two, made the same calls with the same arguments in the same order."""
    k = max(k, 2)
    if len(turns) < k or not turns[-1]:
        return False
    last = _content(turns[-1])
    return all(_content(calls) == last for calls in turns[-k:])


def _content(calls: Sequence[ToolCall]) -> list[tuple[str, str, str]]:
    """Calls without their ids, which differ every time."""
    return [(call.name, json.dumps(call.arguments, sort_keys=True), call.problem) for call in calls]
