"""Whose fault a failure is: the update's own, unless the revision before fails alike."""

import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from supervisor.ledger import Blame, Update
from supervisor.outages import OutageMonitor
from supervisor.states import Status
from tests.supervisor.fakes.installation import Installation, noticed, notices
from tests.supervisor.fakes.workers import Behaviour

S = Status


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    with Installation(tmp_path / "home") as made:
        yield made


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


def promoted_and_crashed(installation: Installation) -> Update:
    """An update that is good, has crashed once since, and serves again."""
    installation.becomes_active(installation.genesis)
    update = installation.promoted("first")
    active = installation.becomes_active(update)
    installation.engine.crash(active.worker_id, code=5)
    installation.until(lambda: installation.active() != active)
    installation.becomes_active(update)
    return update


def test_an_update_that_inherits_what_is_wrong_keeps_nobody_from_going_back(installation: Installation) -> None:
    """The good revision had begun to crash before the update was deployed and crashed alike: it is given up."""
    with installation.supervised():
        first = promoted_and_crashed(installation)
        heir = installation.reaches(installation.approved("second", Behaviour(exits_at_start=5)), S.DEPLOY_FAILED)
        installation.until(partial(crashes_again, installation, first), what="the way back")
        installation.reaches(first, S.ROLLED_BACK)
        assert installation.update(heir).blame is Blame.OWN


def test_the_way_back_goes_past_a_base_that_had_begun_to_fail_before(installation: Installation) -> None:
    """The update fails as its base did before it, and does again as it takes over: an older revision is tried."""
    with installation.supervised():
        first = promoted_and_crashed(installation)
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
