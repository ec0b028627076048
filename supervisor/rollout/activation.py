"""Who comes next: the lease goes to a worker of a given revision, whatever that takes."""

import structlog

from supervisor.ledger import Ledger, Revision, WorkerRow
from supervisor.outages import OutageMonitor
from supervisor.rollout.rebuild import Rebuilder
from supervisor.workers.containers import WorkerContainers
from supervisor.workers.pool import WorkerFailed, WorkerPool

_LOG = structlog.get_logger()


class Activation:
    """Makes a revision the active one, with a worker that stands by or a new one."""

    def __init__(
        self,
        *,
        pool: WorkerPool,
        containers: WorkerContainers,
        ledger: Ledger,
        rebuilder: Rebuilder,
        outages: OutageMonitor,
    ) -> None:
        self._pool = pool
        self._containers = containers
        self._ledger = ledger
        self._rebuilder = rebuilder
        self._outages = outages
        #: Why no worker is up, in one line, since the last one was; empty while nothing went wrong.
        self.trouble = ""

    def good(self) -> Revision:
        """The revision that is to be active when nothing else is in hand."""
        return self._ledger.good_revision()

    def make_active(self, revision: Revision, *, at_once: bool) -> None:
        """Give the lease to a worker of this revision, started if there is none.

        A worker that had stood by and fails now says nothing about the revision: a new one is tried once. Raises
        WorkerFailed, EngineError.
        """
        self._make_active(self._rebuilder.ensure_image(revision), at_once=at_once)
        self.trouble = ""

    def _make_active(self, revision: Revision, *, at_once: bool) -> None:
        if standby := self._pool.living(revision.sha):
            try:
                self._take_over(standby, at_once=at_once)
            except WorkerFailed as failure:
                _LOG.warning("a worker that stood by failed; a new one is tried", error=str(failure))
            else:
                return
        self._take_over(self._pool.start(revision), at_once=at_once)

    def evidence(self, worker: WorkerRow | None, failure: object) -> str:
        """A failure, with the last words of the worker that it was about."""
        words = self._containers.last_words(worker.worker_id) if worker is not None else ""
        return f"{failure}\n{words}".strip()

    def _take_over(self, worker: WorkerRow, *, at_once: bool) -> None:
        try:
            self._pool.settle(worker)
            self._pool.hand_over(worker, at_once=at_once)
        except WorkerFailed as failure:
            self._pool.retire(worker, reason=str(failure), crashed=not self._outages.excuse())
            raise
