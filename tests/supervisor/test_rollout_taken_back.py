"""Going back from a revision on which another one is just being put into service."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.ledger import Blame, Ledger, Update
from supervisor.states import Status
from supervisor.updates.decisions import Decisions, Refusal
from tests.supervisor.fakes.installation import Installation
from tests.supervisor.fakes.updates import genesis, update_in
from tests.supervisor.fakes.workers import Behaviour

S = Status


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    with Installation(tmp_path / "home") as made:
        yield made


def test_an_update_in_deployment_is_given_up_when_its_base_is_taken_back(installation: Installation) -> None:
    """The way back is not undone by what was on its way: it ends without blame, and nothing of either serves."""
    with installation.supervised():
        installation.becomes_active(installation.genesis)
        first = installation.promoted("first", Behaviour(work_in_hand=0.4))  # so long does blue drain
        second = installation.reaches(installation.approved("second"), S.DEPLOYING)
        installation.until(lambda: len(installation.running()) == 3)
        installation.roll_back(first)
        first = installation.reaches(first, S.ROLLED_BACK)
        second = installation.reaches(second, S.DEPLOY_FAILED, S.PROMOTED)
        assert (second.status, second.blame) == (S.DEPLOY_FAILED, Blame.EXTERNAL)
        assert "its base, is being rolled back" in str(second.last_error)
        installation.becomes_active(installation.genesis)
        assert installation.ledger.good_sha() == installation.genesis.sha
        installation.until(lambda: installation.running_shas() == [installation.genesis.sha])
        statuses = [event.payload["status_to"] for event in installation.ledger.events(parent_id=second.event_id)[-2:]]
        assert statuses == [S.DEPLOYING, S.DEPLOY_FAILED]


def left_behind(installation: Installation, status: Status) -> tuple[Update, Update]:
    """An update whose base was taken back while it was in this state, as an earlier supervisor may leave it."""
    with installation.supervised():
        installation.becomes_active(installation.genesis)
        first = installation.promoted("first")
    ledger = installation.ledger
    second = installation.approved("second", base=first)
    for source, target in ((S.APPROVED, S.DEPLOYING), (S.DEPLOYING, S.DEPLOYED_UNSTABLE)):
        if second.status is not status:
            second = ledger.move(second.tx_id, source, target)
    ledger.move(first.tx_id, S.PROMOTED, S.ROLLBACK_PENDING, changes={"blame": Blame.PERSON})
    return first, second


@pytest.mark.parametrize(
    ("status", "ends"), [(S.DEPLOYING, S.DEPLOY_FAILED), (S.DEPLOYED_UNSTABLE, S.ROLLED_BACK)], ids=str
)
def test_what_is_left_on_a_base_that_was_taken_back_is_not_proven(
    installation: Installation, status: Status, ends: Status
) -> None:
    """Not by the health of another revision's worker; and nothing leads back to what was taken back."""
    first, second = left_behind(installation, status)
    with installation.supervised():
        installation.reaches(first, S.ROLLED_BACK)
        second = installation.reaches(second, ends, S.PROMOTED)
        assert (second.status, second.blame) == (ends, Blame.EXTERNAL)
        installation.becomes_active(installation.genesis)
        assert installation.ledger.good_sha() == installation.genesis.sha
        assert installation.ledger.failed_before(second.patch_id or "") is None


class Overtaken(Ledger):
    """A ledger in which an update begins its probation just after somebody looked which one is good."""

    overtaking: Update | None = None

    def good_sha(self) -> str | None:
        found = super().good_sha()
        if (update := self.overtaking) is not None:
            self.overtaking = None
            self.move(update.tx_id, S.DEPLOYING, S.DEPLOYED_UNSTABLE)
        return found


def test_a_way_back_that_comes_too_late_is_refused(tmp_path: Path) -> None:
    """The one that went into service meanwhile is named; nothing of the decision stays behind."""
    with Overtaken(tmp_path / "ledger.db") as ledger:
        base = update_in(ledger, S.PROMOTED, base=genesis(ledger))
        ledger.overtaking = update = update_in(ledger, S.DEPLOYING, base=base)
        with pytest.raises(Refusal, match=f"not active; {update.tx_id[:8]} is"):
            Decisions(ledger).rollback(base.tx_id)
        assert ledger.find(base.tx_id).status is S.PROMOTED
