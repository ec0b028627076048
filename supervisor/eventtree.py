"""The tree of events over both databases: what ``supervisor events`` shows.

An event hangs under its parent, wherever that stands: a worker's ``process.started``, in the worker's database, hangs
under the ledger's ``worker.spawned``. Only what is shown is read.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from math import isfinite
from pathlib import Path
from typing import Any, Final

from supervisor.contract.events import EventType
from supervisor.contract.ids import Side, side
from supervisor.ledger import Event, Ledger, LedgerMissing, LedgerUnusable, UnknownEvent
from supervisor.ledger.eventlog import EventLog, open_event_log

#: Levels under a root that are ever shown. Ours is a dozen deep; a worker's database may say anything.
DEEPEST: Final = 64

#: Characters of a payload that a line of text has room for.
SHORT_PAYLOAD: Final = 160

_SIDES: Final = {Side.SUPERVISOR: "S", Side.WORKER: "W"}


@dataclass(frozen=True, slots=True)
class Node:
    """An event with those under it, oldest first."""

    event: Event
    children: list["Node"] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Tree:
    """What was asked for, and one line for each thing that had to be left out of it."""

    roots: list[Node]
    notes: list[str]


def build(events: Iterable[Event], roots: Sequence[int], depth: int | None = None) -> list[Node]:
    """The trees under the events with these ids, ``depth`` levels deep (0: the roots alone).

    An event appears once, even when the parents run in a circle or an id comes twice.
    """
    known: dict[int, Event] = {}
    under: dict[int | None, list[int]] = {}
    for event in events:
        if known.setdefault(event.id, event) is event:
            under.setdefault(event.parent_id, []).append(event.id)
    level = [Node(known[root]) for root in dict.fromkeys(roots) if root in known]
    trees = level
    shown = {node.event.id for node in trees}
    for _ in range(_levels(depth)):
        below = []
        for node in level:
            ids = [child for child in sorted(under.get(node.event.id, ())) if child not in shown]
            shown.update(ids)
            node.children.extend(Node(known[child]) for child in ids)
            below.extend(node.children)
        level = below
    return trees


def load_tree(
    ledger_path: Path,
    agent_path: Path,
    *,
    tx: str | None = None,
    root: int | None = None,
    depth: int | None = None,
    payload_chars: int | None = None,
) -> Tree:
    """Read the tree under event ``root``, or under the update that ``tx`` starts, or under the last supervisor run.

    The worker's database may be missing (no worker ran yet) or broken (a note says so). ``payload_chars`` limits how
    much of each payload is read: 0 for none, None for all of it.
    Raises UnknownEvent, UnknownUpdate, AmbiguousPrefix, LedgerMissing, NewerLedger, LedgerUnusable.
    """
    with Ledger.read_only(ledger_path) as ledger:  # refuses what is no ledger of this version
        if tx is not None:
            root = ledger.find(tx).event_id
    notes: list[str] = []
    with ExitStack() as stack:
        logs = {Side.SUPERVISOR: stack.enter_context(open_event_log(ledger_path, Side.SUPERVISOR))}
        try:
            logs[Side.WORKER] = stack.enter_context(open_event_log(agent_path, Side.WORKER))
        except LedgerMissing:
            pass
        except LedgerUnusable as error:
            notes.append(_left_out(error))
        top = _top(logs, root, payload_chars)
        if top is None:
            return Tree([], notes)
        events = _read_under(top, logs, depth=depth, payload_chars=payload_chars, notes=notes)
    return Tree(build(events, [top.id], depth), notes)


def _top(logs: Mapping[Side, EventLog], root: int | None, payload_chars: int | None) -> Event | None:
    """The event with the id ``root``, or the start of the last supervisor run, if there was one."""
    if root is None:
        return logs[Side.SUPERVISOR].latest(EventType.PROCESS_STARTED, payload_chars=payload_chars)
    log = logs.get(side(root))
    top = None if log is None else log.get(root, payload_chars=payload_chars)
    if top is None:
        raise UnknownEvent(root)
    return top


def _read_under(
    top: Event,
    logs: dict[Side, EventLog],
    *,
    depth: int | None,
    payload_chars: int | None,
    notes: list[str],
) -> list[Event]:
    """An event and those under it, level by level, as an event's children may stand in either database.

    A worker's database that turns out to be broken is taken out of ``logs`` and told in ``notes``.
    """
    found = {top.id: top}
    level = [top.id]
    for _ in range(_levels(depth)):
        below: dict[int, Event] = {}
        for writer in tuple(logs):
            try:
                for event in logs[writer].children(level, payload_chars=payload_chars):
                    if event.id not in found:
                        below[event.id] = event
            except LedgerUnusable as error:
                if writer is Side.SUPERVISOR:
                    raise
                del logs[writer]
                notes.append(_left_out(error))
        if not below:
            break
        found |= below
        level = sorted(below)
    return list(found.values())


def _levels(depth: int | None) -> int:
    return DEEPEST if depth is None else min(depth, DEEPEST)


def _left_out(error: LedgerUnusable) -> str:
    return f"the worker's events are left out: {error.reason} ({error.path})"


def render(roots: Sequence[Node], *, payload: bool = True, zone: tzinfo | None = None) -> Iterator[str]:
    """The tree as lines of text: time, side (S or W), id, then the event in its place, and its payload cut short.

    ``zone`` is for the times, the machine's own by default.
    """
    for top in roots:
        stack = [(top, "", "")]
        while stack:
            node, lead, below = stack.pop()
            event = node.event
            line = f"{_clock_time(event.timestamp, zone)} {_SIDES[side(event.id)]} {event.id:>19} {lead}"
            line += escape(event.event_type)
            yield f"{line}  {_short(event.payload_json)}" if payload and event.payload_json else line
            last = len(node.children) - 1
            for place, child in reversed(list(enumerate(node.children))):
                branch, rest = ("└─ ", "   ") if place == last else ("├─ ", "│  ")
                stack.append((child, below + branch, below + rest))


def to_json(roots: Sequence[Node]) -> list[dict[str, Any]]:
    """The tree as nested objects. A payload that is no JSON stays the text it is."""
    listed: list[dict[str, Any]] = []
    todo = [(node, listed) for node in reversed(roots)]
    while todo:
        node, siblings = todo.pop()
        event = node.event
        children: list[dict[str, Any]] = []
        siblings.append(
            {
                "id": event.id,
                "timestamp": event.timestamp,
                "parent_id": event.parent_id,
                "event_type": event.event_type,
                "payload": _decoded(event.payload_json),
                "children": children,
            }
        )
        todo.extend((child, children) for child in reversed(node.children))
    return listed


def escape(text: str) -> str:
    """Text with everything that could steer a terminal or hide other text made visible."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape", "backslashreplace").decode() for char in text
    )


def _short(payload_json: str) -> str:
    if len(payload_json) <= SHORT_PAYLOAD:
        return escape(payload_json)
    return escape(payload_json[: SHORT_PAYLOAD - 1]) + "…"


def _clock_time(timestamp: float, zone: tzinfo | None) -> str:
    try:
        moment = datetime.fromtimestamp(timestamp, UTC).astimezone(zone)
    except (ValueError, OverflowError, OSError):  # a worker's database may say anything
        return f"{'?':>23}"
    return moment.isoformat(sep=" ", timespec="milliseconds")[:23]


def _decoded(payload_json: str) -> Any:
    if not payload_json:
        return None
    try:
        return json.loads(payload_json, parse_constant=_finite, parse_float=_finite)
    except (ValueError, RecursionError):
        return payload_json


def _finite(number: str) -> float:
    value = float(number)
    if not isfinite(value):
        raise ValueError(f"{number} is not JSON")
    return value
