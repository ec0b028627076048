"""What no revision is blamed for: the Bot API, the model, the engine and the disk; and a failure that N-1 repeats."""

import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from supervisor.contract import EventType
from supervisor.ledger import Blame, LedgerError, Update
from supervisor.outages import OutageMonitor, Probes
from supervisor.sessions import Sessions, Signal
from supervisor.states import Status
from supervisor.timing import Timing
from tests.supervisor.fakes.installation import Installation
from tests.supervisor.fakes.workers import Behaviour

S = Status
TEN_MINUTES = 600.0


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    with Installation(tmp_path / "home") as made:
        yield made


def goes_away(installation: Installation, what: str) -> None:
    setattr(installation.socket, f"{what}_answers", False)


def comes_back(installation: Installation, what: str) -> None:
    setattr(installation.socket, f"{what}_answers", True)


def noticed(installation: Installation, what: str, *, ended: bool = False) -> None:
    """Return when the supervisor has seen that it is away, or back."""
    event = EventType.EXTERNAL_TROUBLE_ENDED if ended else EventType.EXTERNAL_TROUBLE_STARTED
    installation.until(lambda: what in [told["what"] for told in installation.told(event)], what=f"{event} of {what}")


def notices(installation: Installation) -> list[str]:
    return [text for _, text in installation.ledger.notices()]


@pytest.mark.parametrize("what", ["bot_api", "model"])
def test_the_clock_of_a_probation_stands_still_for_ten_minutes(installation: Installation, what: str) -> None:
    """Nothing is promoted, rolled back or banned meanwhile; the rest of the window follows, and the owner is told."""
    installation.change(stable_window_seconds=1.0)
    with installation.supervised():
        installation.becomes_active(installation.genesis)
        update = installation.reaches(installation.approved(), S.DEPLOYED_UNSTABLE)
        goes_away(installation, what)
        noticed(installation, what)
        time.sleep(0.2)
        installation.passed += TEN_MINUTES
        time.sleep(1.5)  # more than the window
        assert installation.update(update).status is S.DEPLOYED_UNSTABLE
        comes_back(installation, what)
        noticed(installation, what, ended=True)
        back = time.monotonic()
        update = installation.reaches(update, S.PROMOTED, S.ROLLED_BACK)
        assert update.status is S.PROMOTED
        assert time.monotonic() - back > 0.2
        assert installation.ledger.failed_before(update.patch_id or "") is None
        assert len(notices(installation)) == 1


