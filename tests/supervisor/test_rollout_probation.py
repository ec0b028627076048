"""The probation and the ways back: green's own failures, a person's rollback, and older revisions behind those."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.contract import EventType
from supervisor.ledger import Blame
from supervisor.states import Status
from tests.supervisor.fakes.installation import Installation
from tests.supervisor.fakes.workers import Behaviour

S = Status
#: A worker that is silent is missed by then.
NOTICED_SECONDS = 5.0


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    with Installation(tmp_path / "home") as made:
        yield made


FAILURES = {
    "exits": (Behaviour(exits_after=0.1, exit_code=4), "exited by itself with code 4"),
    "exits 0": (Behaviour(exits_after=0.1, exit_code=0), "exited by itself with code 0"),
    "out of memory": (Behaviour(exits_after=0.1, out_of_memory=True), "out of memory"),
    "is not well": (Behaviour(unwell="disk I/O error"), "it says that it is not well: disk I/O error"),
    "internal errors": (Behaviour(internal_errors=3), "3 internal errors since it started"),
    "cannot poll": (Behaviour(poll_fails_after=0.0), "it cannot poll: ConnectError: refused"),
}


@pytest.mark.parametrize("name", FAILURES)
def test_a_green_that_fails_in_probation_brings_blue_back(installation: Installation, name: str) -> None:
    """It ends rolled_back by its own fault with the reason, blue is active with a new epoch, green is gone."""
    behaviour, reason = FAILURES[name]
    installation.change(stable_window_seconds=5)
    with installation.supervised():
        blue = installation.becomes_active(installation.genesis)
        update = installation.reaches(installation.approved("bad", behaviour), S.ROLLED_BACK, S.DEPLOY_FAILED)
        if name in ("is not well", "internal errors"):  # seen as soon as it is active, before or after the first poll
            assert update.status in (S.ROLLED_BACK, S.DEPLOY_FAILED)
        else:
            assert update.status is S.ROLLED_BACK
        assert reason in (update.last_error or "")
        installation.until(lambda: not installation.update(update).blame_open, what="the blame to be settled")
        assert installation.update(update).blame == Blame.OWN
        assert installation.becomes_active(installation.genesis).worker_id == blue.worker_id
        assert installation.ledger.good_sha() == installation.revisions.active() == installation.genesis.sha
        installation.until(lambda: installation.running() == [blue.worker_id])


def test_the_evidence_of_a_failed_probation_is_kept(installation: Installation) -> None:
    """The reason and the last words are in the update; the worker's row says how it ended and its log is kept."""
    installation.change(stable_window_seconds=5)
    with installation.supervised():
        installation.becomes_active(installation.genesis)
        update = installation.approved("bad", Behaviour(exits_after=0.1, exit_code=4))
        green = installation.becomes_active(update)
        update = installation.reaches(update, S.ROLLED_BACK)
        assert f"the last words of {green.worker_id}" in (update.last_error or "")
        installation.until(lambda: installation.ledger.worker(green.worker_id).exited_at is not None)
        assert installation.ledger.worker(green.worker_id).exit_code == 4
        log = installation.settings.paths.logs / "workers" / f"{green.worker_id}.log"
        assert "the last words" in log.read_text()
        started, attempted, completed = (
            installation.ledger.events(event, parent_id=update.event_id)[0]
            for event in (
                EventType.UPDATE_ROLLBACK_STARTED,
                EventType.ROLLBACK_ATTEMPTED,
                EventType.UPDATE_ROLLBACK_COMPLETED,
            )
        )
        assert "exited by itself with code 4" in started.payload["error"]
        assert attempted.payload["target_sha"] == installation.genesis.sha
        assert started.id < attempted.id < completed.id


