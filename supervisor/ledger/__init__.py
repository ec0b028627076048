"""The ledger: updates, workers, the lease and the log of events, in one SQLite file.

The only place in the supervisor that imports peewee.
"""

from supervisor.ledger.errors import (
    AmbiguousPrefix,
    BadColumns,
    GenesisExists,
    IllegalMove,
    LedgerError,
    LedgerMissing,
    LedgerUnusable,
    LostRace,
    NewerLedger,
    NoRevision,
    UnknownEvent,
    UnknownUpdate,
    UnknownWorker,
    WorkerGone,
)
from supervisor.ledger.ledger import Ledger
from supervisor.ledger.values import (
    Blame,
    Event,
    Lease,
    NewUpdate,
    NewWorker,
    Origin,
    Revision,
    Update,
    WorkerRow,
)

__all__ = [
    "AmbiguousPrefix",
    "BadColumns",
    "Blame",
    "Event",
    "GenesisExists",
    "IllegalMove",
    "Lease",
    "Ledger",
    "LedgerError",
    "LedgerMissing",
    "LedgerUnusable",
    "LostRace",
    "NewUpdate",
    "NewWorker",
    "NewerLedger",
    "NoRevision",
    "Origin",
    "Revision",
    "UnknownEvent",
    "UnknownUpdate",
    "UnknownWorker",
    "Update",
    "WorkerGone",
    "WorkerRow",
]
