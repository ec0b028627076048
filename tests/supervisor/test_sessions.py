"""What workers say of themselves and which role each has; and the signal that nobody sleeps through."""

import threading
import time
from collections.abc import Callable

import pytest

from supervisor.contract import Announcement, Beat, Problem, Role, Welcome, WorkerState
from supervisor.sessions import (
    BEAT_SECONDS,
    FOUND_AFTER_SECONDS,
    LOST_AFTER_SECONDS,
    OWN_SILENCE_SECONDS,
    Session,
    Sessions,
    Signal,
    credential_hash,
)

SHA = "a" * 40
W = WorkerState


class Clock:
    """A monotonic clock that a test sets by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Desk:
    """Sessions of one worker, on a clock set by hand."""

    def __init__(self, *, role: Role = Role.STANDBY, epoch: int | None = None, adopted: bool = False) -> None:
        self.clock = Clock()
        self.signal = Signal()
        self.sessions = Sessions(self.signal, monotonic=self.clock)
        self.open("w", "secret", role=role, epoch=epoch, adopted=adopted)

    def open(self, worker_id: str, credential: str, *, sha: str = SHA, instance: int = 1, **options: object) -> None:
        self.sessions.open(
            worker_id,
            sha=sha,
            instance=instance,
            credential_hash=credential_hash(credential),
            **options,  # type: ignore[arg-type]
        )

    @property
    def session(self) -> Session:
        found = self.sessions.get("w")
        assert found is not None
        return found

    def announce(self, sha: str = SHA) -> Welcome | Problem:
        told = Announcement(sha=sha, version="0", pid=1, schema_version=1, provider="dummy", source="dummy")
        return self.sessions.announce("w", told)

    def beat(self, state: W = W.STANDBY, **fields: object) -> None:
        assert self.sessions.beat("w", Beat(state=state, **fields)) is not None

    def healthy(self) -> bool:
        return self.session.healthy(self.clock.now)

    def lost(self) -> bool:
        return self.session.lost(self.clock.now)


# -- the signal


def test_a_change_between_the_look_and_the_wait_is_not_slept_through() -> None:
    """Whoever gives the count that it saw does not wait at all when something changed after that."""
    signal = Signal()
    seen = signal.count
    signal.notify()
    started = time.monotonic()
    signal.wait(30, seen)
    assert time.monotonic() - started < 1


def test_a_wait_ends_with_the_change() -> None:
    """A sleeper is woken by a change that another thread makes."""
    signal = Signal()
    started = time.monotonic()
    threading.Timer(0.05, signal.notify).start()
    signal.wait(30, signal.count)
    assert 0.04 < time.monotonic() - started < 5


def test_a_wait_with_nothing_new_lasts_its_time() -> None:
    """No change, no early end."""
    signal = Signal()
    signal.notify()
    started = time.monotonic()
    signal.wait(0.05, signal.count)
    assert time.monotonic() - started >= 0.05


def test_two_threads_that_wake_each_other_never_miss_one() -> None:
    """Thousands of changes are each seen at once: one that was missed would cost 30 seconds."""
    signal = Signal()
    rounds = 2000
    turns: list[int] = []

    def play(side: int) -> None:
        for own in range(side, rounds, 2):
            assert signal.until(lambda own=own: len(turns) == own, 30, at_least_every=30)  # type: ignore[misc]
            turns.append(side)
            signal.notify()

    started = time.monotonic()
    threads = [threading.Thread(target=play, args=(side,)) for side in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert turns == [0, 1] * (rounds // 2)
    assert time.monotonic() - started < 20


def test_all_who_wait_are_woken() -> None:
    """Not only one of them."""
    signal = Signal()
    done = threading.Event()
    woken = []

    def sleep() -> None:
        if signal.until(done.is_set, 30, at_least_every=30):
            woken.append(True)

    threads = [threading.Thread(target=sleep) for _ in range(8)]
    for thread in threads:
        thread.start()
    time.sleep(0.05)
    done.set()
    signal.notify()
    for thread in threads:
        thread.join(10)
    assert len(woken) == 8


def test_until_gives_what_was_said_last() -> None:
    """True as soon as it holds, also when it does from the start; false when the time is over."""
    signal = Signal()
    assert signal.until(lambda: True, 0)
    assert not signal.until(lambda: False, 0.02)


def test_until_looks_again_though_nobody_told() -> None:
    """What changes without a notification is seen after the shorter interval."""
    started = time.monotonic()
    assert Signal().until(lambda: time.monotonic() - started > 0.05, 10, at_least_every=0.02)
    assert time.monotonic() - started < 5


# -- healthy and lost


def test_a_new_worker_is_neither_healthy_nor_lost() -> None:
    """It may take its time to come up; that is for its starter to limit."""
    desk = Desk()
    desk.clock.now += 3600
    assert not desk.healthy()
    assert not desk.lost()


def test_a_worker_is_healthy_once_it_announced_itself_and_beats() -> None:
    """Neither of the two is enough by itself, and starting is not well."""
    desk = Desk()
    desk.announce()
    assert not desk.healthy()
    desk.beat(W.STARTING)
    assert not desk.healthy()
    desk.beat(W.STANDBY)
    assert desk.healthy()
    unannounced = Desk()
    unannounced.beat(W.STANDBY)
    assert not unannounced.healthy()


def test_a_worker_that_says_it_is_not_well_is_not_healthy() -> None:
    """And is again, as soon as it says so."""
    desk = Desk()
    desk.announce()
    desk.beat(healthy=False, detail="disk I/O error")
    assert not desk.healthy()
    assert not desk.lost()
    desk.beat()
    assert desk.healthy()


@pytest.mark.parametrize(("silent", "lost"), [(0, False), (3.5, False), (3.51, True), (3600, True), (-3600, False)])
def test_silence_is_counted_from_the_last_beat(silent: float, lost: bool) -> None:
    """Lost is who was silent for longer than the limit, and healthy only who is not."""
    desk = Desk()
    desk.announce()
    desk.beat()
    desk.clock.now += silent
    assert desk.lost() is lost
    assert desk.healthy() is not lost


def test_a_wedge_is_noticed_within_five_seconds() -> None:
    """The limit, one missed beat and the look leave room; and two beats may be late without any harm."""
    assert LOST_AFTER_SECONDS + BEAT_SECONDS < 5
    assert LOST_AFTER_SECONDS > 3 * BEAT_SECONDS


def test_a_lost_worker_that_beats_again_is_found() -> None:
    """One beat is enough."""
    desk = Desk()
    desk.announce()
    desk.beat()
    desk.clock.now += 60
    assert desk.lost()
    desk.beat()
    assert desk.healthy()


def test_the_silence_of_a_supervisor_that_did_not_listen_is_forgiven() -> None:
    """After a pause of its own it counts from now on, for all workers; who stays silent is lost then."""
    desk = Desk()
    desk.announce()
    desk.beat()
    desk.clock.now += 60
    desk.sessions.forgive_silence()
    assert not desk.lost()
    desk.clock.now += LOST_AFTER_SECONDS + 0.1
    assert desk.lost()


def test_only_while_nobody_looked_at_all_is_silence_forgiven() -> None:
    """One that looks now and then is told how often that was; one look after it is enough, whoever looks."""
    desk = Desk(adopted=True)
    for _ in range(4):
        desk.clock.now += OWN_SILENCE_SECONDS
        assert desk.sessions.look() == 0
    assert desk.lost()
    desk.clock.now += OWN_SILENCE_SECONDS + 0.1
    assert [desk.sessions.look() for _ in range(2)] == [1, 1]
    assert not desk.lost()


def test_forgiveness_is_no_sign_of_life() -> None:
    """It changes from when silence counts, not when the worker was last heard."""
    desk = Desk()
    desk.announce()
    desk.beat()
    heard = desk.session.last_beat
    desk.clock.now += 60
    desk.sessions.forgive_silence()
    assert desk.session.last_beat == heard


# -- what workers say


def test_an_announcement_is_answered_with_the_role() -> None:
    """Welcome names the instance, the beat, the role and the owners."""
    desk = Desk()
    desk.sessions.set_owners((7, 8))
    welcome = desk.announce()
    assert isinstance(welcome, Welcome)
    assert (welcome.instance, welcome.beat_seconds, welcome.owners) == (1, BEAT_SECONDS, [7, 8])
    assert welcome.grant.role is Role.STANDBY
    assert desk.session.announcement is not None


def test_a_wrong_sha_is_refused_and_remembered() -> None:
    """It stays a problem however well the worker beats, until it announces itself rightly."""
    desk = Desk()
    answer = desk.announce("b" * 40)
    assert isinstance(answer, Problem)
    assert answer.code == "sha_mismatch"
    desk.beat()
    assert not desk.healthy()
    assert "bbbbbbbbbbbb" in desk.session.problem
    desk.announce()
    assert desk.healthy()


def test_a_role_is_told_with_every_beat() -> None:
    """The answer to a beat is the present grant, whatever the stream has told."""
    desk = Desk()
    desk.sessions.assign("w", Role.ACTIVE, epoch=3)
    grant = desk.sessions.beat("w", Beat(state=W.STANDBY))
    assert grant is not None
    assert (grant.role, grant.epoch) == (Role.ACTIVE, 3)


def test_each_assignment_has_a_higher_serial() -> None:
    """So that an overtaken answer never replaces a newer one."""
    desk = Desk()
    serials = [desk.session.grant.serial]
    for role in (Role.ACTIVE, Role.DRAIN, Role.STANDBY, Role.STANDBY):
        desk.sessions.assign("w", role)
        serials.append(desk.session.grant.serial)
    assert serials == sorted(set(serials))


def test_a_worker_that_is_not_expected_is_told_so() -> None:
    """After it was closed its credential is worth nothing, and neither are its words."""
    desk = Desk()
    assert desk.sessions.authenticate("secret") == "w"
    desk.sessions.close("w")
    assert desk.sessions.authenticate("secret") is None
    assert desk.sessions.beat("w", Beat(state=W.STANDBY)) is None
    answer = desk.announce()
    assert isinstance(answer, Problem)
    assert answer.code == "unknown_worker"
    desk.sessions.assign("w", Role.ACTIVE, epoch=9)  # nobody is there to hear it
    assert desk.sessions.get("w") is None


def test_credentials_tell_workers_apart() -> None:
    """Each opens its own session alone; none, an empty or a near one opens nothing."""
    desk = Desk()
    desk.open("x", "other")
    assert [desk.sessions.authenticate(c) for c in ("secret", "other", "", "Secret", "secret ")] == [
        "w",
        "x",
        None,
        None,
        None,
    ]
    assert {session.worker_id for session in desk.sessions.all()} == {"w", "x"}


def test_opening_twice_changes_nothing() -> None:
    """A session that is open keeps its role and its credential."""
    desk = Desk()
    desk.sessions.assign("w", Role.ACTIVE, epoch=1)
    desk.open("w", "another")
    assert desk.session.grant.role is Role.ACTIVE
    assert desk.sessions.authenticate("another") is None


# -- adoption


def test_an_adopted_worker_keeps_its_role_when_it_announces_itself() -> None:
    """A restart of the supervisor changes nothing for a worker that is active."""
    desk = Desk(role=Role.ACTIVE, epoch=5, adopted=True)
    welcome = desk.announce()
    assert isinstance(welcome, Welcome)
    assert (welcome.grant.role, welcome.grant.epoch) == (Role.ACTIVE, 5)
    desk.beat(W.ACTIVE, epoch=5)
    assert desk.healthy()


def test_an_adopted_worker_that_never_speaks_is_lost() -> None:
    """It was up before: its silence counts from the adoption, with the time that it needs to find the way."""
    desk = Desk(role=Role.ACTIVE, epoch=5, adopted=True)
    desk.clock.now += FOUND_AFTER_SECONDS - 0.1
    assert not desk.lost()
    desk.clock.now += 0.2
    assert desk.lost()


def test_the_time_to_be_found_counts_from_when_the_supervisor_listens() -> None:
    """A slow start of the supervisor is not the worker's silence."""
    desk = Desk(adopted=True)
    desk.clock.now += 60
    desk.sessions.forgive_silence()
    desk.clock.now += FOUND_AFTER_SECONDS - 0.1
    assert not desk.lost()