def test_blue_answers_soon_after_green_died(installation: Installation) -> None:
    """The way back is one message to a warm worker: nothing is started, and no interval has to pass."""
    installation.change(stable_window_seconds=5)
    with installation.supervised():
        installation.becomes_active(installation.genesis)
        update = installation.approved()
        installation.reaches(update, S.DEPLOYED_UNSTABLE)
        green = installation.becomes_active(update)
        died = time.monotonic()
        installation.engine.crash(green.worker_id)
        installation.becomes_active(installation.genesis)
        assert time.monotonic() - died < 2
        assert len(installation.told(EventType.WORKER_SPAWNED)) == 2


@pytest.mark.fault(29)
def test_a_wedged_green_is_noticed_within_five_seconds(installation: Installation) -> None:
    """A loop that stops beating while its process lives is killed, and blue takes over.

    The window was over before the silence could be told from a pause; a promotion wants a beat from after it.
    """
    with installation.supervised():
        installation.becomes_active(installation.genesis)
        update = installation.approved("wedge", Behaviour(wedges_after=0.2))
        green = installation.becomes_active(update)
        wedged = time.monotonic() + 0.2
        update = installation.reaches(update, S.ROLLED_BACK, S.PROMOTED)
        assert update.status is S.ROLLED_BACK
        assert time.monotonic() - wedged < NOTICED_SECONDS
        installation.becomes_active(installation.genesis)
        assert "it stopped answering" in (update.last_error or "")
        assert ("kill", green.worker_id) in installation.engine.calls


@pytest.mark.fault(
    16,
    what="the beats that stay out tell it",
    user="answers come late",
    within=f"{NOTICED_SECONDS:g} s",
)
def test_a_lost_event_of_the_engine_is_made_up_for(installation: Installation) -> None:
    """A death that the event stream did not tell is noticed all the same, by the silence that follows."""
    installation.change(stable_window_seconds=30)
    with installation.supervised():
        installation.becomes_active(installation.genesis)
        update = installation.approved()
        green = installation.becomes_active(update)
        installation.reaches(update, S.DEPLOYED_UNSTABLE)
        installation.engine.fail_silently(green.worker_id)
        died = time.monotonic()
        installation.engine.crash(green.worker_id, code=6)
        installation.reaches(update, S.ROLLED_BACK)
        assert time.monotonic() - died < NOTICED_SECONDS
        installation.becomes_active(installation.genesis)


def test_a_green_whose_container_was_removed_from_outside_is_proven_anew(installation: Installation) -> None:
    """A container does not go by itself: another one is started, and has the whole window before it."""
    installation.change(stable_window_seconds=5)
    with installation.supervised():
        installation.becomes_active(installation.genesis)
        update = installation.approved()
        green = installation.becomes_active(update)
        installation.reaches(update, S.DEPLOYED_UNSTABLE)
        installation.engine.remove(green.worker_id)
        installation.until(lambda: installation.active() not in (None, green))
        assert installation.becomes_active(update).worker_id != green.worker_id
        assert installation.update(update).status is S.DEPLOYED_UNSTABLE


@pytest.mark.fault(
    32,
    what="the window is as long as it was to be",
    user="nothing",
    within="no time",
)
@pytest.mark.parametrize("jump", [3600.0, -3600.0])
def test_a_clock_that_jumps_neither_ends_nor_prolongs_a_probation(installation: Installation, jump: float) -> None:
    """An hour either way: the window is as long as it was to be."""
    installation.change(stable_window_seconds=600)
    with installation.supervised():
        installation.becomes_active(installation.genesis)
        update = installation.approved()
        green = installation.becomes_active(update)
        installation.until(lambda: installation.ledger.probation(update.tx_id) is not None)
        installation.clock_is_off = jump
        looks = installation.engine.calls.count(("inspect", green.worker_id))
        installation.passed = 500
        # It looks after its workers only when there was nothing to promote.
        installation.until(lambda: installation.engine.calls.count(("inspect", green.worker_id)) > looks)
        assert installation.update(update).status is S.DEPLOYED_UNSTABLE
        installation.passed = 601
        installation.reaches(update, S.PROMOTED)


# -- a person's rollback


