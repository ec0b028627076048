"""The supervisor is upgraded while an update is in its hands: the newer one brings the ledger up and goes on."""

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from supervisor.ledger import Update
from supervisor.ledger.migrations import LATEST, MIGRATIONS
from supervisor.pipeline.pipeline import Pipeline
from supervisor.states import IN_PIPELINE, Status
from tests.supervisor.fakes.deaths import SECONDS, DieWhen, settled
from tests.supervisor.fakes.installation import Installation
from tests.supervisor.fakes.supervisors import Killed
from tests.supervisor.test_pipeline_attempts import Failing, in_step, pipeline_on


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    with Installation(tmp_path / "home") as made:
        made.change(stable_window_seconds=0.1, min_free_bytes=0)
        yield made


def taken_back(statement: str) -> str:
    """What undoes a statement of a migration."""
    if found := re.match(r"\s*ALTER TABLE (\w+) ADD COLUMN (\w+)", statement):
        return f"ALTER TABLE {found[1]} DROP COLUMN {found[2]}"
    found = re.match(r"\s*CREATE (?:UNIQUE )?(TABLE|INDEX|TRIGGER) (\w+)", statement)
    assert found is not None, statement
    return f"DROP {found[1]} {found[2]}"


def as_an_older_one_left_it(installation: Installation) -> None:
    """Take the last step of the ledger's schema back, and open the file anew."""
    installation.ledger.close()
    with closing(sqlite3.connect(installation.settings.paths.ledger)) as connection:
        for statement in reversed(MIGRATIONS[-1].statements):
            connection.execute(taken_back(statement))
        connection.execute("DELETE FROM schema_migrations WHERE number = ?", (LATEST,))
        connection.commit()
    installation.open_ledger()


@pytest.mark.fault(41)
@pytest.mark.parametrize("status", [Status.DEPLOYING, Status.DEPLOYED_UNSTABLE])
def test_upgraded_in_the_roll_out(installation: Installation, status: Status) -> None:
    """The deploy or the probation that the older one had begun comes to its end."""
    supervisor = installation.start()
    installation.becomes_active(installation.genesis)
    update = installation.staged("in hand")
    mine = DieWhen(installation, lambda: installation.update(update).status is status)
    installation.approve(update)
    mine.wait(supervisor)
    installation.interrupt = lambda: None
    as_an_older_one_left_it(installation)
    with installation.supervised():
        installation.reaches(update, Status.PROMOTED, seconds=SECONDS)
        installation.until(lambda: settled(installation), SECONDS)


@pytest.mark.fault(41)
@pytest.mark.parametrize("status", IN_PIPELINE)
def test_upgraded_at_the_gates(installation: Installation, monkeypatch: pytest.MonkeyPatch, status: Status) -> None:
    """The step that the older one had begun begins again."""
    update = in_step(installation, status)
    begun: list[str] = []

    def work_on(_: Pipeline, attended: Update) -> None:
        begun.append(attended.status)
        raise Killed

    monkeypatch.setattr(Pipeline, "_work_on", work_on)
    as_an_older_one_left_it(installation)
    newer = pipeline_on(installation, Failing(Killed()))
    with pytest.raises(Killed):
        newer.run()
    assert begun == [status]
    assert installation.update(update).status is status
