"""The life of an update, as data. Nothing else in the project may decide which move is legal.

The events named with a transition are written by the ledger in the same transaction as the change of status.
"""

from enum import StrEnum
from typing import Final

from supervisor.contract.events import EventType as E


class Status(StrEnum):
    """Where an update is."""

    CREATED = "created"
    REFUSED = "refused"
    BUILDING = "building"
    BUILD_FAILED = "build_failed"
    TESTING = "testing"
    TEST_FAILED = "test_failed"
    SELF_CHECKING = "self_checking"
    SELF_CHECK_FAILED = "self_check_failed"
    STAGED = "staged"
    APPROVED = "approved"
    CANCELLED = "cancelled"
    SUPERSEDED = "superseded"
    DEPLOYING = "deploying"
    DEPLOY_FAILED = "deploy_failed"
    DEPLOYED_UNSTABLE = "deployed_unstable"
    PROMOTED = "promoted"
    ROLLBACK_PENDING = "rollback_pending"
    ROLLED_BACK = "rolled_back"


S = Status

TRANSITIONS: Final[dict[tuple[Status, Status], tuple[E, ...]]] = {
    (S.CREATED, S.BUILDING): (E.UPDATE_BUILD_STARTED,),
    (S.CREATED, S.REFUSED): (E.UPDATE_REFUSED,),
    (S.CREATED, S.CANCELLED): (E.UPDATE_CANCELLED,),
    (S.BUILDING, S.TESTING): (E.UPDATE_BUILD_COMPLETED, E.UPDATE_TEST_STARTED),
    (S.BUILDING, S.BUILD_FAILED): (E.UPDATE_BUILD_FAILED,),
    (S.BUILDING, S.CANCELLED): (E.UPDATE_CANCELLED,),
    (S.TESTING, S.SELF_CHECKING): (E.UPDATE_TEST_COMPLETED, E.UPDATE_SELF_CHECK_STARTED),
    (S.TESTING, S.TEST_FAILED): (E.UPDATE_TEST_FAILED,),
    (S.TESTING, S.CANCELLED): (E.UPDATE_CANCELLED,),
    (S.SELF_CHECKING, S.STAGED): (E.UPDATE_SELF_CHECK_COMPLETED, E.UPDATE_STAGED),
    (S.SELF_CHECKING, S.SELF_CHECK_FAILED): (E.UPDATE_SELF_CHECK_FAILED,),
    (S.SELF_CHECKING, S.CANCELLED): (E.UPDATE_CANCELLED,),
    (S.STAGED, S.APPROVED): (E.UPDATE_APPROVED,),
    (S.STAGED, S.CANCELLED): (E.UPDATE_CANCELLED,),
    (S.STAGED, S.SUPERSEDED): (E.UPDATE_SUPERSEDED,),
    (S.APPROVED, S.DEPLOYING): (E.UPDATE_DEPLOY_STARTED,),
    (S.APPROVED, S.CANCELLED): (E.UPDATE_CANCELLED,),
    (S.APPROVED, S.SUPERSEDED): (E.UPDATE_SUPERSEDED,),
    (S.DEPLOYING, S.DEPLOYED_UNSTABLE): (E.UPDATE_DEPLOY_COMPLETED,),
    (S.DEPLOYING, S.DEPLOY_FAILED): (E.UPDATE_DEPLOY_FAILED,),
    (S.DEPLOYED_UNSTABLE, S.PROMOTED): (E.UPDATE_PROMOTED, E.REVISION_PROMOTED),
    (S.DEPLOYED_UNSTABLE, S.ROLLBACK_PENDING): (E.UPDATE_ROLLBACK_STARTED,),
    (S.PROMOTED, S.ROLLBACK_PENDING): (E.UPDATE_ROLLBACK_STARTED,),
    (S.ROLLBACK_PENDING, S.ROLLED_BACK): (E.UPDATE_ROLLBACK_COMPLETED,),
}

#: States from which no move leads on: the update is over.
FINAL: Final = frozenset(S) - {source for source, _ in TRANSITIONS}

#: The gates still have to judge it; after a crash the step of the present state starts again.
IN_PIPELINE: Final = (S.CREATED, S.BUILDING, S.TESTING, S.SELF_CHECKING)

#: Waiting for or in the hands of the roll-out, most urgent first.
IN_ROLLOUT: Final = (S.ROLLBACK_PENDING, S.DEPLOYING, S.DEPLOYED_UNSTABLE, S.APPROVED)

#: What a person still waits for, as ``supervisor status`` lists it.
PENDING: Final = (*IN_PIPELINE, S.STAGED, S.APPROVED, S.DEPLOYING, S.DEPLOYED_UNSTABLE, S.ROLLBACK_PENDING)


def may_move(source: Status, target: Status) -> bool:
    """Whether the table has this transition."""
    return (source, target) in TRANSITIONS
