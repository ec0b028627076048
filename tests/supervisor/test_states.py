"""The life of an update, checked against the table as it was agreed, written out here a second time."""

import pytest

from supervisor.contract.events import EventType
from supervisor.states import FINAL, IN_PIPELINE, IN_ROLLOUT, PENDING, TRANSITIONS, Status, may_move

TABLE = """
created            -> building refused cancelled
building           -> testing build_failed cancelled
testing            -> self_checking test_failed cancelled
self_checking      -> staged self_check_failed cancelled
staged             -> approved cancelled superseded
approved           -> deploying cancelled superseded
deploying          -> deployed_unstable deploy_failed
deployed_unstable  -> promoted rollback_pending
promoted           -> rollback_pending
rollback_pending   -> rolled_back
"""

PAIRS = {
    (source, target)
    for source, _, targets in (line.partition(" -> ") for line in TABLE.strip().splitlines())
    for source in [source.strip()]
    for target in targets.split()
}


def test_transitions_are_the_agreed_table() -> None:
    """Every agreed move is there, and not one more."""
    assert {(str(source), str(target)) for source, target in TRANSITIONS} == PAIRS


def test_final_states_are_those_that_lead_nowhere() -> None:
    """An update is over in exactly these states."""
    assert set(FINAL) == {
        "refused",
        "build_failed",
        "test_failed",
        "self_check_failed",
        "cancelled",
        "superseded",
        "deploy_failed",
        "rolled_back",
    }


def test_every_status_is_reached_from_created() -> None:
    """No status is an island."""
    reached = {Status.CREATED}
    while more := {target for source, target in TRANSITIONS if source in reached} - reached:
        reached |= more
    assert reached == set(Status)


def test_every_status_is_final_pending_or_promoted() -> None:
    """Whatever is not over and not promoted is listed as pending, once."""
    assert set(PENDING) == set(Status) - FINAL - {Status.PROMOTED}
    assert len(PENDING) == len(set(PENDING))
    assert {*IN_PIPELINE, *IN_ROLLOUT} == set(PENDING) - {Status.STAGED}


def test_every_transition_has_an_event_that_names_its_target() -> None:
    """No status changes in silence, and every failed gate has its own event."""
    named = {
        Status.BUILDING: EventType.UPDATE_BUILD_STARTED,
        Status.REFUSED: EventType.UPDATE_REFUSED,
        Status.BUILD_FAILED: EventType.UPDATE_BUILD_FAILED,
        Status.TESTING: EventType.UPDATE_TEST_STARTED,
        Status.TEST_FAILED: EventType.UPDATE_TEST_FAILED,
        Status.SELF_CHECKING: EventType.UPDATE_SELF_CHECK_STARTED,
        Status.SELF_CHECK_FAILED: EventType.UPDATE_SELF_CHECK_FAILED,
        Status.STAGED: EventType.UPDATE_STAGED,
        Status.APPROVED: EventType.UPDATE_APPROVED,
        Status.CANCELLED: EventType.UPDATE_CANCELLED,
        Status.SUPERSEDED: EventType.UPDATE_SUPERSEDED,
        Status.DEPLOYING: EventType.UPDATE_DEPLOY_STARTED,
        Status.DEPLOY_FAILED: EventType.UPDATE_DEPLOY_FAILED,
        Status.DEPLOYED_UNSTABLE: EventType.UPDATE_DEPLOY_COMPLETED,
        Status.PROMOTED: EventType.UPDATE_PROMOTED,
        Status.ROLLBACK_PENDING: EventType.UPDATE_ROLLBACK_STARTED,
        Status.ROLLED_BACK: EventType.UPDATE_ROLLBACK_COMPLETED,
    }
    assert [pair for pair, events in TRANSITIONS.items() if named[pair[1]] not in events] == []


@pytest.mark.parametrize(
    ("source", "target"),
    [(Status.CREATED, Status.PROMOTED), (Status.ROLLED_BACK, Status.CREATED), (Status.STAGED, Status.STAGED)],
)
def test_what_is_not_in_the_table_may_not_be(source: Status, target: Status) -> None:
    """Gates cannot be jumped, an end is an end, and a status does not lead to itself."""
    assert not may_move(source, target)


def test_what_is_in_the_table_may_be() -> None:
    """The question and the table agree."""
    assert all(may_move(*pair) for pair in TRANSITIONS)
