"""The roll-out forward: from approved to promoted, and every way in which a deploy ends before its probation."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import structlog

from supervisor.contract import EventType
from supervisor.images.garbage import KEEP
from supervisor.ledger import Blame, Update
from supervisor.states import Status
from supervisor.updates.attempts import MOST_DEATHS
from tests.supervisor.fakes.installation import QUICK, Installation
from tests.supervisor.fakes.workers import Behaviour

S = Status


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    with Installation(tmp_path / "home") as made:
        yield made


def test_the_first_revision_is_brought_up_and_made_active(installation: Installation) -> None:
    """A start on a fresh home ends with one active worker, its toolbox, and the lease of epoch 1."""
    with installation.supervised():
        blue = installation.becomes_active(installation.genesis)
        installation.until(lambda: len(installation.running("toolbox")) == 1)
        lease = installation.ledger.lease()
        assert lease is not None
        assert (lease.epoch, lease.worker_id) == (1, blue.worker_id)


def test_an_approved_update_is_deployed_proven_and_promoted(installation: Installation) -> None:
    """Green ends up active, blue stays warm beside it, and each step left its event in order."""
    with installation.supervised():
        blue = installation.becomes_active(installation.genesis)
        update = installation.promoted()
        green = installation.active()
        assert green is not None
        assert green.sha == update.sha
        installation.until(lambda: EventType.UPDATE_CLEANUP_COMPLETED in installation.events(update))
        assert installation.revisions.active() == installation.ledger.good_sha() == update.sha
        assert sorted(installation.running()) == sorted([blue.worker_id, green.worker_id])
        assert installation.events(update)[-6:] == [
            EventType.UPDATE_APPROVED,
            EventType.UPDATE_DEPLOY_STARTED,
            EventType.UPDATE_DEPLOY_COMPLETED,
            EventType.UPDATE_PROMOTED,
            EventType.REVISION_PROMOTED,
            EventType.UPDATE_CLEANUP_COMPLETED,
        ]


def test_nothing_is_promoted_before_its_window_has_passed(installation: Installation) -> None:
    """Between the end of the deploy and the promotion lies the whole probation."""
    with installation.supervised():
        installation.becomes_active(installation.genesis)
        update = installation.promoted()
        assert update.deploy_finished_at is not None
        assert update.promoted_at is not None
        assert update.promoted_at - update.deploy_finished_at >= installation.settings.stable_window_seconds


def test_the_worker_before_the_last_is_put_away_at_promotion(installation: Installation) -> None:
    """After two promotions N and N-1 run, and N-2 does not; neither does its toolbox."""
    with installation.supervised():
        installation.becomes_active(installation.genesis)
        first = installation.promoted("first")
        second = installation.promoted("second")
        installation.until(lambda: installation.running_shas() == sorted([str(first.sha), str(second.sha)]))
        installation.until(lambda: len(installation.running("toolbox")) == 2)


def test_a_snapshot_of_the_state_is_taken_before_green_starts(installation: Installation) -> None:
    """The worker's database as it was before the deploy lies in the snapshots, and the update names it."""
    import sqlite3

    with sqlite3.connect(installation.settings.paths.agent_db) as database:
        database.execute("CREATE TABLE kept (what TEXT)")
    with installation.supervised():
        installation.becomes_active(installation.genesis)
        update = installation.promoted()
    assert update.snapshot is not None
    with sqlite3.connect(update.snapshot) as copy:
        assert copy.execute("SELECT name FROM sqlite_master").fetchall() == [("kept",)]


def old_snapshots(installation: Installation, count: int) -> list[Path]:
    """What so many earlier deploys have left, oldest first."""
    files = []
    for number in range(count):
        old = installation.staged(f"old {number}")
        installation.decisions.cancel(old.tx_id)
        files.append(installation.settings.paths.snapshots / f"{old.tx_id}.db")
        files[-1].write_text("a state")
        installation.ledger.amend(old.tx_id, {"snapshot": str(files[-1])})
    return files


