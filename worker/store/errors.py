"""What can go wrong in the store.

StoreError
├── StoreUnusable   the file cannot be opened or migrated
└── Fenced          another worker holds a later lease, or this one holds none
"""

import sqlite3
from typing import Final

from peewee import PeeweeException

#: The disk is full or broken, whatever was to be written.
_DISK: Final = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR})


class StoreError(Exception):
    """Base of the store's errors."""


class StoreUnusable(StoreError):
    """The database cannot be used at all; the message is one line for a person."""


class Fenced(StoreError):
    """A write was refused, because the lease in the database is not the one that this worker holds."""

    def __init__(self, mine: int | None, theirs: int) -> None:
        held = "no lease" if mine is None else f"the lease of epoch {mine}"
        super().__init__(f"this worker holds {held}, the database is at epoch {theirs}")
        self.mine = mine
        self.theirs = theirs


def is_store_failure(error: BaseException) -> bool:
    """Whether an error came out of the store: one of ours, or the database's own."""
    return isinstance(error, StoreError | PeeweeException)


def is_out_of_our_hands(error: BaseException) -> bool:
    """Whether the database failed because of the disk, and not because of what was asked of it."""
    # SQLite's own error is behind peewee's, and behind that of the rollback that follows it.
    behind: BaseException | None = error if isinstance(error, PeeweeException) else None
    while behind is not None:
        code = getattr(behind, "sqlite_errorcode", None)
        if isinstance(code, int) and code & 0xFF in _DISK:  # the other bits say more exactly what
            return True
        behind = behind.__context__
    return False
