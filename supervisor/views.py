"""What ``status`` and ``history`` show, as plain data for ``--json``."""

import time
from collections.abc import Callable
from typing import Any, Final

from supervisor.contract import WorkerState
from supervisor.ledger import Ledger, Update, WorkerRow
from supervisor.sessions import Session
from supervisor.states import PENDING

SessionOf = Callable[[str], Session | None]
ContainerRuns = Callable[[str], bool | None]


def status(
    ledger: Ledger,
    *,
    running: bool,
    session_of: SessionOf = lambda _: None,
    container_runs: ContainerRuns = lambda _: None,
    paused: str = "",
) -> dict[str, Any]:
    """Who is active, who stands by, what waits.

    ``session_of`` gives what a worker says of itself, None for one that nobody heard of; ``container_runs`` is asked
    where no supervisor is ``running``, and gives None when it cannot tell. ``paused`` says why the pipeline waits.
    """

    def health(worker: WorkerRow) -> str:
        return (
            _health(session_of(worker.worker_id)) if running else _unwatched(worker, container_runs(worker.worker_id))
        )

    lease = ledger.lease()
    living = {row.worker_id: row for row in ledger.living_workers()}
    active = living.get(lease.worker_id) if lease else None
    good = ledger.good_sha()
    base = ledger.revision((active.sha if active else good) or "").base_sha if good else None
    others = [row for row in living.values() if row is not active]
    standby = next((row for row in reversed(others) if row.sha == base), None) or (others[-1] if others else None)
    shown: dict[str, Any] = {
        "running": running,
        "active": None,
        "standby": None,
        "previous": None,
        "pending": [_pending(update) for update in ledger.having(*PENDING)],
    }
    if active is not None and lease is not None:
        shown["active"] = {**_worker(active), "health": health(active), "epoch": lease.epoch, "since": lease.granted_at}
    if standby is not None:
        shown["standby"] = {**_worker(standby), "health": health(standby), "since": standby.spawned_at}
    if base:
        previous = ledger.revision(base)
        shown["previous"] = {"sha": previous.sha, "tx_id": previous.tx_id, "image_id": previous.image_id}
    if paused:
        shown["paused"] = paused
    return shown


def history(ledger: Ledger) -> list[dict[str, Any]]:
    """All updates with their images, newest first."""
    updates = ledger.updates()
    good = ledger.good_sha()
    base = next((u.base_sha for u in updates if u.sha == good), None)
    return [
        _entry(update, active=update.sha == good, n_minus_1=bool(base) and update.sha == base) for update in updates
    ]


def _entry(update: Update, *, active: bool, n_minus_1: bool) -> dict[str, Any]:
    tests = update.test_summary or {}
    return {
        "tx_id": update.tx_id,
        "status": update.status,
        "title": update.title,
        "sha": update.sha,
        "base_sha": update.base_sha,
        "image_id": update.image_id,
        "image_tag": update.image_tag,
        "size_bytes": update.size_bytes,
        "unique_bytes": update.unique_bytes,
        "created_at": update.created_at,
        "build_seconds": _between(update.build_started_at, update.build_finished_at),
        "test_seconds": _between(update.test_started_at, update.test_finished_at),
        "tests": {key: tests.get(key, 0) for key in _TEST_COUNTS} if tests else None,
        "approved_by": update.approval_by,
        "deployed_at": update.deploy_finished_at,
        "promoted_at": update.promoted_at,
        "active": active and bool(update.sha),
        "n_minus_1": n_minus_1,
        "reason": (update.last_error or "").partition("\n")[0],
    }


_TEST_COUNTS: Final = ("passed", "failed", "skipped")


def _pending(update: Update) -> dict[str, Any]:
    return {"tx_id": update.tx_id, "status": update.status, "title": update.title, "sha": update.sha}


def _worker(row: WorkerRow) -> dict[str, Any]:
    return {"sha": row.sha, "tx_id": row.tx_id, "container": row.worker_id}


def _unwatched(worker: WorkerRow, runs: bool | None) -> str:
    """Nobody hears its beat: it is as well as can be told from outside when it came up once and its process lives."""
    if runs is None:
        return "starting"
    if not runs:
        return "unhealthy"
    return "healthy" if worker.ready_at else "starting"


def _health(session: Session | None) -> str:
    if session is None or session.last_beat is None or session.state is WorkerState.STARTING:
        return "starting"
    return "healthy" if session.healthy(time.monotonic()) else "unhealthy"


def _between(start: float | None, end: float | None) -> float | None:
    return round(end - start, 3) if start and end else None
