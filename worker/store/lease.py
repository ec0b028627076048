"""The worker's side of the lease: its epoch in ``agent.db``."""

from collections.abc import Callable

from worker.store.database import LEASE_ID, Database
from worker.store.errors import Fenced
from worker.store.tables import LeaseRow


class Lease:
    """Whether this worker may write. ``clock`` gives seconds since the Unix epoch."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    @property
    def epoch(self) -> int | None:
        """The epoch that this worker holds, None when it holds none."""
        return self._database.epoch

    def take(self, epoch: int) -> None:
        """Raise the epoch in the database; from now on every other holder's writes fail.

        Raises Fenced when the database has a later one already.
        """
        with self._database.transaction():
            stored = self._database.stored_epoch()
            if stored > epoch:
                raise Fenced(epoch, stored)
            LeaseRow.update(epoch=epoch, updated_at=self._clock()).where(LeaseRow.id == LEASE_ID).execute()
        self._database.epoch = epoch

    def stored(self) -> int:
        """The latest epoch that a worker took."""
        return self._database.stored_epoch()

    def release(self) -> None:
        """Hold nothing any more."""
        self._database.epoch = None
