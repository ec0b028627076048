"""Taking events out of a table that only grows: the one place that lifts its triggers, inside a transaction.

Both databases have the same table, so this works on whatever executes SQL.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

#: Executes a statement with its values, and gives something with ``fetchall``.
Execute = Callable[..., Any]

#: Is given the events of one transaction before they go; an exception leaves them where they are.
Keep = Callable[[Iterable[dict[str, Any]]], object]

#: Events that one transaction takes out: some tenths of a second, in which nobody else can write.
BATCH: Final = 20_000
_PARAMETERS: Final = 5_000  # in one statement; SQLite takes 32,766


def batches(ids: Sequence[int]) -> Iterator[Sequence[int]]:
    """Rising ids in portions for a transaction each, the newest first: no parent goes before what hangs under it."""
    return (ids[start : start + BATCH] for start in reversed(range(0, len(ids), BATCH)))


def rows(execute: Execute, ids: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Events as they stand in the table, in the order of their ids; one that is not there is left out."""
    names = ("id", "timestamp", "parent_id", "event_type", "payload")
    for start in range(0, len(ids), _PARAMETERS):
        chunk = ids[start : start + _PARAMETERS]
        which = f"id IN ({','.join('?' * len(chunk))})"
        for row in execute(f"SELECT {', '.join(names)} FROM events WHERE {which} ORDER BY id", chunk).fetchall():  # noqa: S608
            yield dict(zip(names, row, strict=True))


def remove(execute: Execute, ids: Sequence[int]) -> int:
    """Delete events, inside the caller's write transaction; how many were there.

    What keeps the table append-only is off only until this transaction's end: nobody else ever sees it without.
    """
    guards = execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'events'").fetchall()
    for name, _ in guards:
        execute(f"DROP TRIGGER {quoted(name)}")
    removed = 0
    for start in range(0, len(ids), _PARAMETERS):
        chunk = ids[start : start + _PARAMETERS]
        removed += execute(f"DELETE FROM events WHERE id IN ({','.join('?' * len(chunk))})", chunk).rowcount  # noqa: S608
    for _, statement in guards:
        execute(statement)
    return removed


def quoted(name: str) -> str:
    """A name as SQL takes it, whatever is in it."""
    return '"' + name.replace('"', '""') + '"'
