"""A step of the roll-out in which one supervisor after the other dies: given up, where there is a safer end."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.ledger import Update
from supervisor.states import Status
from supervisor.updates.attempts import MOST_DEATHS
from tests.supervisor.fakes.deaths import SECONDS, DieWhen, settled
from tests.supervisor.fakes.installation import Installation
from tests.supervisor.fakes.supervisors import Supervisor

S = Status


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    with Installation(tmp_path / "home") as made:
        made.change(stable_window_seconds=0.1)
        yield made


def die_again_and_again(
    installation: Installation, supervisor: Supervisor, mine: DieWhen, update: Update, status: Status
) -> None:
    """Every supervisor up to the bound dies in this step; the one after them lives."""
    for death in range(MOST_DEATHS + 1):  # the first one is at the step's threshold
        mine.wait(supervisor)
        installation.interrupt = lambda: None
        if death < MOST_DEATHS:
            mine = DieWhen(installation, lambda: installation.update(update).status is status)
        supervisor = installation.start()


DEADLY = {S.DEPLOYING: S.DEPLOY_FAILED, S.DEPLOYED_UNSTABLE: S.ROLLED_BACK}


@pytest.mark.fault(2)
@pytest.mark.parametrize("status", DEADLY)
def test_a_step_in_which_every_supervisor_dies(installation: Installation, status: Status) -> None:
    """It is given up after a number of deaths: blue serves, the reason is told, and the patch is not to blame."""
    installation.change(stable_window_seconds=0.3)
    supervisor = installation.start()
    blue = installation.becomes_active(installation.genesis)
    update = installation.staged("deadly")
    mine = DieWhen(installation, lambda: installation.update(update).status is status)
    installation.approve(update)
    die_again_and_again(installation, supervisor, mine, update, status)
    update = installation.reaches(update, DEADLY[status], seconds=SECONDS)
    installation.until(lambda: settled(installation), SECONDS)
    assert (installation.active_sha(), update.blame) == (blue.sha, "external")
    assert f"{MOST_DEATHS} supervisors died" in (update.last_error or "")


@pytest.mark.fault(2)
def test_a_rollback_in_which_every_supervisor_dies(installation: Installation) -> None:
    """It is never given up, as nothing is safer than its end: the first supervisor that lives carries it out."""
    supervisor = installation.start()
    blue = installation.becomes_active(installation.genesis)
    update = installation.promoted("to be taken back")
    installation.until(lambda: settled(installation), SECONDS)
    mine = DieWhen(installation, lambda: installation.update(update).status is S.ROLLBACK_PENDING)
    installation.roll_back(update)
    die_again_and_again(installation, supervisor, mine, update, S.ROLLBACK_PENDING)
    update = installation.reaches(update, S.ROLLED_BACK, seconds=SECONDS)
    installation.until(lambda: settled(installation), SECONDS)
    assert installation.active_sha() == blue.sha


def test_restarts_in_order_are_no_deaths(installation: Installation) -> None:
    """However many there are in one probation."""
    installation.change(stable_window_seconds=1.5)
    with installation.supervised():
        installation.becomes_active(installation.genesis)
        update = installation.approved("often restarted")
        installation.reaches(update, S.DEPLOYED_UNSTABLE)
    for _ in range(MOST_DEATHS + 2):
        with installation.supervised():
            installation.becomes_active(update)
    with installation.supervised():
        installation.reaches(update, S.PROMOTED, seconds=SECONDS)
