"""What the models have cost, added up from the worker's events. The worker knew the prices; nothing is priced here."""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from supervisor.agent_db.access import opened
from supervisor.contract import EventType
from supervisor.contract.ids import first_id

#: What can be added up by, with the field of an event that says it; a day is told by the event's time.
GROUPS: Final[Mapping[str, str | None]] = {"day": None, "run": "task_id", "chat": "chat_id", "revision": "sha"}
_EVENTS: Final = (EventType.TURN_COMPLETED.value, EventType.CONTEXT_COMPACTED.value)
_SQL: Final = "SELECT timestamp, payload FROM events WHERE event_type IN (?, ?) AND id >= ? ORDER BY id"


@dataclass
class Spent:
    """Of ``calls`` of models. ``unpriced`` of them had no known price, and are not in ``cost_usd``."""

    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cost_usd: float = 0.0
    unpriced: int = 0

    def add(self, payload: Mapping[str, Any]) -> None:
        """One more call."""
        self.calls += 1
        self.input_tokens += _whole(payload.get("input_tokens"))
        self.output_tokens += _whole(payload.get("output_tokens"))
        self.cached_tokens += _whole(payload.get("cached_tokens"))
        cost = payload.get("cost_usd")
        if isinstance(cost, int | float):
            self.cost_usd = round(self.cost_usd + cost, 6)
        else:
            self.unpriced += 1


def spent(agent_db: Path, *, by: str, since: float) -> dict[str, Spent]:
    """What was spent since a moment, in seconds since the Unix epoch, by one of GROUPS, the first one first.

    Raises AgentDbUnusable.
    """
    found: dict[str, Spent] = {}
    with opened(agent_db) as database:
        for timestamp, text in database.execute(_SQL, (*_EVENTS, first_id(since))):
            payload = _object(text)
            if _whole(payload.get("input_tokens")):
                found.setdefault(_key(by, timestamp, payload), Spent()).add(payload)
    return found


def _key(by: str, timestamp: float, payload: Mapping[str, Any]) -> str:
    name = GROUPS[by]
    if name is None:
        return time.strftime("%Y-%m-%d", time.gmtime(timestamp))
    return str(payload.get(name, "unknown"))


def _object(text: str) -> Mapping[str, Any]:
    try:
        payload = json.loads(text)
    except ValueError:
        return {}
    return payload if isinstance(payload, dict) else {}


def _whole(value: object) -> int:
    return value if isinstance(value, int) else 0
