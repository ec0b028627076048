"""The lease and how it moves, driven by hand: no roll-out runs beside these tests."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from supervisor import sessions
from supervisor.contract import EventType, Role
from supervisor.engine import EngineUnreachable
from supervisor.ledger import NewKept, Update, WorkerRow
from supervisor.workers.pool import NoPoll, Stopping, WorkerFailed, WorkerLate
from tests.supervisor.fakes.installation import Installation
from tests.supervisor.fakes.supervisors import Supervisor
from tests.supervisor.fakes.workers import Behaviour


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    with Installation(tmp_path / "home") as made:
        yield made


@pytest.fixture
def supervisor(installation: Installation) -> Supervisor:
    return installation.start(rolling=False)


def worker(
    installation: Installation, supervisor: Supervisor, *behaviours: Behaviour, of: Update | None = None
) -> WorkerRow:
    """A worker that was started, of a revision of its own or of the given one."""
    update = of or installation.staged()
    installation.behaviours[update.sha or ""] = list(behaviours)
    return supervisor.pool.start(update.revision)


def active(installation: Installation, supervisor: Supervisor, *behaviours: Behaviour) -> WorkerRow:
    """A worker that holds the lease."""
    row = worker(installation, supervisor, *behaviours)
    supervisor.pool.settle(row)
    supervisor.pool.hand_over(row)
    return row


def test_the_lease_moves_in_one_order_only(installation: Installation, supervisor: Supervisor) -> None:
    """Drain, release, grant, activate: in the ledger, and nobody is active between the two."""
    blue = active(installation, supervisor)
    green = worker(installation, supervisor)
    supervisor.pool.settle(green)
    supervisor.pool.hand_over(green)
    events = installation.ledger.events(EventType.WORKER_DRAINED, EventType.LEASE_GRANTED, EventType.WORKER_ACTIVATED)
    assert [(event.event_type, event.payload["worker_id"]) for event in events[-3:]] == [
        (EventType.WORKER_DRAINED, blue.worker_id),
        (EventType.LEASE_GRANTED, green.worker_id),
        (EventType.WORKER_ACTIVATED, green.worker_id),
    ]
    assert [(m.worker_id, m.active, m.epoch) for m in installation.activity.moments] == [
        (blue.worker_id, True, 1),
        (blue.worker_id, False, 1),
        (green.worker_id, True, 2),
    ]
    holder = supervisor.pool.holder()
    assert holder is not None
    assert holder.worker_id == green.worker_id


def test_the_former_holder_stands_by(installation: Installation, supervisor: Supervisor) -> None:
    """It is told so, and may be made active again with a later epoch."""
    blue = active(installation, supervisor)
    green = worker(installation, supervisor)
    supervisor.pool.settle(green)
    supervisor.pool.hand_over(green)
    session = supervisor.pool.session(blue)
    assert session is not None
    assert session.grant.role is Role.STANDBY
    supervisor.pool.hand_over(blue)
    assert installation.activity.epochs == [1, 2, 3]


@pytest.mark.parametrize("kept", [False, True])
def test_the_grant_says_whether_updates_were_kept(
    installation: Installation, supervisor: Supervisor, kept: bool
) -> None:
    """So that a new holder need not ask; one that is confirmed may have been told before, and asks."""
    if kept:
        installation.ledger.keep("telegram:1", [NewKept(1, "{}")])
    blue = active(installation, supervisor)
    session = supervisor.pool.session(blue)
    assert session is not None
    assert session.grant.kept is kept
    supervisor.pool.hand_over(blue)
    session = supervisor.pool.session(blue)
    assert session is not None
    assert session.grant.kept is None


def test_a_holder_is_confirmed_with_the_epoch_that_it_has(installation: Installation, supervisor: Supervisor) -> None:
    """Handing over to the one who holds the lease grants nothing new; it is how a cut hand-over goes on."""
    blue = active(installation, supervisor)
    supervisor.pool.hand_over(blue)
    assert installation.activity.epochs == [1]
    assert len(installation.told(EventType.LEASE_GRANTED)) == 1


def test_at_once_means_that_the_holder_is_killed(installation: Installation, supervisor: Supervisor) -> None:
    """No drain is waited for, and it is seen dead before the grant."""
    blue = active(installation, supervisor, Behaviour(work_in_hand=30))
    green = worker(installation, supervisor)
    supervisor.pool.settle(green)
    started = time.monotonic()
    supervisor.pool.hand_over(green, at_once=True)
    assert time.monotonic() - started < 0.5
    granted = installation.ledger.events(EventType.LEASE_GRANTED, newest_first=True, limit=1)[0]
    assert installation.activity.let_go_at(blue.worker_id) <= granted.timestamp
    assert installation.told(EventType.WORKER_DRAINED) == []


def test_the_drain_is_told_its_deadline(installation: Installation, supervisor: Supervisor) -> None:
    """So that the worker can cut its run in time."""
    blue = active(installation, supervisor, Behaviour(work_in_hand=0.3))
    green = worker(installation, supervisor)
    supervisor.pool.settle(green)
    moving = threading.Thread(target=supervisor.pool.hand_over, args=(green,))
    moving.start()
    installation.until(lambda: supervisor.sessions.get(blue.worker_id).grant.role is Role.DRAIN)  # type: ignore[union-attr]
    session = supervisor.pool.session(blue)
    assert session is not None
    assert session.grant.deadline_seconds == installation.settings.drain_seconds
    moving.join(5)


def test_a_holder_that_dies_in_its_drain_is_not_waited_for(installation: Installation, supervisor: Supervisor) -> None:
    """Its death is as good as its release."""
    installation.change(drain_seconds=30)
    supervisor.stop()
    supervisor = installation.start(rolling=False)
    blue = active(installation, supervisor, Behaviour(lets_go=False, exits_after=0.2))
    green = worker(installation, supervisor)
    supervisor.pool.settle(green)
    started = time.monotonic()
    supervisor.pool.hand_over(green)
    assert time.monotonic() - started < 2
    assert blue.worker_id not in installation.activity.active()


@pytest.mark.parametrize(
    ("dies", "at_once", "code", "reason"),
    [
        (True, False, 5, "exited by itself with code 5"),
        (True, True, 5, "exited by itself with code 5"),
        (False, True, 137, "killed: the lease moved on without it"),
    ],
)
def test_a_former_holder_is_recorded_as_it_ended(
    installation: Installation, supervisor: Supervisor, dies: bool, at_once: bool, code: int, reason: str
) -> None:
    """One that its successor found dead was killed by nobody; one that was killed twice was killed."""
    blue = active(installation, supervisor)
    green = worker(installation, supervisor)
    supervisor.pool.settle(green)
    if dies:
        installation.engine.fail_silently(blue.worker_id)  # the engine's event comes later than the successor
        installation.engine.crash(blue.worker_id, code=5)
    supervisor.pool.hand_over(green, at_once=at_once)
    if not dies:
        supervisor.containers.kill(blue.worker_id, "killed: once more")
    supervisor.pool.retire(blue, reason="no longer needed")
    ended = installation.ledger.worker(blue.worker_id)
    assert (ended.exit_code, ended.reason) == (code, reason)


def test_a_lease_is_not_granted_before_the_killed_holder_is_seen_dead(
    installation: Installation, supervisor: Supervisor
) -> None:
    """An engine that cannot say so keeps the lease where it is."""
    from supervisor.engine import EngineUnreachable

    active(installation, supervisor, Behaviour(lets_go=False))
    green = worker(installation, supervisor)
    supervisor.pool.settle(green)
    installation.engine.go_away()
    with pytest.raises(EngineUnreachable):
        supervisor.pool.hand_over(green, at_once=True)
    assert len(installation.told(EventType.LEASE_GRANTED)) == 1


def test_a_successor_that_does_not_take_over_is_late(installation: Installation, supervisor: Supervisor) -> None:
    """It lives and says that it is well, but the lease is not taken up."""
    active(installation, supervisor)
    green = worker(installation, supervisor, Behaviour(takes_over=False))
    supervisor.pool.settle(green)
    with pytest.raises(WorkerLate, match=r"it did not take over within 0\.6 s"):
        supervisor.pool.hand_over(green)


def test_a_worker_that_never_polls_is_told_from_one_that_fails(
    installation: Installation, supervisor: Supervisor
) -> None:
    """NoPoll may be the Bot API's fault; an exit is the worker's."""
    silent = active(installation, supervisor, Behaviour(polls=False))
    with pytest.raises(NoPoll, match="it never polled successfully"):
        supervisor.pool.first_poll(silent)
    dying = worker(installation, supervisor, Behaviour(polls=False, exits_after=0.1))
    supervisor.pool.settle(dying)
    supervisor.pool.hand_over(dying)
    with pytest.raises(WorkerFailed) as failure:
        supervisor.pool.first_poll(dying)
    assert not isinstance(failure.value, WorkerLate)


@pytest.mark.fault(27)
def test_silence_counts_while_the_roll_out_is_busy_elsewhere(
    installation: Installation, supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process listened all the while: a worker that wedged is noticed by the first look after that."""
    monkeypatch.setattr(sessions, "LOST_AFTER_SECONDS", 0.8)
    monkeypatch.setattr(sessions, "OWN_SILENCE_SECONDS", 0.6)
    row = active(installation, supervisor, Behaviour(polls=False, wedges_after=0.1))
    time.sleep(1.2)
    with pytest.raises(WorkerFailed, match="no beat from its loop"):
        supervisor.pool.first_poll(row)


