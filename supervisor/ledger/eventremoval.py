"""Taking events out of a table that only grows: the one place that lifts its triggers, inside a transaction.

Both databases have the same table, so this works on whatever executes SQL.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

#: Executes a statement with its values, and gives something with ``fetchall``.
Execute = Callable[..., Any]

#: Events that one transaction takes out: some tenths of a second, in which nobody else can write.
BATCH: Final = 20_000
_PARAMETERS: Final = 5_000  # in one statement; SQLite takes 32,766


def batches(ids: Sequence[int]) -> Iterator[Sequence[int]]:
    """The ids in portions for a transaction each."""
    return (ids[start : start + BATCH] for start in range(0, len(ids), BATCH))


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
