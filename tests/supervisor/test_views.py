"""What ``status --json`` and ``history --json`` show: their keys, and what they make of ledger and sessions."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from supervisor import views
from supervisor.contract import Announcement, Beat, Role, RoleGrant, WorkerState
from supervisor.ledger import Ledger, NewWorker, Update, WorkerRow
from supervisor.sessions import Session
from supervisor.states import PENDING, Status
from tests.supervisor.fakes.updates import genesis, update_in

S = Status
ACTIVE = {"sha", "tx_id", "container", "health", "epoch", "since"}
STATUS = {"running", "active", "standby", "previous", "pending"}
HISTORY = {
    "tx_id",
    "status",
    "title",
    "sha",
    "base_sha",
    "image_id",
    "image_tag",
    "size_bytes",
    "unique_bytes",
    "created_at",
    "build_seconds",
    "test_seconds",
    "tests",
    "approved_by",
    "deployed_at",
    "promoted_at",
    "active",
    "n_minus_1",
    "reason",
}


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(tmp_path / "supervisor.db") as opened:
        yield opened


def worker(ledger: Ledger, update: Update, name: str, *, lease: bool = False, ready: bool = True) -> WorkerRow:
    """A living worker of an update."""
    new = NewWorker(
        worker_id=name, tx_id=update.tx_id, sha=str(update.sha), image_id=str(update.image_id), credential=name
    )
    row = ledger.register_worker(new)
    if ready:
        ledger.worker_ready(name)
    if lease:
        ledger.grant_lease(name)
    return row


def session(row: WorkerRow, **changes: Any) -> Session:
    """What a worker in good health says."""
    said: dict[str, Any] = {
        "announcement": Announcement(
            sha=row.sha, version="0", pid=1, schema_version=1, provider="dummy", source="dummy"
        ),
        "grant": RoleGrant(role=Role.ACTIVE, epoch=1),
        "beat": Beat(state=WorkerState.ACTIVE, epoch=1),
        "last_beat": time.monotonic(),
        "heard_since": time.monotonic(),
    }
    return Session(row.worker_id, row.sha, row.instance, "hash", **{**said, **changes})


def shown(ledger: Ledger, **options: Any) -> dict[str, Any]:
    """The status as a program reads it."""
    read: dict[str, Any] = json.loads(json.dumps(views.status(ledger, **{"running": True, **options})))
    return read


# -- status


def test_an_empty_ledger_has_a_status(ledger: Ledger) -> None:
    """Before the first revision there is nothing to show, and that is shown."""
    assert shown(ledger, running=False) == {
        "running": False,
        "active": None,
        "standby": None,
        "previous": None,
        "pending": [],
    }


def test_the_status_has_the_keys_that_programs_read(ledger: Ledger) -> None:
    """No more and no fewer; a pause adds its reason."""
    first = genesis(ledger)
    update = update_in(ledger, S.PROMOTED, base=first)
    worker(ledger, first, "blue")
    green = worker(ledger, update, "green", lease=True)
    update_in(ledger, S.STAGED, base=update)
    found = shown(ledger, session_of=lambda name: session(green) if name == "green" else None)
    assert set(found) == STATUS
    assert set(found["active"]) == ACTIVE
    assert set(found["standby"]) == ACTIVE - {"epoch"}
    assert set(found["previous"]) == {"sha", "tx_id", "image_id"}
    assert set(found["pending"][0]) == {"tx_id", "status", "title", "sha"}
    assert set(shown(ledger, paused="no space")) == {*STATUS, "paused"}


def test_the_active_worker_is_the_one_with_the_lease(ledger: Ledger) -> None:
    """With its revision, its epoch, and since when."""
    first = genesis(ledger)
    update = update_in(ledger, S.PROMOTED, base=first)
    worker(ledger, first, "blue", lease=True)
    worker(ledger, update, "green", lease=True)
    lease = ledger.lease()
    assert lease is not None
    found = shown(ledger)
    assert found["active"] == {
        "sha": update.sha,
        "tx_id": update.tx_id,
        "container": "green",
        "health": "starting",
        "epoch": 2,
        "since": lease.granted_at,
    }
    assert found["standby"]["container"] == "blue"
    assert found["previous"] == {"sha": first.sha, "tx_id": first.tx_id, "image_id": first.image_id}


def test_a_holder_that_has_ended_is_not_active(ledger: Ledger) -> None:
    """Nobody is, until the lease is granted again."""
    worker(ledger, genesis(ledger), "blue", lease=True)
    ledger.worker_exited("blue", exit_code=1, oom=False, reason="x", uptime_seconds=1)
    assert shown(ledger)["active"] is None


def test_in_a_probation_the_good_revision_stands_by(ledger: Ledger) -> None:
    """Green is active, blue is what one would go back to, and the update is pending."""
    first = genesis(ledger)
    update = update_in(ledger, S.DEPLOYED_UNSTABLE, base=first)
    worker(ledger, first, "blue")
    worker(ledger, update, "green", lease=True)
    found = shown(ledger)
    assert (found["active"]["container"], found["standby"]["container"]) == ("green", "blue")
    assert found["previous"]["sha"] == first.sha
    assert [p["status"] for p in found["pending"]] == ["deployed_unstable"]


def test_of_several_beside_the_active_one_n_minus_1_is_shown(ledger: Ledger) -> None:
    """Also while a candidate has just been started in standby."""
    first = genesis(ledger)
    promoted = update_in(ledger, S.PROMOTED, base=first)
    candidate = update_in(ledger, S.DEPLOYING, base=promoted)
    worker(ledger, first, "blue")
    worker(ledger, promoted, "active", lease=True)
    worker(ledger, candidate, "candidate")
    assert shown(ledger)["standby"]["container"] == "blue"


@pytest.mark.parametrize(
    ("change", "health"),
    [
        ({}, "healthy"),
        ({"beat": Beat(state=WorkerState.STARTING)}, "starting"),
        ({"last_beat": None, "heard_since": None}, "starting"),
        ({"beat": Beat(state=WorkerState.ACTIVE, healthy=False, detail="x")}, "unhealthy"),
        ({"problem": "another sha"}, "unhealthy"),
        ({"heard_since": -1000.0, "last_beat": -1000.0}, "unhealthy"),
        ({"announcement": None}, "unhealthy"),
    ],
)
def test_health_is_what_the_session_says(ledger: Ledger, change: dict[str, Any], health: str) -> None:
    """Starting is neither; silent, ill or wrong is unhealthy."""
    row = worker(ledger, genesis(ledger), "blue", lease=True)
    assert shown(ledger, session_of=lambda _: session(row, **change))["active"]["health"] == health


def test_a_worker_that_nobody_heard_of_is_starting(ledger: Ledger) -> None:
    """As after a restart of the supervisor."""
    worker(ledger, genesis(ledger), "blue", lease=True)
    assert shown(ledger, session_of=lambda _: None)["active"]["health"] == "starting"


@pytest.mark.parametrize(
    ("runs", "ready", "health"),
    [(True, True, "healthy"), (True, False, "starting"), (False, True, "unhealthy"), (None, True, "starting")],
)
def test_without_a_supervisor_the_container_tells(ledger: Ledger, runs: bool | None, ready: bool, health: str) -> None:
    """What a session said before says nothing any more."""
    row = worker(ledger, genesis(ledger), "blue", lease=True, ready=ready)
    found = shown(ledger, running=False, session_of=lambda _: session(row), container_runs={"blue": runs}.__getitem__)
    assert found["active"]["health"] == health


@pytest.mark.parametrize("status", list(Status))
def test_what_waits_is_pending(ledger: Ledger, status: Status) -> None:
    """From created to the end of the probation, and on the way back."""
    update = update_in(ledger, status, base=genesis(ledger), title="a title")
    pending = shown(ledger)["pending"]
    if status in PENDING:
        assert pending == [{"tx_id": update.tx_id, "status": str(status), "title": "a title", "sha": update.sha}]
    else:
        assert pending == []


def test_what_waits_is_listed_oldest_first(ledger: Ledger) -> None:
    """In the order in which it will be worked on."""
    first = genesis(ledger)
    ids = [update_in(ledger, S.STAGED, base=first).tx_id for _ in range(3)]
    assert [entry["tx_id"] for entry in shown(ledger)["pending"]] == ids


# -- history


def entries(ledger: Ledger) -> list[dict[str, Any]]:
    read: list[dict[str, Any]] = json.loads(json.dumps(views.history(ledger)))
    return read


@pytest.mark.parametrize("status", list(Status))
def test_every_entry_of_the_history_has_the_keys_that_programs_read(ledger: Ledger, status: Status) -> None:
    """Whatever became of the update; what there is not is null."""
    update_in(ledger, status, base=genesis(ledger))
    for entry in entries(ledger):
        assert set(entry) == HISTORY


def test_the_history_is_newest_first(ledger: Ledger) -> None:
    """Down to the first revision."""
    first = genesis(ledger)
    ids = [first.tx_id, *(update_in(ledger, S.CANCELLED, base=first).tx_id for _ in range(3))]
    assert [entry["tx_id"] for entry in entries(ledger)] == ids[::-1]


def test_an_entry_tells_what_was_measured(ledger: Ledger) -> None:
    """Times as durations, tests as counts, sizes as they were found."""
    first = genesis(ledger)
    update = update_in(ledger, S.STAGED, base=first)
    ledger.amend(
        update.tx_id,
        {
            "build_started_at": 10.0,
            "build_finished_at": 12.3456,
            "test_started_at": 20.0,
            "test_finished_at": 20.5,
            "test_summary": {"passed": 3, "failed": 0, "skipped": 1, "failing": [], "seconds": 0.5},
            "size_bytes": 1000,
            "unique_bytes": 10,
            "approval_by": "owner",
            "deploy_finished_at": 30.0,
            "promoted_at": 60.0,
        },
    )
    entry = entries(ledger)[0]
    assert (entry["build_seconds"], entry["test_seconds"]) == (2.346, 0.5)
    assert entry["tests"] == {"passed": 3, "failed": 0, "skipped": 1}
    assert (entry["size_bytes"], entry["unique_bytes"]) == (1000, 10)
    assert (entry["approved_by"], entry["deployed_at"], entry["promoted_at"]) == ("owner", 30.0, 60.0)
    assert entry["status"] == "staged"
    assert entries(ledger)[1]["tests"] is None


def marks(ledger: Ledger) -> tuple[list[str], list[str]]:
    found = entries(ledger)
    return [e["tx_id"] for e in found if e["active"]], [e["tx_id"] for e in found if e["n_minus_1"]]


def test_the_active_revision_and_n_minus_1_are_marked(ledger: Ledger) -> None:
    """One of each at most, after every step of a way forward and back."""
    first = genesis(ledger)
    assert marks(ledger) == ([first.tx_id], [])
    second = update_in(ledger, S.PROMOTED, base=first)
    assert marks(ledger) == ([second.tx_id], [first.tx_id])
    update_in(ledger, S.REFUSED, base=second)
    update_in(ledger, S.BUILD_FAILED, base=second)
    update_in(ledger, S.STAGED, base=second)
    assert marks(ledger) == ([second.tx_id], [first.tx_id])
    update_in(ledger, S.ROLLED_BACK, base=second)
    assert marks(ledger) == ([second.tx_id], [first.tx_id])
    third = update_in(ledger, S.PROMOTED, base=second)
    assert marks(ledger) == ([third.tx_id], [second.tx_id])
