"""A changed setting: a hand-over to the same revision with the new environment, and nothing is built or judged."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.contract import EventType
from tests.supervisor.fakes.installation import Installation
from tests.supervisor.fakes.workers import Behaviour


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    with Installation(tmp_path / "home") as made:
        yield made


def test_both_workers_are_renewed_with_the_changed_settings(installation: Installation) -> None:
    """The active one drains first, the warm N-1 is replaced, too; no revision and no update changes."""
    with installation.supervised():
        installation.becomes_active(installation.genesis)
        update = installation.promoted()
        installation.until(lambda: EventType.UPDATE_CLEANUP_COMPLETED in installation.events(update))
        before = installation.running()
        active = installation.active()
    assert active is not None
    installation.environment = {"OPENAI_MODEL": "another"}
    with installation.supervised() as supervisor:
        installation.until(lambda: len(installation.running()) == 2 and not set(before) & set(installation.running()))
        renewed = installation.becomes_active(update)
        assert supervisor.containers.current(renewed)
        assert supervisor.rollout.renewal is None
        assert installation.running_shas() == sorted([str(update.sha), str(installation.genesis.sha)])
        assert ("kill", active.worker_id) not in installation.engine.calls
        assert installation.told(EventType.WORKER_DRAINED)[-1]["worker_id"] == active.worker_id
        assert installation.ledger.good_sha() == update.sha


def test_the_same_settings_renew_nobody(installation: Installation) -> None:
    """A restart of the supervisor alone is none of the workers' business."""
    installation.environment = {"A": "1", "B": "2"}
    with installation.supervised():
        before = installation.becomes_active(installation.genesis)
    installation.environment = {"B": "2", "A": "1"}
    with installation.supervised() as supervisor:
        installation.until(lambda: (s := supervisor.pool.session(before)) is not None and s.last_beat is not None)
        assert supervisor.containers.current(before)
        assert supervisor.rollout.renewal is None
    assert installation.active() == before
    assert len(installation.told(EventType.WORKER_SPAWNED)) == 1


@pytest.mark.parametrize("behaviour", [Behaviour(exits_at_start=1), Behaviour(takes_over=False)])
def test_settings_that_no_worker_comes_up_with_leave_the_active_one(
    installation: Installation, behaviour: Behaviour
) -> None:
    """It goes on with the former ones; the reason can be seen, and the revision is not blamed."""
    with installation.supervised():
        before = installation.becomes_active(installation.genesis)
    installation.environment = {"OPENAI_BASE_URL": "http://nowhere"}
    installation.behaviours[str(installation.genesis.sha)] = [behaviour]
    with installation.supervised() as supervisor:
        installation.until(lambda: (supervisor.rollout.renewal or {}).get("state") == "failed")
        assert installation.becomes_active(installation.genesis).worker_id == before.worker_id
        assert (supervisor.rollout.renewal or {})["reason"]
        assert installation.ledger.crashes(str(installation.genesis.sha), 0) == []


def test_a_rollback_brings_up_n_minus_1_with_the_settings_of_now(installation: Installation) -> None:
    """A worker that stood by with former settings is not what one goes back to."""
    with installation.supervised():
        installation.becomes_active(installation.genesis)
        update = installation.promoted()
    installation.environment = {"OPENAI_MODEL": "another"}
    installation.decisions.rollback(update.tx_id)
    with installation.supervised() as supervisor:
        installation.until(lambda: installation.active_sha() == installation.genesis.sha)
        row = installation.active()
        assert row is not None
        assert supervisor.containers.current(row)