def test_a_worker_is_settled_only_when_it_stays_well(installation: Installation, supervisor: Supervisor) -> None:
    """Ready is recorded once; one that comes up and goes again at once is refused."""
    row = worker(installation, supervisor)
    supervisor.pool.settle(row)
    supervisor.pool.settle(installation.ledger.worker(row.worker_id))
    assert len(installation.told(EventType.WORKER_READY)) == 1


def test_a_wait_ends_when_the_supervisor_does(installation: Installation, supervisor: Supervisor) -> None:
    """Nobody is blamed for what was cut short."""
    row = worker(installation, supervisor, Behaviour(gets_ready=False))
    threading.Timer(0.1, supervisor.ask_to_stop).start()
    with pytest.raises(Stopping):
        supervisor.pool.settle(row)


def test_the_newest_well_worker_of_a_revision_is_chosen(installation: Installation, supervisor: Supervisor) -> None:
    """One that has died is passed over, though the ledger has no word of its end yet."""
    update = installation.staged()
    older, newer = (worker(installation, supervisor, of=update) for _ in range(2))
    for row in (older, newer):
        supervisor.pool.settle(row)
    chosen = supervisor.pool.living(str(update.sha))
    assert chosen is not None
    assert chosen.worker_id == newer.worker_id
    installation.engine.crash(newer.worker_id)
    installation.until(lambda: supervisor.containers.died(newer.worker_id))
    chosen = supervisor.pool.living(str(update.sha))
    assert chosen is not None
    assert chosen.worker_id == older.worker_id
    assert supervisor.pool.living("f" * 40) is None