def test_a_person_takes_back_a_promoted_update(installation: Installation) -> None:
    """Green drains first, N-1 is active and good again, and the change counts as taken back."""
    with installation.supervised():
        blue = installation.becomes_active(installation.genesis)
        update = installation.promoted()
        green = installation.active()
        assert green is not None
        installation.roll_back(update)
        update = installation.reaches(update, S.ROLLED_BACK)
        assert installation.becomes_active(installation.genesis).worker_id == blue.worker_id
        assert update.blame == Blame.PERSON
        assert ("kill", green.worker_id) not in installation.engine.calls
        drained = installation.told(EventType.WORKER_DRAINED)[-1]
        assert drained["worker_id"] == green.worker_id
        assert installation.ledger.good_sha() == installation.genesis.sha


def test_a_person_takes_back_an_update_in_its_probation(installation: Installation) -> None:
    """The window is not waited for."""
    installation.change(stable_window_seconds=30)
    with installation.supervised():
        installation.becomes_active(installation.genesis)
        update = installation.approved()
        installation.reaches(update, S.DEPLOYED_UNSTABLE)
        installation.roll_back(update)
        installation.reaches(update, S.ROLLED_BACK)
        installation.becomes_active(installation.genesis)


def test_an_update_approved_on_what_was_taken_back_is_not_deployed(installation: Installation) -> None:
    """A rollback ends what was approved on top of it; otherwise the code that was taken back would come with it."""
    with installation.supervised():
        installation.becomes_active(installation.genesis)
        first = installation.promoted("first")
    second, waiting = installation.staged("second", first), installation.staged("waiting", first)
    installation.decisions.approve(second.tx_id, by="a test")
    installation.decisions.rollback(first.tx_id)
    with installation.supervised():
        installation.reaches(first, S.ROLLED_BACK)
        installation.reaches(second, S.SUPERSEDED)
        # It could not be approved any more; the pipeline makes it again on what is good now.
        installation.reaches(waiting, S.SUPERSEDED)
        assert waiting.tx_id in [update.tx_id for update in installation.ledger.to_be_made_again()]
        installation.becomes_active(installation.genesis)


@pytest.mark.fault(
    30,
    what="older good revisions are tried, down to the first",
    user="answers come late; each attempt is an event",
    within="start of a worker each",
)
def test_when_n_minus_1_fails_too_the_next_older_one_is_taken(installation: Installation) -> None:
    """The way back walks down to a revision that runs; each attempt is told, and the good one is the one that runs."""
    with installation.supervised():
        installation.becomes_active(installation.genesis)
        first = installation.promoted("first", Behaviour(), Behaviour(exits_at_start=1))
        second = installation.promoted("second")
        standby = next(name for name in installation.running() if installation.ledger.worker(name).sha == first.sha)
        installation.engine.crash(standby)
        installation.roll_back(second)
        installation.reaches(second, S.ROLLED_BACK)
        installation.becomes_active(installation.genesis)
        attempts = [(p["target_sha"], "error" in p) for p in installation.told(EventType.ROLLBACK_ATTEMPTED)]
        assert attempts[-2:] == [(first.sha, True), (installation.genesis.sha, False)]
        assert installation.ledger.good_sha() == installation.genesis.sha


@pytest.mark.fault(
    31,
    what="told as failed, and tried again",
    user="the supervisor answers /status itself",
    within="until one comes up",
)
def test_a_rollback_with_nothing_that_runs_goes_on_trying(installation: Installation) -> None:
    """It is told as failed, stays pending, and is carried out once a revision comes up again."""
    crashing = [Behaviour(), *[Behaviour(exits_at_start=1)] * 3, Behaviour()]
    installation.behaviours[installation.genesis.sha or ""] = crashing
    with installation.supervised():
        blue = installation.becomes_active(installation.genesis)
        update = installation.approved()
        installation.reaches(update, S.PROMOTED)
        installation.engine.crash(blue.worker_id)
        installation.roll_back(update)
        installation.reaches(update, S.ROLLED_BACK)
        installation.becomes_active(installation.genesis)
        assert EventType.UPDATE_ROLLBACK_FAILED in installation.events(update)
