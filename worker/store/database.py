"""The SQLite file: how it is opened, migrated and written.

All calls are made from the event loop's thread. Each takes well under a millisecond; while another worker migrates
or commits, a write waits for at most BUSY_TIMEOUT_MS.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from peewee import DatabaseError, SqliteDatabase

from worker.store.errors import Fenced, StoreUnusable
from worker.store.migrations import MIGRATIONS
from worker.store.tables import TABLES, LeaseRow, MigrationRow

BUSY_TIMEOUT_MS: Final = 2000
LEASE_ID: Final = 1


class Database:
    """One connection, and the epoch under which it may write.

    ``clock`` gives seconds since the Unix epoch. Raises StoreUnusable when the file cannot be opened.
    """

    def __init__(self, path: Path, clock: Callable[[], float]) -> None:
        self.epoch: int | None = None
        self.path = path
        self._clock = clock
        pragmas = {
            "busy_timeout": BUSY_TIMEOUT_MS,
            "journal_mode": "wal",
            "synchronous": "normal",
            "foreign_keys": 1,
        }
        self._sqlite = SqliteDatabase(str(path), pragmas=pragmas, lock_type="IMMEDIATE")
        self._select_epoch = f"SELECT epoch FROM lease WHERE id = {LEASE_ID}"  # noqa: S608 - a number of ours
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._sqlite.connect()
        except (OSError, DatabaseError) as error:
            raise self._unusable(error) from error

    def migrate(self, migrations: Mapping[int, tuple[str, ...]] = MIGRATIONS) -> int:
        """Apply what is missing, each migration in a transaction of its own; gives the number of the last one.

        A database that a later revision migrated is left as it is.
        """
        try:
            self.execute("CREATE TABLE IF NOT EXISTS migrations (number INTEGER PRIMARY KEY, applied_at REAL NOT NULL)")
            for number in sorted(migrations.keys() - self._applied()):
                with self.transaction():
                    if number in self._applied():  # another worker was quicker
                        continue
                    for statement in migrations[number]:
                        self.execute(statement)
                    MigrationRow.insert(number=number, applied_at=self._clock()).execute()
            return max(self._applied())
        except DatabaseError as error:
            raise self._unusable(error) from error

    def bind(self) -> None:
        """Let queries go to this file; to be called before each, as several workers may live in one test."""
        if LeaseRow._meta.database is not self._sqlite:
            self._sqlite.bind(TABLES, bind_refs=False, bind_backrefs=False)

    @contextmanager
    def write(self, *, durable: bool = False) -> Iterator[None]:
        """One transaction of the lease's holder; inside another one, a part of that.

        ``durable`` waits for the disk, so that a power cut cannot take back what was acknowledged elsewhere.
        Raises Fenced, and writes nothing, when this worker does not hold the latest lease.
        """
        if self._sqlite.in_transaction():
            yield
            return
        if durable:
            self._sqlite.pragma("synchronous", "full")
        try:
            with self.transaction():
                theirs = self.stored_epoch()
                if self.epoch != theirs:
                    raise Fenced(self.epoch, theirs)
                yield
        finally:
            if durable:
                self._sqlite.pragma("synchronous", "normal")

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """A part of the transaction that is under way: an exception undoes what was written inside, and no more."""
        with self._sqlite.savepoint():
            yield

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """An IMMEDIATE transaction without a look at the lease."""
        self.bind()
        with self._sqlite.atomic():
            yield

    def stored_epoch(self) -> int:
        """The latest epoch that a worker wrote into this file."""
        row = self.first(self._select_epoch)
        return int(row[0]) if row else 0

    def execute(self, sql: str, parameters: tuple[object, ...] = ()) -> None:
        """Execute SQL that is ready made, for what happens too often to build it anew each time."""
        self._sqlite.execute_sql(sql, parameters)  # type: ignore[no-untyped-call]

    def first(self, sql: str, parameters: tuple[object, ...] = ()) -> tuple[Any, ...] | None:
        """The first row of a ready made query, for what is asked too often to build it anew each time."""
        row: tuple[Any, ...] | None = self._sqlite.execute_sql(sql, parameters).fetchone()  # type: ignore[no-untyped-call]
        return row

    def cursor(self, sql: str, parameters: tuple[object, ...] = ()) -> Any:
        """The cursor of a ready made query, to be read and closed at once."""
        return self._sqlite.execute_sql(sql, parameters)  # type: ignore[no-untyped-call]

    def close(self) -> None:
        """Close the connection."""
        self._sqlite.close()

    def _applied(self) -> set[int]:
        self.bind()
        return {row.number for row in MigrationRow.select()}

    def _unusable(self, error: Exception) -> StoreUnusable:
        return StoreUnusable(f"AUTONOUS_DB_PATH={self.path} cannot be used as a database: {error}")
