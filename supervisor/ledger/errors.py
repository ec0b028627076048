"""What can go wrong with the ledger. Every message is one line for the person at the command line.

LedgerError
├── LedgerUnusable        cannot be opened, read or written
│   ├── LedgerMissing     there is none
│   └── NewerLedger       a newer version wrote it
├── UnknownUpdate
├── AmbiguousPrefix
├── IllegalMove           not in the table of transitions
├── LostRace              somebody else moved it first
├── NonceSpent            the button of a card was used up already
├── BadColumns            a change names a column that may not be changed
├── GenesisExists
├── NoRevision
├── UnknownEvent
├── UnknownWorker
└── WorkerGone            the lease was to go to a worker that has ended
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

from supervisor.states import Status

_SHOWN = 5  # candidates named before the rest is left to an ellipsis


class LedgerError(Exception):
    """Base of all of them."""


class LedgerUnusable(LedgerError):
    """The file cannot be opened, read or written. Nothing of the command that met it was recorded."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"cannot use the ledger {path}: {reason}")
        self.path = path
        self.reason = reason


class LedgerMissing(LedgerUnusable):
    """A reading command found no ledger."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "there is no such file")


class NewerLedger(LedgerUnusable):
    """The file was written by a newer version; it was not touched."""

    def __init__(self, path: Path, found: int, known: int) -> None:
        super().__init__(
            path, f"a newer version wrote it (its schema is number {found}, this version knows up to {known})"
        )
        self.found = found
        self.known = known


class UnknownUpdate(LedgerError):
    """No update has this id or starts with it."""

    def __init__(self, prefix: str) -> None:
        super().__init__(f"no update starts with {prefix[:60]!r}")
        self.prefix = prefix


class AmbiguousPrefix(LedgerError):
    """More than one update starts with it."""

    def __init__(self, prefix: str, candidates: Sequence[str]) -> None:
        named = ", ".join(candidates[:_SHOWN])
        more = ", …" if len(candidates) > _SHOWN else ""
        super().__init__(f"more than one update starts with {prefix!r}: {named}{more}")
        self.prefix = prefix
        self.candidates = tuple(candidates)


class IllegalMove(LedgerError):
    """The table of transitions has no such move."""

    def __init__(self, source: Status, target: Status) -> None:
        super().__init__(f"an update cannot go from {source} to {target}")
        self.source = source
        self.target = target


class LostRace(LedgerError):
    """The update had another status than the caller thought; nothing was changed.

    Whoever wanted the move looks at ``actual`` and decides anew.
    """

    def __init__(self, tx_id: str, expected: Status, actual: Status) -> None:
        super().__init__(f"update {tx_id[:8]} is {actual}, not {expected}")
        self.tx_id = tx_id
        self.expected = expected
        self.actual = actual


class NonceSpent(LedgerError):
    """The button of a card was used up already, or counts no more; nothing was changed."""

    def __init__(self) -> None:
        super().__init__("this button was used already")


class BadColumns(LedgerError):
    """A change names a column that does not exist or that only the ledger itself writes."""

    def __init__(self, columns: Iterable[str]) -> None:
        self.columns = tuple(sorted(columns))
        super().__init__(f"these columns of an update cannot be changed: {', '.join(self.columns)}")


class GenesisExists(LedgerError):
    """The ledger already has a promoted revision."""

    def __init__(self) -> None:
        super().__init__("the ledger already has a first revision")


class UnknownEvent(LedgerError):
    """Neither database has an event with this id."""

    def __init__(self, event_id: int) -> None:
        super().__init__(f"no event has the id {event_id}")
        self.event_id = event_id


class NoRevision(LedgerError):
    """There is no first revision yet."""

    def __init__(self) -> None:
        super().__init__("there is no revision yet; `make up` makes the first")


class UnknownWorker(LedgerError):
    """No worker was registered under this id."""

    def __init__(self, worker_id: str) -> None:
        super().__init__(f"no worker has the id {worker_id[:60]!r}")
        self.worker_id = worker_id


class WorkerGone(LedgerError):
    """The worker has ended and can hold no lease."""

    def __init__(self, worker_id: str) -> None:
        super().__init__(f"worker {worker_id[:60]!r} has ended")
        self.worker_id = worker_id