def test_each_promotion_removes_old_snapshots(installation: Installation) -> None:
    """As many stay as `gc` keeps, the new one among them; the images of those that go stay."""
    installation.settings.paths.agent_db.touch()
    before = old_snapshots(installation, KEEP + 2)
    with installation.supervised():
        update = installation.promoted()
        installation.until(lambda: not before[0].exists(), what="the oldest snapshot to go")
    kept = sorted(installation.settings.paths.snapshots.iterdir())
    assert kept == sorted([*before[3:], Path(update.snapshot or "")])
    assert sorted(known.snapshot for known in installation.ledger.updates() if known.snapshot) == list(map(str, kept))
    assert all(installation.engine.image(known.image_id or "") for known in installation.ledger.updates())


def test_a_snapshot_that_cannot_be_removed_harms_nothing(installation: Installation) -> None:
    """The update is promoted, the others go, and this one does at the next promotion."""
    installation.settings.paths.agent_db.touch()
    oldest, stuck, *_ = old_snapshots(installation, KEEP + 1)
    stuck.unlink()
    stuck.mkdir()
    with installation.supervised(), structlog.testing.capture_logs() as logged:
        installation.promoted("one")
        installation.until(lambda: not oldest.exists(), what="the other one to go")
        stuck.rmdir()
        stuck.write_text("a state")
        installation.promoted("two")
        installation.until(lambda: not stuck.exists(), what="the one that was stuck to go")
    told = [entry["file"] for entry in logged if entry["event"] == "an old snapshot cannot be removed"]
    assert told == [str(stuck)]
    assert [entry for entry in logged if entry["log_level"] == "error"] == []


def test_somebody_serves_while_green_starts(installation: Installation) -> None:
    """When nobody is left at the begin of a deploy, the good revision comes up first."""
    with installation.supervised():
        blue = installation.becomes_active(installation.genesis)
    installation.engine.crash(blue.worker_id)
    update = installation.approved()
    with installation.supervised():
        installation.reaches(update, Status.PROMOTED)
    spawned = [payload["sha"] for payload in installation.told(EventType.WORKER_SPAWNED)]
    assert spawned == [installation.genesis.sha, installation.genesis.sha, update.sha]


def test_what_may_be_the_remedy_is_deployed_though_nobody_serves(installation: Installation) -> None:
    """A good revision that does not come up any more keeps no update from taking its place."""
    installation.behaviours[installation.genesis.revision.sha] = [Behaviour(exits_at_start=1)]
    update = installation.approved()
    with installation.supervised():
        installation.reaches(update, Status.PROMOTED)
        assert installation.active_sha() == update.sha


FAILURES = {
    "exits at once": (Behaviour(exits_at_start=3), "exited by itself with code 3"),
    "exits 0 at once": (Behaviour(exits_at_start=0), "exited by itself with code 0"),
    "never ready": (Behaviour(gets_ready=False), "it did not get ready within 0.8 s"),
    "another sha": (Behaviour(says_it_is="f" * 40), "it says that it is 'ffffffffffff'"),
    "does not take over": (Behaviour(takes_over=False), "it did not take over within 0.6 s"),
    "never polls": (Behaviour(polls=False), "it never polled successfully within 0.4 s"),
    "exits when active": (Behaviour(exits_after=0, polls=False, exit_code=9), "exited by itself with code 9"),
}