# -- who is woken by what


@pytest.mark.parametrize(
    ("what", "wakes"),
    [
        (lambda d: d.announce(), True),
        (lambda d: d.beat(W.ACTIVE, epoch=1), True),
        (lambda d: d.beat(polls_ok=1), True),
        (lambda d: d.beat(), False),
        (lambda d: d.sessions.assign("w", Role.ACTIVE, epoch=1), True),
        (lambda d: d.sessions.close("w"), True),
        (lambda d: d.sessions.listen("w", lambda: None)(), True),
    ],
    ids=["announcement", "state", "first poll", "the same again", "role", "close", "stream ended"],
)
def test_whoever_waits_is_woken_by_news_alone(what: Callable[[Desk], None], wakes: bool) -> None:
    """A change wakes the roll-out; a beat that says what the last one said does not."""
    desk = Desk()
    desk.beat()
    before = desk.signal.count
    what(desk)
    assert (desk.signal.count > before) is wakes


def test_a_listener_hears_of_its_own_worker_alone_and_until_it_ends() -> None:
    """One stream, one worker."""
    desk = Desk()
    desk.open("x", "other")
    heard: list[str] = []
    stop = desk.sessions.listen("w", lambda: heard.append("w"))
    desk.sessions.assign("x", Role.ACTIVE, epoch=1)
    assert heard == []
    desk.sessions.assign("w", Role.DRAIN)
    desk.sessions.close("w")
    assert heard == ["w", "w"]
    stop()
    desk.sessions.assign("w", Role.STANDBY)
    assert heard == ["w", "w"]
