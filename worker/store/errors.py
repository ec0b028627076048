"""What can go wrong in the store.

StoreError
├── StoreUnusable   the file cannot be opened or migrated
└── Fenced          another worker holds a later lease, or this one holds none
"""

from peewee import PeeweeException


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