@pytest.mark.fault(
    24,
    what="the exam finds it; in service the deploy fails, blue goes on",
    user="`self_check_failed`, or `deploy_failed` with its last words",
    within="at once",
)
@pytest.mark.parametrize("name", FAILURES)
def test_a_green_that_fails_in_its_deploy_leaves_blue_active(installation: Installation, name: str) -> None:
    """The update ends in deploy_failed by its own fault, with the reason and green's last words; blue goes on."""
    behaviour, reason = FAILURES[name]
    with installation.supervised():
        blue = installation.becomes_active(installation.genesis)
        update = installation.reaches(installation.approved("bad", behaviour), S.DEPLOY_FAILED)
        assert reason in (update.last_error or "")
        assert "the last words of fake-worker-" in (update.last_error or "")
        installation.until(lambda: not installation.update(update).blame_open, what="the blame to be settled")
        assert installation.update(update).blame == Blame.OWN
        installation.becomes_active(installation.genesis)
        installation.until(lambda: installation.running() == [blue.worker_id])
        assert installation.ledger.good_sha() == installation.genesis.sha


def test_a_green_that_cannot_poll_while_the_bot_api_is_away_is_not_blamed(installation: Installation) -> None:
    """The deploy fails, and the same change may be submitted again: it was not its own fault."""
    installation.socket.bot_api_answers = False
    with installation.supervised():
        installation.becomes_active(installation.genesis)
        update = installation.reaches(installation.approved("quiet", Behaviour(polls=False)), S.DEPLOY_FAILED)
        assert update.blame == Blame.EXTERNAL
        assert installation.ledger.failed_before(update.patch_id or "") is None


def test_blue_gets_a_new_epoch_when_the_lease_comes_back_to_it(installation: Installation) -> None:
    """A green that took the lease and failed cannot use it any more: every grant has its own epoch."""
    with installation.supervised():
        installation.becomes_active(installation.genesis)
        installation.reaches(installation.approved("bad", Behaviour(polls=False)), S.DEPLOY_FAILED)
        installation.becomes_active(installation.genesis)
        epochs = [payload["epoch"] for payload in installation.told(EventType.LEASE_GRANTED)]
        assert epochs == [1, 2, 3]
        assert all(before < after for before, after in pairwise(installation.activity.epochs))


def test_the_holder_lets_go_before_the_next_lease_is_granted(installation: Installation) -> None:
    """Drained first, then the grant: by the ledger's order of events and by the workers' own times."""
    with installation.supervised():
        blue = installation.becomes_active(installation.genesis)
        installation.promoted()
        drained, granted = (
            installation.ledger.events(event, newest_first=True, limit=1)[0]
            for event in (EventType.WORKER_DRAINED, EventType.LEASE_GRANTED)
        )
        assert drained.payload["worker_id"] == blue.worker_id
        assert drained.id < granted.id
        assert installation.activity.let_go_at(blue.worker_id) <= granted.timestamp


def test_a_short_run_is_finished_before_the_lease_moves(installation: Installation) -> None:
    """Blue drains what it has in hand, in its own time, and is not killed for it."""
    installation.behaviours[installation.genesis.sha or ""] = [Behaviour(work_in_hand=0.3)]
    with installation.supervised():
        blue = installation.becomes_active(installation.genesis)
        installation.promoted()
        assert blue.worker_id in installation.running()
        assert ("kill", blue.worker_id) not in installation.engine.calls


@pytest.mark.fault(
    34,
    what="the holder is killed and seen dead before the next grant",
    user="the cut run goes on with the next worker",
    within="`AUTONOUS_DRAIN_SECONDS`",
)
def test_a_holder_that_does_not_let_go_is_killed_and_seen_dead_before_the_grant(installation: Installation) -> None:
    """Past the drain's deadline the fence falls: the kill and its proof come before the next epoch."""
    installation.change(drain_seconds=0.2)
    installation.behaviours[installation.genesis.sha or ""] = [Behaviour(lets_go=False), Behaviour()]
    with installation.supervised():
        blue = installation.becomes_active(installation.genesis)
        update = installation.approved()
        installation.becomes_active(update)
        granted = installation.ledger.events(EventType.LEASE_GRANTED, newest_first=True, limit=1)[0]
        assert ("kill", blue.worker_id) in installation.engine.calls
        assert installation.activity.let_go_at(blue.worker_id) <= granted.timestamp
        exited = [p for p in installation.told(EventType.WORKER_DRAINED) if p["worker_id"] == blue.worker_id]
        assert exited == []
        installation.reaches(update, S.PROMOTED)
        # N-1 is warm again: another worker of the same revision.
        installation.until(lambda: installation.running_shas().count(str(installation.genesis.sha)) == 1)
        ended = installation.ledger.worker(blue.worker_id)
        assert ended.reason == "killed: it had not let go of the lease after 0.2 s"
        assert not ended.crashed