def test_a_worker_that_cannot_be_started_leaves_nothing_behind(
    installation: Installation, supervisor: Supervisor
) -> None:
    """No container, no open credential; its row says why."""
    from supervisor.engine import ImageMissing

    update = installation.staged()
    installation.engine.remove_image(update.image_id or "")
    with pytest.raises(ImageMissing):
        supervisor.pool.start(update.revision)
    assert installation.engine.containers("fake") == []
    assert installation.ledger.living_workers() == []
    assert supervisor.sessions.all() == []
    exited = installation.told(EventType.WORKER_EXITED)[-1]
    assert str(exited["reason"]).startswith("not started: no such image")


def test_retiring_ends_both_containers_and_the_credential(installation: Installation, supervisor: Supervisor) -> None:
    """What is put away cannot speak any more; doing it twice changes nothing."""
    row = worker(installation, supervisor)
    supervisor.pool.settle(row)
    assert len(installation.engine.containers("fake")) == 2
    for _ in range(2):
        supervisor.pool.retire(row, reason="no longer needed")
    assert installation.engine.containers("fake") == []
    assert supervisor.pool.session(row) is None
    ended = installation.ledger.worker(row.worker_id)
    assert (ended.exit_code, ended.reason, ended.crashed) == (0, "no longer needed", False)
    assert len(installation.told(EventType.WORKER_EXITED)) == 1


