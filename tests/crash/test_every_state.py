"""The real supervisor is killed once in every state of an update, on the real engine."""

import pytest

from tests.crash.road import Road

#: A place in each state, in the order in which an update comes by them.
IN_EVERY_STATE = {
    "created": "ledger.created.building.before",
    "building": "engine.build.after",
    "testing": "engine.start.test.after",
    "self_checking": "ledger.self_checking.staged.before",
    "staged": "ledger.staged.approved.before",
    "approved": "ledger.approved.deploying.before",
    "deploying": "ledger.lease.before",
    "deploying, after the switch": "ledger.deploying.deployed_unstable.before",
    "deployed_unstable": "ledger.deployed_unstable.promoted.before",
    "promoted, before anything is cleaned up": "ledger.deployed_unstable.promoted.after",
    "promoted": "ledger.promoted.rollback_pending.before",
    "rollback_pending": "ledger.rollback_pending.rolled_back.before",
}


@pytest.mark.fault(1, 3, 4, 5, 6)
def test_a_death_in_every_state_changes_nothing_about_the_end(road: Road) -> None:
    """Each move once with its event, base active beside a warm N-1, and every message answered once."""
    pids = {road.installation.supervisor_pid()}
    road.walk("killed_in_every_state", list(IN_EVERY_STATE.values()))
    pids.add(road.installation.supervisor_pid())
    assert len(pids) == 2  # another process than at the start