@pytest.mark.fault(20)
def test_an_image_that_was_retagged_after_the_approval_is_not_deployed(installation: Installation) -> None:
    """What was approved is what runs: otherwise deploy_failed, digest_mismatch, and no container of it."""
    update = installation.staged()
    other = installation.staged("other")
    installation.engine.add_image(
        other.image_id or "", update.image_tag or "", {"autonous.sha": str(other.sha), "autonous.tx": other.tx_id}
    )
    installation.engine.remove_image(update.image_id or "")
    installation.decisions.approve(update.tx_id, by="a test")
    with installation.supervised():
        update = installation.reaches(update, S.DEPLOY_FAILED)
        assert update.code == "digest_mismatch"
        assert update.blame == Blame.EXTERNAL
        installation.becomes_active(installation.genesis)
        assert installation.running_shas() == [installation.genesis.sha]


def test_the_engine_may_be_away_for_a_while_in_a_deploy(installation: Installation) -> None:
    """Nobody is blamed for an engine that does not answer; the deploy goes on when it is back."""
    with installation.supervised():
        installation.becomes_active(installation.genesis)
        installation.engine.go_away()
        update = installation.approved()
        installation.reaches(update, S.DEPLOYING)
        installation.engine.come_back()
        installation.reaches(update, S.PROMOTED)
        installation.becomes_active(update)


def ends_with_the_engine(installation: Installation, worker_id: str) -> None:
    """The engine stops, and the worker with it; then it is there again."""
    installation.engine.go_away()
    installation.engine.crash(worker_id, code=137)
    installation.engine.come_back()


def loses_its_container(installation: Installation, worker_id: str) -> None:
    """Somebody removes it."""
    installation.engine.remove(worker_id)


def green_that_comes_up(installation: Installation, update: Update, *before: str) -> str:
    """The update's worker that runs, other than those before it."""
    greens: list[str] = []

    def there() -> bool:
        running = [row for row in map(installation.ledger.worker, installation.running()) if row.sha == update.sha]
        greens.extend(row.worker_id for row in running if row.worker_id not in before)
        return bool(greens) or installation.update(update).status is not S.DEPLOYING

    installation.until(there, what="green to come up")
    return greens[0] if greens else ""


@pytest.mark.parametrize("ends", [ends_with_the_engine, loses_its_container])
def test_a_green_that_ends_from_outside_in_its_deploy_is_started_again(
    installation: Installation, ends: Callable[[Installation, str], None]
) -> None:
    """Not by its own fault: the deploy goes on with another one, and nothing is held against the change."""
    with installation.supervised():
        installation.becomes_active(installation.genesis)
        update = installation.approved("hit", Behaviour(gets_ready=False), Behaviour())
        installation.reaches(update, S.DEPLOYING)
        first = green_that_comes_up(installation, update)
        ends(installation, first)
        update = installation.reaches(update, S.PROMOTED, S.DEPLOY_FAILED)
        assert (update.status, update.last_error) == (S.PROMOTED, None)
        assert not installation.ledger.worker(first).crashed
        assert installation.becomes_active(update).worker_id != first