@pytest.mark.parametrize("at", ["append", "add_notice"])
def test_an_outage_whose_end_a_supervisor_died_at_is_told_once(
    installation: Installation, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    """What is to be told is on file before the end is: whoever finds the end on file has nothing to add."""
    trouble = ["it is away"]

    def monitor() -> OutageMonitor:
        away = Probes(bot_api=lambda: "", model=lambda: "", disk=lambda: "", engine=lambda: trouble[0])
        return OutageMonitor(probes=away, ledger=installation.ledger, sessions=Sessions(Signal()), timing=Timing())

    def dies(*_: object, **__: object) -> int:
        raise KeyboardInterrupt

    first = monitor()
    first.look()
    trouble[0] = ""
    with monkeypatch.context() as patch:
        patch.setattr(installation.ledger, at, dies)
        with pytest.raises(KeyboardInterrupt):
            first.look()
    for _ in range(2):
        monitor().look()
    assert len(installation.told(EventType.EXTERNAL_TROUBLE_ENDED)) == 1
    assert len(notices(installation)) == 1


@pytest.mark.parametrize("at", ["append", "add_notice"])
def test_an_end_that_cannot_be_noted_is_noted_at_the_next_look(
    installation: Installation, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    """The same supervisor goes on: a ledger that is locked for a moment loses nothing."""
    trouble = ["it is away"]
    away = Probes(bot_api=lambda: "", model=lambda: "", disk=lambda: "", engine=lambda: trouble[0])
    monitor = OutageMonitor(probes=away, ledger=installation.ledger, sessions=Sessions(Signal()), timing=Timing())
    monitor.look()
    trouble[0] = ""
    with monkeypatch.context() as patch:
        patch.setattr(installation.ledger, at, fails)
        with pytest.raises(LedgerError):
            monitor.look()
    monitor.look()
    assert len(installation.told(EventType.EXTERNAL_TROUBLE_ENDED)) == 1
    assert len(notices(installation)) == 1


def test_that_n_minus_1_fails_alike_is_told_by_the_next_supervisor(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One may die between the event and the notice; nobody asks for the workers again."""
    fine = Probes(bot_api=lambda: "", model=lambda: "", disk=lambda: "", engine=lambda: "")

    def monitor() -> OutageMonitor:
        return OutageMonitor(probes=fine, ledger=installation.ledger, sessions=Sessions(Signal()), timing=Timing())

    with monkeypatch.context() as patch:
        patch.setattr(installation.ledger, "add_notice", fails)
        with pytest.raises(LedgerError):
            monitor().repeats("exited by itself with code 5")
    for _ in range(2):
        monitor().look()
    (notice,) = notices(installation)
    assert "fails just as the last one" in notice


def fails(*_: object, **__: object) -> int:
    raise LedgerError("the database is locked")


def test_a_worker_may_pause_after_the_bot_api_came_back(installation: Installation) -> None:
    """Its breaker cools down: that it does not poll yet is not its fault, and it is promoted when it does."""
    installation.change(stable_window_seconds=0.5)
    with installation.supervised():
        installation.becomes_active(installation.genesis)
        update = installation.reaches(
            installation.approved("slow", Behaviour(polls_again_after=1.0)), S.DEPLOYED_UNSTABLE
        )
        goes_away(installation, "bot_api")
        noticed(installation, "bot_api")
        time.sleep(0.2)  # the worker has noticed it, too
        comes_back(installation, "bot_api")
        noticed(installation, "bot_api", ended=True)
        back = time.monotonic()
        update = installation.reaches(update, S.PROMOTED, S.ROLLED_BACK)
        assert update.status is S.PROMOTED
        assert time.monotonic() - back > 0.8


@pytest.mark.parametrize("what", ["bot_api", "model"])
def test_ten_minutes_out_of_a_probation_change_nothing(installation: Installation, what: str) -> None:
    """The active worker goes on, is neither restarted nor rolled back, and the owner is told once."""
    with installation.supervised():
        installation.becomes_active(installation.genesis)
        update = installation.promoted()
        active = installation.active()
        goes_away(installation, what)
        noticed(installation, what)
        time.sleep(0.3)
        installation.passed += TEN_MINUTES
        time.sleep(0.3)
        comes_back(installation, what)
        noticed(installation, what, ended=True)
        assert installation.active() == active
        assert installation.update(update).status is S.PROMOTED
        [ended] = installation.told(EventType.EXTERNAL_TROUBLE_ENDED)
        assert float(str(ended["seconds"])) > TEN_MINUTES
        assert len(notices(installation)) == 1


def test_what_never_answered_the_host_is_away_only_when_a_worker_complains(installation: Installation) -> None:
    """A server that only containers reach is no reason to stop the clock for ever."""
    installation.probe_fails.add("model")
    with installation.supervised():
        installation.becomes_active(installation.genesis)
        installation.reaches(installation.approved(), S.PROMOTED)
        assert installation.told(EventType.EXTERNAL_TROUBLE_STARTED) == []


def test_a_worker_that_alone_cannot_reach_the_model_is_judged_as_ever(installation: Installation) -> None:
    """The host reaches it: the clock runs."""
    installation.behaviours[installation.genesis.sha or ""] = [Behaviour(model_fails=True)]
    with installation.supervised():
        installation.becomes_active(installation.genesis)
        installation.reaches(installation.approved("same", Behaviour(model_fails=True)), S.PROMOTED)
        assert installation.told(EventType.EXTERNAL_TROUBLE_STARTED) == []


def test_trouble_and_the_clock_outlive_the_supervisor(installation: Installation) -> None:
    """The next one goes on with the same episode and with what is left of the window."""
    installation.change(stable_window_seconds=1.0)
    with installation.supervised():
        installation.becomes_active(installation.genesis)
        update = installation.reaches(installation.approved(), S.DEPLOYED_UNSTABLE)
        goes_away(installation, "bot_api")
        noticed(installation, "bot_api")
        installation.until(lambda: (installation.ledger.probation(update.tx_id) or (0, 0))[1] is None)
    installation.passed += TEN_MINUTES
    with installation.supervised():
        time.sleep(0.5)
        assert installation.update(update).status is S.DEPLOYED_UNSTABLE
        comes_back(installation, "bot_api")
        installation.reaches(update, S.PROMOTED)
    assert len(installation.told(EventType.EXTERNAL_TROUBLE_STARTED)) == 1


def test_each_stop_of_the_engine_gives_the_whole_window_again(installation: Installation) -> None:
    """Also after a restart of the supervisor between the two."""
    installation.change(stable_window_seconds=1.0)
    with installation.supervised():
        installation.becomes_active(installation.genesis)
        update = installation.reaches(installation.approved(), S.DEPLOYED_UNSTABLE)
        stop_engine(installation, update)
        time.sleep(0.6)
    with installation.supervised():
        stop_engine(installation, update)
        update = installation.reaches(update, S.PROMOTED)
        again = installation.active()
        assert again is not None
        assert update.promoted_at is not None
        assert update.promoted_at - again.spawned_at > 1.0


def stop_engine(installation: Installation, update: Update) -> None:
    """It takes green along, and comes back."""
    green = installation.becomes_active(update)
    installation.engine.go_away()
    installation.engine.crash(green.worker_id, code=137)
    time.sleep(0.1)
    installation.engine.come_back()
    installation.until(lambda: installation.active() not in (None, green))


def test_a_green_that_dies_of_a_full_disk_is_started_again(installation: Installation) -> None:
    """Not by its own fault: it is proven anew once there is room."""
    installation.change(stable_window_seconds=1.0)
    with installation.supervised():
        installation.becomes_active(installation.genesis)
        update = installation.reaches(installation.approved(), S.DEPLOYED_UNSTABLE)
        green = installation.becomes_active(update)
        installation.disk_has_room = False
        installation.engine.crash(green.worker_id)
        time.sleep(0.3)
        assert installation.update(update).status is S.DEPLOYED_UNSTABLE
        installation.disk_has_room = True
        update = installation.reaches(update, S.PROMOTED, S.ROLLED_BACK)
        assert (update.status, update.blame) == (S.PROMOTED, None)
        assert [text for text in notices(installation) if "disk is full" in text]


def test_crashes_with_a_full_disk_are_not_counted(installation: Installation) -> None:
    """However many there are."""
    with installation.supervised():
        installation.becomes_active(installation.genesis)
        update = installation.promoted("fine")
        installation.disk_has_room = False
        for _ in range(4):
            installation.until(lambda: installation.active_sha() == update.sha)
            active = installation.active()
            assert active is not None
            installation.engine.crash(active.worker_id)
            installation.until(lambda active=active: installation.active() != active)  # type: ignore[misc]
        installation.becomes_active(update)
        assert installation.update(update).status is S.PROMOTED


@pytest.fixture(params=["whole", "cut"])
def excuse(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is; and cut off between the trouble that it notes and the blame that it lifts."""
    repeats, cut = OutageMonitor.repeats, request.param == "cut"

    def cut_once(self: OutageMonitor, reason: str) -> None:
        nonlocal cut
        repeats(self, reason)
        if cut:
            cut = False
            raise RuntimeError("cut off")

    monkeypatch.setattr(OutageMonitor, "repeats", cut_once)


@pytest.mark.usefixtures("excuse")
def test_a_failure_that_n_minus_1_repeats_is_nobodys_fault(installation: Installation) -> None:
    """N crashes, and so does N-1 as it takes over: N-1 is kept and tried on, older ones are not, nothing is banned."""
    with installation.supervised():
        installation.becomes_active(installation.genesis)
        first = installation.promoted("first", Behaviour(), Behaviour(exits_at_start=5), Behaviour())
        second = installation.promoted("second")
        installation.behaviours[first.sha or ""] = [*[Behaviour(exits_at_start=5)] * 6, Behaviour()]
        installation.behaviours[second.sha or ""] = [Behaviour(exits_at_start=5)]
        installation.until(lambda: len(installation.running()) == 2)
        for name in installation.running():
            installation.engine.crash(name, code=5)
        second = installation.reaches(second, S.ROLLED_BACK)
        assert second.blame == Blame.EXTERNAL
        assert installation.ledger.failed_before(second.patch_id or "") is None
        installation.becomes_active(first)
        assert installation.update(first).status is S.PROMOTED
        assert installation.ledger.good_sha() == first.sha
        installation.until(lambda: any("fails just as the last one" in text for text in notices(installation)))
        noticed(installation, "workers", ended=True)


@pytest.mark.usefixtures("excuse")
def test_n_minus_1_that_crashes_alike_soon_after_is_not_given_up(installation: Installation) -> None:
    """It takes over first, and then runs into the same: the ban on N is lifted."""
    with installation.supervised():
        installation.becomes_active(installation.genesis)
        first = installation.promoted("first")
        second = installation.promoted("second")
        for update in (second, first):
            for _ in range(3):
                active = installation.becomes_active(update)
                installation.engine.crash(active.worker_id, code=5)
                installation.until(lambda active=active: installation.active() != active)  # type: ignore[misc]
        installation.becomes_active(first)
        assert installation.update(first).status is S.PROMOTED
        second = installation.update(second)
        assert (second.status, second.blame) == (S.ROLLED_BACK, Blame.EXTERNAL)


def crashes_again(installation: Installation, update: Update) -> bool:
    """A crash of the update when it is active; whether the first revision is."""
    active = installation.active()
    if active is not None and active.sha == update.sha:
        installation.engine.crash(active.worker_id, code=5)
        installation.until(lambda: installation.active() != active)
    return installation.active_sha() == installation.genesis.sha


@pytest.mark.usefixtures("excuse")
def test_n_minus_1_that_crashes_as_green_did_in_its_deploy_is_not_given_up(installation: Installation) -> None:
    """It had never let go for good, and then runs into what green ran into: every ban for that is lifted."""
    with installation.supervised():
        installation.becomes_active(installation.genesis)
        first = installation.promoted("first")
        failed = [
            installation.reaches(installation.approved(title, Behaviour(exits_at_start=code)), S.DEPLOY_FAILED)
            for title, code in (("second", 5), ("third", 5), ("fourth", 6))
        ]
        assert [update.blame for update in failed] == [Blame.OWN] * 3
        installation.until(lambda: len(installation.ledger.living_workers()) == 2, what="the last green to be put away")
        for _ in range(3):
            active = installation.becomes_active(first)
            installation.engine.crash(active.worker_id, code=5)
            installation.until(lambda active=active: installation.active() != active)  # type: ignore[misc]
        installation.becomes_active(first)
        assert installation.update(first).status is S.PROMOTED
        assert [installation.update(update).blame for update in failed] == [Blame.EXTERNAL] * 2 + [Blame.OWN]

        noticed(installation, "workers", ended=True)
        installation.until(partial(crashes_again, installation, first), what="its own fault, when it goes on by itself")
        installation.reaches(first, S.ROLLED_BACK)


def test_an_update_that_inherits_what_is_wrong_keeps_nobody_from_going_back(installation: Installation) -> None:
    """The good revision had begun to crash before the update was deployed and crashed alike: it is given up."""
    with installation.supervised():
        installation.becomes_active(installation.genesis)
        first = installation.promoted("first")
        active = installation.becomes_active(first)
        installation.engine.crash(active.worker_id, code=5)
        installation.until(lambda: installation.active() != active)
        installation.becomes_active(first)
        heir = installation.reaches(installation.approved("second", Behaviour(exits_at_start=5)), S.DEPLOY_FAILED)
        installation.until(partial(crashes_again, installation, first), what="the way back")
        installation.reaches(first, S.ROLLED_BACK)
        assert installation.update(heir).blame is Blame.OWN


def test_the_way_back_goes_past_a_base_that_had_begun_to_fail_before(installation: Installation) -> None:
    """The update fails as its base did before it, and does again as it takes over: an older revision is tried."""
    with installation.supervised():
        installation.becomes_active(installation.genesis)
        first = installation.promoted("first")
        active = installation.becomes_active(first)
        installation.engine.crash(active.worker_id, code=5)
        installation.until(lambda: installation.active() != active)
        installation.becomes_active(first)
        second = installation.promoted("second")
        for update in (first, second):
            installation.behaviours[update.sha or ""] = [Behaviour(exits_at_start=5)] * 6
        installation.until(lambda: len(installation.running()) == 2)
        for name in installation.running():
            installation.engine.crash(name, code=5)
        assert installation.reaches(second, S.ROLLED_BACK).blame is Blame.OWN
        installation.becomes_active(installation.genesis)


def test_the_first_revision_that_crashes_alike_lifts_the_ban_too(installation: Installation) -> None:
    """There is nothing to go back to from it, and yet the update before it is not to blame."""
    with installation.supervised():
        installation.becomes_active(installation.genesis)
        first = installation.promoted("first")
        for update in (first, installation.genesis):
            for _ in range(3):
                active = installation.becomes_active(update)
                installation.engine.crash(active.worker_id, code=5)
                installation.until(lambda active=active: installation.active() != active)  # type: ignore[misc]
        installation.becomes_active(installation.genesis)
        first = installation.update(first)
        assert (first.status, first.blame) == (S.ROLLED_BACK, Blame.EXTERNAL)
        assert installation.ledger.failed_before(first.patch_id or "") is None


def test_a_dead_blue_is_replaced_while_green_proves_itself(installation: Installation) -> None:
    """So that there is a warm way back all through the probation."""
    installation.change(stable_window_seconds=3)
    with installation.supervised():
        blue = installation.becomes_active(installation.genesis)
        update = installation.approved()
        installation.becomes_active(update)
        installation.reaches(update, S.DEPLOYED_UNSTABLE)
        installation.engine.crash(blue.worker_id)
        installation.until(lambda: installation.running_shas().count(str(installation.genesis.sha)) == 1)
        assert installation.update(update).status is S.DEPLOYED_UNSTABLE
        assert installation.ledger.worker(blue.worker_id).exited_at is not None


def test_an_n_minus_1_that_does_not_stay_is_started_ever_more_slowly(installation: Installation) -> None:
    """It comes up, and dies soon after, again and again."""
    with installation.supervised():
        installation.becomes_active(installation.genesis)
        installation.promoted()
        spawned = len(installation.told(EventType.WORKER_SPAWNED))
        ends = time.monotonic() + 2.0
        while time.monotonic() < ends:
            for name in installation.running():
                if installation.ledger.worker(name).sha == installation.genesis.sha:
                    installation.engine.crash(name)
            time.sleep(0.01)
        assert len(installation.told(EventType.WORKER_SPAWNED)) - spawned <= 6


class SlowImages:
    """A rebuilder whose exam takes as long as the test wants."""

    def __init__(self, installation: Installation) -> None:
        self._real = installation.ensure_image
        self.asked, self.go_on = threading.Event(), threading.Event()

    def __call__(self, revision: object) -> object:
        if threading.current_thread().name == "standby":
            self.asked.set()
            self.go_on.wait(10)
        return self._real(revision)  # type: ignore[arg-type]


def test_an_exam_of_n_minus_1_holds_nobody_up(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    """While its image is built and examined again a crash of the active worker is answered at once."""
    slow = SlowImages(installation)
    monkeypatch.setattr(installation, "ensure_image", slow)
    installation.beside = lambda work: threading.Thread(target=work, name="standby", daemon=True).start()
    with installation.supervised():
        blue = installation.becomes_active(installation.genesis)
        update = installation.promoted()
        installation.engine.crash(blue.worker_id)
        assert slow.asked.wait(5)
        green = installation.becomes_active(update)
        installation.engine.crash(green.worker_id)
        installation.until(lambda: installation.active() not in (None, green), 3)
        slow.go_on.set()
        installation.until(lambda: len(installation.running()) == 2)


def test_workers_that_do_not_come_up_with_a_full_disk_are_not_counted(installation: Installation) -> None:
    """Nor is N-1 beside them: what was promoted stays, and is taken up again when there is room."""
    with installation.supervised():
        installation.becomes_active(installation.genesis)
        update = installation.promoted("fine")
        for of in (update, installation.genesis):
            installation.behaviours[of.sha or ""] = [Behaviour(exits_at_start=1)]
        installation.disk_has_room = False
        for name in installation.running():
            installation.engine.crash(name)
        spawned = len(installation.told(EventType.WORKER_SPAWNED))
        installation.until(lambda: len(installation.told(EventType.WORKER_SPAWNED)) > spawned + 3)
        assert installation.ledger.crashes(update.sha or "", 0) == []
        assert installation.ledger.crashes(installation.genesis.sha or "", 0) == []
        installation.behaviours.clear()
        installation.disk_has_room = True
        installation.becomes_active(update)
        assert installation.update(update).status is S.PROMOTED


def test_a_crash_loop_is_not_decided_on_while_the_disk_is_full(installation: Installation) -> None:
    """N-1 would fare no better; afterwards it is judged as ever."""
    installation.change(crash_threshold=1000)
    with installation.supervised():
        installation.becomes_active(installation.genesis)
        update = installation.promoted()
        for _ in range(2):
            active = installation.becomes_active(update)
            installation.engine.crash(active.worker_id)
            installation.until(lambda active=active: installation.active() not in (None, active))  # type: ignore[misc]
    active = installation.becomes_active(update)
    installation.engine.crash(active.worker_id)
    installation.change(crash_threshold=2)
    installation.disk_has_room = False
    with installation.supervised():
        installation.becomes_active(update)
        assert installation.update(update).status is S.PROMOTED


@pytest.mark.parametrize("after", [None, 0.1], ids=["from the start", "in its probation"])
def test_a_bot_api_that_no_worker_reaches_is_nobodys_fault(installation: Installation, after: float | None) -> None:
    """The host reaches it, and green is given up; N-1 cannot poll either, so nothing is banned."""
    installation.change(stable_window_seconds=5)
    with installation.supervised():
        installation.becomes_active(installation.genesis)
        if after is None:
            installation.socket.bot_api_reached = False
        update = installation.approved()
        if after is not None:
            installation.reaches(update, S.DEPLOYED_UNSTABLE)
            installation.socket.bot_api_reached = False
        update = installation.reaches(update, S.DEPLOY_FAILED, S.ROLLED_BACK)
        installation.until(lambda: installation.update(update).blame == Blame.EXTERNAL, what="the blame to be lifted")
        assert installation.ledger.failed_before(update.patch_id or "") is None
        installation.socket.bot_api_reached = True
        installation.becomes_active(installation.genesis)


def test_a_green_that_alone_cannot_poll_stays_banned(installation: Installation) -> None:
    """N-1 polls again as soon as it is back, whatever it did in its former time."""
    with installation.supervised():
        installation.becomes_active(installation.genesis)
        update = installation.reaches(installation.approved("mute", Behaviour(polls=False)), S.DEPLOY_FAILED)
        installation.becomes_active(installation.genesis)
        time.sleep(0.6)
        assert (installation.update(update).blame, installation.update(update).code) == (Blame.OWN, "no_poll")


@pytest.mark.parametrize("crashes", [1, 3], ids=["once", "too often"])
def test_an_open_blame_is_settled_by_whoever_stays(installation: Installation, crashes: int) -> None:
    """N-1 ends in another way before it has polled: the next worker of it is asked, or the revision before it."""
    with installation.supervised():
        installation.becomes_active(installation.genesis)
        first = installation.promoted("first", Behaviour())
        installation.behaviours[first.sha or ""] = [*[Behaviour(polls=False, exits_after=0.1)] * crashes, Behaviour()]
        blue = installation.becomes_active(first)
        mute = installation.approved("mute", Behaviour(polls=False))
        installation.becomes_active(mute)
        installation.engine.crash(blue.worker_id)
        installation.reaches(mute, S.DEPLOY_FAILED)
        assert installation.update(mute).blame_open
        installation.until(lambda: not installation.update(mute).blame_open, what="the blame to be settled")
        assert installation.update(mute).blame == Blame.OWN
        assert installation.ledger.good_sha() == (first if crashes == 1 else installation.genesis).sha


def test_a_green_that_cannot_poll_as_blue_could_not_is_not_banned(installation: Installation) -> None:
    """Blue's last poll had failed before it gave way, though it polls again as soon as it is back."""
    installation.behaviours[installation.genesis.sha or ""] = [Behaviour(poll_fails_after=0.0)]
    with installation.supervised():
        installation.becomes_active(installation.genesis)
        update = installation.reaches(installation.approved("mute", Behaviour(polls=False)), S.DEPLOY_FAILED)
        assert update.blame == Blame.EXTERNAL


def test_a_complaint_of_one_that_stands_by_excuses_nobody(installation: Installation) -> None:
    """It dates from its own time, however long ago: only blue, which green took over from, could know."""
    installation.behaviours[installation.genesis.sha or ""] = [Behaviour(poll_fails_after=0.0)]
    with installation.supervised() as supervisor:
        former = installation.becomes_active(installation.genesis)
        installation.promoted("first")
        session = supervisor.pool.session(former)
        assert session is not None
        assert session.beat.poll_error
        second = installation.reaches(installation.approved("mute", Behaviour(polls=False)), S.DEPLOY_FAILED)
        installation.until(lambda: not installation.update(second).blame_open, what="the blame to be settled")
        assert installation.update(second).blame == Blame.OWN