def test_the_end_of_a_worker_is_when_its_process_ended(installation: Installation, supervisor: Supervisor) -> None:
    """Not when it was put away, which may be long after a hand-over; it was up until then and no longer."""
    row = worker(installation, supervisor)
    supervisor.pool.settle(row)
    before = time.time()
    installation.engine.crash(row.worker_id)
    after = time.time()
    time.sleep(0.1)
    supervisor.pool.retire(row, reason="no longer needed")
    event = installation.ledger.events(EventType.WORKER_EXITED)[-1]
    ended_at = event.payload["ended_at"]
    assert isinstance(ended_at, float)
    assert before <= ended_at <= after < event.timestamp - 0.09
    uptime = event.payload["uptime_seconds"]
    assert isinstance(uptime, float)
    assert uptime <= round(after - installation.ledger.worker(row.worker_id).spawned_at, 3)


# -- the engine goes away


def goes_away_at(installation: Installation, method: str) -> None:
    """The next call of this method finds no engine any more, nor does any other until it comes back."""
    at = getattr(installation.engine, method)

    def gone(*arguments: object) -> object:
        installation.engine.go_away()
        setattr(installation.engine, method, at)
        return at(*arguments)

    setattr(installation.engine, method, gone)


def test_a_worker_that_was_registered_and_never_made_is_not_taken_for_one(
    installation: Installation, supervisor: Supervisor
) -> None:
    """The engine went away before its container was there: it is nobody to wait for, and another one is started."""
    update = installation.staged()
    goes_away_at(installation, "run")
    with pytest.raises(EngineUnreachable):
        supervisor.pool.start(update.revision)
    installation.engine.come_back()
    [registered] = [row for row in installation.ledger.living_workers() if row.sha == update.sha]
    assert supervisor.pool.living(update.revision.sha) is None
    assert supervisor.pool.bring_up(update.revision, excuse=lambda: "").worker_id != registered.worker_id
    assert installation.ledger.crashes(update.revision.sha, 0) == []


def test_a_worker_that_was_put_away_by_half_is_not_taken_for_one(
    installation: Installation, supervisor: Supervisor
) -> None:
    """The engine stopped it and went away before the rest: it is ended when the engine is back."""
    row = worker(installation, supervisor)
    supervisor.pool.settle(row)
    installation.engine.fail_silently(row.worker_id)
    goes_away_at(installation, "remove")
    with pytest.raises(EngineUnreachable):
        supervisor.containers.end(row.worker_id, reason="no longer needed")
    installation.engine.come_back()
    assert supervisor.pool.living(row.sha) is None
    assert not supervisor.pool.retire_ailing(row.sha)
    assert installation.ledger.worker(row.worker_id).exited_at is not None


def test_a_dead_worker_is_put_away_though_its_log_cannot_be_kept(
    installation: Installation, supervisor: Supervisor
) -> None:
    """A log is worth less than the next worker."""
    row = active(installation, supervisor)
    (installation.settings.paths.logs / "workers").write_text("in the way")
    installation.engine.crash(row.worker_id)
    supervisor.containers.end(row.worker_id, reason="it died")
    assert installation.engine.inspect(row.worker_id) is None
    assert installation.ledger.worker(row.worker_id).exited_at is not None


def test_a_worker_that_is_being_started_is_not_put_away(
    installation: Installation, supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another thread looks right after it was recorded, when nothing else of it is there."""
    blue, update = active(installation, supervisor), installation.staged()
    opened = supervisor.sessions.open

    def look_and_open(*given: Any, **named: Any) -> None:
        supervisor.pool.retire_all_but(blue, None, reason="no longer needed")
        supervisor.pool.retire_ailing(update.revision.sha)
        opened(*given, **named)

    monkeypatch.setattr(supervisor.sessions, "open", look_and_open)
    row = supervisor.pool.start(update.revision)
    supervisor.pool.settle(row)
    assert installation.ledger.worker(row.worker_id).exited_at is None
    supervisor.pool.retire_all_but(blue, reason="no longer needed")
    assert installation.ledger.worker(row.worker_id).exited_at is not None