def test_a_green_that_ends_from_outside_again_and_again_is_given_up_without_blame(installation: Installation) -> None:
    """The deploy ends, blue goes on, and the same change may come again."""
    installation.timing = replace(QUICK, ready=30)
    with installation.supervised():
        installation.becomes_active(installation.genesis)
        update = installation.approved("hit", Behaviour(gets_ready=False))
        installation.reaches(update, S.DEPLOYING)
        greens: list[str] = []
        while (green := green_that_comes_up(installation, update, *greens)) != "":
            greens.append(green)
            loses_its_container(installation, green)
        update = installation.reaches(update, S.DEPLOY_FAILED)
        assert len(greens) == MOST_DEATHS + 1
        assert update.blame == Blame.EXTERNAL
        assert installation.ledger.failed_before(update.patch_id or "") is None
        installation.becomes_active(installation.genesis)


def test_a_green_that_fails_on_a_full_disk_is_not_blamed(installation: Installation) -> None:
    """The deploy fails, and the same change may be submitted again."""
    installation.disk_has_room = False
    with installation.supervised():
        installation.becomes_active(installation.genesis)
        update = installation.reaches(installation.approved("full", Behaviour(exits_at_start=1)), S.DEPLOY_FAILED)
        assert update.blame == Blame.EXTERNAL


def test_other_updates_of_the_old_base_are_superseded_at_promotion(installation: Installation) -> None:
    """Staged and approved ones on the former base end, and name the update that took their place."""
    staged = installation.staged("staged")
    first = installation.approved("first")
    second = installation.approved("second")
    with installation.supervised():
        installation.reaches(first, S.PROMOTED)
        for update in (staged, second):
            ended = installation.reaches(update, S.SUPERSEDED)
            assert first.tx_id in (ended.last_error or "")
        installation.becomes_active(first)


def test_an_approved_update_whose_base_is_no_longer_good_is_never_deployed(installation: Installation) -> None:
    """A supervisor that ended between a promotion and its clean-up does not deploy over what was promoted."""
    first = installation.staged("first")
    stale, waiting = installation.approved("stale"), installation.staged("waiting")
    for source, target in (
        (S.STAGED, S.APPROVED),
        (S.APPROVED, S.DEPLOYING),
        (S.DEPLOYING, S.DEPLOYED_UNSTABLE),
        (S.DEPLOYED_UNSTABLE, S.PROMOTED),
    ):
        installation.ledger.move(first.tx_id, source, target)
    with installation.supervised():
        installation.becomes_active(first)
        installation.reaches(stale, S.SUPERSEDED)
        installation.reaches(waiting, S.SUPERSEDED)
        assert stale.sha not in installation.running_shas()


@pytest.mark.fault(
    6,
    what="what is left over is put away",
    user="nothing",
    within="a restart",
)
def test_nothing_but_the_two_revisions_keeps_running(installation: Installation) -> None:
    """Workers that a crash left over are put away, though the clean-up that would have done it never came."""
    with installation.supervised() as supervisor:
        installation.becomes_active(installation.genesis)
        first = installation.promoted("first")
        installation.until(lambda: EventType.UPDATE_CLEANUP_COMPLETED in installation.events(first))
        supervisor.containers.spawn(installation.ledger.revision(str(installation.genesis.sha)))
        installation.until(lambda: len(installation.running()) == 2 and len(installation.running("toolbox")) == 2)
        assert installation.running_shas() == sorted([str(installation.genesis.sha), str(first.sha)])


def test_a_dead_standby_is_replaced_and_put_away(installation: Installation) -> None:
    """N-1 stands by again soon after its container died, and nothing is left of the dead one."""
    with installation.supervised():
        blue = installation.becomes_active(installation.genesis)
        installation.promoted()
        installation.engine.crash(blue.worker_id, code=7)
        installation.until(lambda: len(installation.running()) == 2)
        installation.until(lambda: len(installation.engine.containers("fake")) == 4)
        ended = installation.ledger.worker(blue.worker_id)
        assert (ended.exit_code, ended.reason) == (7, "exited by itself with code 7")
