"""N-1 stands by: brought up beside whatever else goes on, because its image may have to be built and examined first."""

import threading
from collections.abc import Callable

import structlog

from supervisor.engine import EngineError
from supervisor.ledger import Ledger, LedgerError
from supervisor.outages import OutageMonitor
from supervisor.rollout.rebuild import Rebuilder
from supervisor.timing import Clocks, Timing
from supervisor.workers.pool import Stopping, WorkerFailed, WorkerPool

_LOG = structlog.get_logger()

#: Has something done; the service in a thread.
Beside = Callable[[Callable[[], None]], None]


def in_thread(work: Callable[[], None]) -> None:
    """Beside whatever else goes on."""
    threading.Thread(target=work, name="standby", daemon=True).start()


class Standby:
    """Keeps a worker of one revision up. One that fails or does not stay is tried again, ever more slowly."""

    def __init__(
        self,
        *,
        pool: WorkerPool,
        ledger: Ledger,
        rebuilder: Rebuilder,
        outages: OutageMonitor,
        clocks: Clocks,
        timing: Timing,
        beside: Beside = in_thread,
    ) -> None:
        self._pool = pool
        self._ledger = ledger
        self._rebuilder = rebuilder
        self._outages = outages
        self._clocks = clocks
        self._timing = timing
        self._beside = beside
        self._busy = threading.Lock()
        self._begun_at = float("-inf")
        self._wait = 0.0

    def keep(self, sha: str | None) -> None:
        """See to it that a worker of this revision stands by. Returns at once; there may be none for a while."""
        if not sha or self._busy.locked() or self._clocks.monotonic() < self._begun_at + self._wait:
            return
        worker = self._pool.living(sha)
        if worker is not None and worker.ready_at is not None:
            return
        now, retry = self._clocks.monotonic(), self._timing.standby_retry
        # The one before did not stay for long: the next pause is longer.
        briefly = now - self._begun_at < max(retry, 2 * self._wait)
        self._wait = min(max(retry, 2 * self._wait), self._timing.slowest_standby) if briefly else 0.0
        self._begun_at = now
        if self._busy.acquire(blocking=False):
            self._beside(lambda: self._bring_up(sha))

    def replace(self, sha: str | None) -> None:
        """The same, but one with former settings will do: it is what a green that fails is given up for."""
        if sha and not self._pool.retire_ailing(sha):
            self.keep(sha)

    def finish(self, seconds: float) -> None:
        """Wait for what is being brought up, at most so long; when the supervisor is to stop, no worker comes of it."""
        if self._busy.acquire(timeout=seconds):
            self._busy.release()

    def _bring_up(self, sha: str) -> None:
        try:
            revision = self._rebuilder.ensure_image(self._ledger.revision(sha))
            self._pool.bring_up(revision, excuse=self._outages.excuse)
        except Stopping:
            return
        except (WorkerFailed, EngineError, LedgerError) as failure:
            _LOG.warning("N-1 does not come up", sha=sha[:12], error=str(failure))
            self._wait = max(self._wait, self._timing.standby_retry)
        finally:
            self._busy.release()
