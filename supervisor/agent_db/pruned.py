"""Files of the events that were pruned: JSON lines, each on the disk before its event goes."""

import json
import os
from collections.abc import Iterable, Iterator, Set
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TextIO

_PATTERN: Final = "pruned-*.jsonl"


def new_file(directory: Path) -> Path:
    """Where the events of a prune that begins now go, so that ``export`` and ``forget`` find them."""
    now = datetime.now(UTC)  # to the microsecond: one that was killed may be begun again at once
    return directory / _PATTERN.replace("*", now.strftime("%Y%m%dT%H%M%S.%fZ"))


def is_searched(file: Path, directory: Path) -> bool:
    """Whether ``export`` and ``forget`` find a file that is there."""
    return any(file.samefile(found) for found in _files(directory))


class PrunedFile:
    """A file of them, which ``out`` writes."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def keep(self, database: str, events: Iterable[dict[str, Any]]) -> None:
        """Write events of one of the two databases. Raises OSError."""
        for event in events:
            self._out.write(json.dumps({"database": database, **event, "payload": _read(event["payload"])}) + "\n")
        self._out.flush()
        os.fsync(self._out.fileno())


def survey(directory: Path, chat_id: int, known: Set[int] = frozenset()) -> set[int]:
    """Ids of a chat's events in the files in a directory: those that name it, or are ``known``, and what hangs under.

    ``known`` are ids that the databases have as the chat's: a parent goes with its last child or later, so that what
    names the chat may still stand there. Raises OSError.
    """
    files = _files(directory)
    parents = {event["id"]: event["parent_id"] for file in files for event in _events(file)}
    mine = known | {event["id"] for file in files for event in _events(file) if _names(event, chat_id)}
    # A parent may stand in a newer file, or after its children.
    while more := {child for child, parent in parents.items() if parent in mine} - mine:
        mine |= more
    return mine & parents.keys()


def export(directory: Path, events: Set[int]) -> Iterator[dict[str, Any]]:
    """Each of these events that stands in the files in a directory, as the database had it. Raises OSError."""
    told: set[int] = set()
    for file in _files(directory):
        for event in _events(file):
            if event["id"] in events and event["id"] not in told:  # a prune that was cut off is begun again
                told.add(event["id"])
                yield {name: value for name, value in event.items() if name != "database"}


def forget(directory: Path, events: Set[int]) -> int:
    """Take events out of the files in a directory; how many lines went.

    The oldest file comes first, so that no parent goes before its children: wherever this ends, ``survey`` finds the
    rest. Raises OSError.
    """
    return sum(_rewrite(file, events) for file in _files(directory)) if events else 0


def _files(directory: Path) -> list[Path]:
    """The oldest first."""
    return sorted(directory.glob(_PATTERN))


def _rewrite(file: Path, gone: Set[int]) -> int:
    lines = list(_events(file))
    stay = [event for event in lines if event["id"] not in gone]
    if len(stay) < len(lines):
        draft = file.with_suffix(".new")
        try:
            _write(draft, stay)
            draft.replace(file)
        except OSError:
            draft.unlink(missing_ok=True)  # the room is wanted, and it holds what other chats may ask to forget
            raise
    return len(lines) - len(stay)


def _write(file: Path, events: Iterable[dict[str, Any]]) -> None:
    """On the disk when this returns, and nobody else's to read."""
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as out:
        out.writelines(json.dumps(event) + "\n" for event in events)
        out.flush()
        os.fsync(out.fileno())


def _events(file: Path) -> Iterator[dict[str, Any]]:
    with file.open() as lines:
        for line in lines:
            with suppress(ValueError):  # the end of a file that was cut off in a crash
                yield json.loads(line)


def _names(event: dict[str, Any], chat_id: int) -> bool:
    payload = event["payload"]
    return event["database"] == "worker" and isinstance(payload, dict) and payload.get("chat_id") == chat_id


def _read(payload: str) -> Any:
    try:
        return json.loads(payload)
    except ValueError:
        return payload
