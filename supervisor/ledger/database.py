"""How a ledger file is opened, for writing and for reading. Nothing else in the package knows about SQLite."""

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import quote

import peewee
from playhouse.pool import PooledSqliteDatabase

from supervisor.crashpoints import around
from supervisor.ledger.errors import LedgerMissing, LedgerUnusable, NewerLedger
from supervisor.ledger.migrations import LATEST, applied, migrate

#: How long a writer waits for another one, in seconds. Every transaction of ours takes a few milliseconds.
BUSY_SECONDS: Final = 5.0
_RETRY_SECONDS: Final = 0.02

_DRIVER_ERRORS = (peewee.DatabaseError, peewee.InterfaceError, sqlite3.Error)


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn what the driver and the file system raise into LedgerUnusable with the first cause as its reason.

    IntegrityError is let through: the code is wrong then, not the file.
    """
    try:
        yield
    except peewee.IntegrityError:
        raise
    except _DRIVER_ERRORS as error:
        raise LedgerUnusable(path, _first_cause(error)) from error
    except OSError as error:
        raise LedgerUnusable(path, error.strerror or str(error)) from error


def _first_cause(error: BaseException) -> str:
    # SQLite ends a transaction by itself when the disk is full; the ROLLBACK that follows fails, too, and hides why.
    while isinstance(error.__context__, _DRIVER_ERRORS):
        error = error.__context__
    return str(error)


class ReadOnlyDatabase(peewee.SqliteDatabase):
    """Reads a file without writing, locking out or leaving anything beside it, whether or not a writer lives.

    A database in WAL mode normally needs its ``-wal`` and ``-shm`` files, and a reader makes them when they are
    missing. Without a ``-wal`` file there is no writer and everything stands in the main file, so it is read as
    immutable. That can change at any time: a connection is for one operation.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self._path = path

    def _connect(self) -> sqlite3.Connection:
        alive = Path(f"{self._path}-wal").exists()
        uri = f"file:{quote(str(self._path))}?mode=ro" + ("" if alive else "&immutable=1")
        connection = sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None)
        # What a file says is data: a view or trigger planted in it may not call functions with side effects.
        connection.execute("PRAGMA trusted_schema = OFF")
        return connection


def reader(path: Path) -> ReadOnlyDatabase:
    """An existing ledger of this version, for reading.

    Raises LedgerMissing, NewerLedger, or LedgerUnusable.
    """
    with translated(path):
        exists = path.exists()
    if not exists:
        raise LedgerMissing(path)
    database = ReadOnlyDatabase(path)
    if _version(path, database) < LATEST:
        raise LedgerUnusable(path, "it was not set up by this version yet; start the supervisor first")
    return database


def writer(path: Path, clock: Callable[[], float]) -> PooledSqliteDatabase:
    """A ledger for writing, made or migrated where needed. A newer one is refused before anything is touched.

    Raises NewerLedger, or LedgerUnusable.
    """
    with translated(path):
        written = path.is_file() and path.stat().st_size > 0
    if written:
        _version(path, ReadOnlyDatabase(path))
    database = PooledSqliteDatabase(
        str(path),
        pragmas={"busy_timeout": int(BUSY_SECONDS * 1000), "synchronous": "NORMAL", "foreign_keys": 1},
        lock_type="IMMEDIATE",
        check_same_thread=False,  # the pool hands a connection from thread to thread, never to two at once
    )
    try:
        with around("ledger.migrate"), translated(path), database.connection_context():
            _use_write_ahead_log(path, database)
            migrate(database, clock)
    except BaseException:
        database.close_all()
        raise
    return database


def _version(path: Path, database: ReadOnlyDatabase) -> int:
    """The number of the file's last migration; raises NewerLedger, or LedgerUnusable."""
    try:
        with translated(path), database.connection_context():
            found = applied(database)
    except ValueError as error:
        raise LedgerUnusable(path, str(error)) from error
    if found > LATEST:
        raise NewerLedger(path, found, LATEST)
    return found


def _use_write_ahead_log(path: Path, database: PooledSqliteDatabase) -> None:
    # SQLite does not wait for its busy timeout here, so two processes that make the file at once have to.
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            mode = database.pragma("journal_mode", "wal")
            break
        except peewee.OperationalError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(_RETRY_SECONDS)
    if mode != "wal":
        raise LedgerUnusable(path, "its file system cannot hold a write-ahead log")
