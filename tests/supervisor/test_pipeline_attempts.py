"""A step in which the engine fails, or every supervisor dies: it costs the update in the end, which is not blamed."""

import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from supervisor.engine import EngineError, EngineUnreachable, NoSpace
from supervisor.ledger import Blame, NewUpdate, Origin, Update
from supervisor.pipeline import pipeline
from supervisor.pipeline.pipeline import Pipeline
from supervisor.sessions import Signal
from supervisor.states import IN_PIPELINE, Status
from supervisor.updates.attempts import MOST_DEATHS
from tests.supervisor.fakes.installation import Installation
from tests.supervisor.fakes.supervisors import Killed


class Failing:
    """An engine that fails in whatever it is asked."""

    def __init__(self, failure: BaseException) -> None:
        self.failure = failure
        self.asked = 0

    def __getattr__(self, name: str) -> Any:
        def fail(*_: object, **__: object) -> None:
            self.asked += 1
            raise self.failure

        return fail


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    with Installation(tmp_path / "home") as made:
        made.change(min_free_bytes=0)
        yield made


def in_step(installation: Installation, status: Status) -> Update:
    """An update that has come so far."""
    base = installation.ledger.good_revision()
    new = NewUpdate(origin=Origin.CLI, patch=b"patch", base_sha=base.sha, base_tx_id=base.tx_id)
    update = installation.ledger.create(new)
    installation.ledger.amend(update.tx_id, {"sha": base.sha, "tree": base.tree, "image_id": base.image_id})
    for source, target in pairwise(IN_PIPELINE[: IN_PIPELINE.index(status) + 1]):
        installation.ledger.move(update.tx_id, source, target)
    return installation.update(update)


def pipeline_on(installation: Installation, engine: Failing) -> Pipeline:
    """A pipeline of a supervisor of its own."""
    return Pipeline(
        engine=engine,  # type: ignore[arg-type]
        ledger=installation.ledger,
        revisions=installation.revisions,
        settings=installation.settings,
        signal=Signal(),
        started_event=0,
    )


def at_work(installation: Installation, failure: Exception, monkeypatch: pytest.MonkeyPatch) -> tuple[Failing, str]:
    """A pipeline with an update to build; the engine, and the update's tx. It runs until the test is over."""
    monkeypatch.setattr(pipeline, "RETRY_SECONDS", 0.01)
    engine, update = Failing(failure), in_step(installation, Status.BUILDING)
    made = pipeline_on(installation, engine)
    thread = threading.Thread(target=made.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 5
    while engine.asked < 8 and thread.is_alive() and time.monotonic() < deadline:
        if installation.ledger.find(update.tx_id).status is not Status.BUILDING:
            break
        time.sleep(0.01)
    made.stop()
    thread.join(10)
    return engine, update.tx_id


def test_after_five_attempts_the_update_ends_without_blame(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others behind it get their turn; the same change may be submitted again."""
    _, tx_id = at_work(installation, EngineError("it is confused"), monkeypatch)
    update = installation.ledger.find(tx_id)
    assert (update.status, update.blame) == (Status.BUILD_FAILED, Blame.EXTERNAL)
    assert "the engine failed 5 times in this step, at last: it is confused" in (update.last_error or "")


@pytest.mark.parametrize("failure", [EngineUnreachable("it is away"), NoSpace("no space left")])
def test_an_engine_that_is_away_or_full_is_waited_for(
    installation: Installation, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    """However long that takes."""
    engine, tx_id = at_work(installation, failure, monkeypatch)
    assert engine.asked >= 8
    assert installation.ledger.find(tx_id).status is Status.BUILDING


def test_a_home_that_cannot_be_looked_at_does_not_end_the_pipeline(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says that it waits, and goes on when the home is back."""
    monkeypatch.setattr(pipeline, "RETRY_SECONDS", 0.01)
    installation.change(home=installation.settings.home / "gone")
    base = installation.ledger.good_revision()
    new = NewUpdate(origin=Origin.CLI, patch=b"patch", base_sha=base.sha, base_tx_id=base.tx_id)
    installation.ledger.create(new)
    made = pipeline_on(installation, Failing(EngineUnreachable("it is away")))
    thread = threading.Thread(target=made.run, daemon=True)
    thread.start()
    installation.until(lambda: "No such file" in made.paused or not thread.is_alive())
    assert thread.is_alive()
    made.stop()
    thread.join(10)
    installation.change(home=installation.settings.home.parent)


def test_a_patch_that_the_thread_judges_first_is_handed_in_all_the_same(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever handed it in is told what came of it."""
    made = pipeline_on(installation, Failing(EngineUnreachable("it is away")))
    judge = made._admit

    def judged_before(update: Update) -> Update:
        judge(update)
        return judge(update)

    monkeypatch.setattr(made, "_admit", judged_before)
    base = installation.ledger.good_revision()
    update = made.submit(NewUpdate(origin=Origin.CLI, patch=b"no patch", base_sha=base.sha, base_tx_id=base.tx_id))
    assert (update.status, update.code) == (Status.REFUSED, "not_a_patch")


GIVEN_UP = {
    Status.CREATED: Status.CANCELLED,
    Status.BUILDING: Status.BUILD_FAILED,
    Status.TESTING: Status.TEST_FAILED,
    Status.SELF_CHECKING: Status.SELF_CHECK_FAILED,
}


@pytest.mark.fault(2)
@pytest.mark.parametrize("status", GIVEN_UP)
def test_a_step_of_the_gates_in_which_every_supervisor_dies(
    installation: Installation, monkeypatch: pytest.MonkeyPatch, status: Status
) -> None:
    """It is given up after a number of deaths, without blame, and not before."""
    update = in_step(installation, status)
    reached: list[str] = []

    def die(_: Pipeline, attended: Update) -> None:
        reached.append(attended.status)
        raise Killed

    monkeypatch.setattr(Pipeline, "_work_on", die)
    for _ in range(MOST_DEATHS):
        with pytest.raises(Killed):
            pipeline_on(installation, Failing(Killed())).run()
        assert installation.update(update).status is status
    last = pipeline_on(installation, Failing(Killed()))
    thread = threading.Thread(target=last.run, daemon=True)
    thread.start()
    update = installation.reaches(update, GIVEN_UP[status])
    last.stop()
    thread.join(10)
    assert reached == [status] * MOST_DEATHS
    assert update.blame == Blame.EXTERNAL
    assert f"{MOST_DEATHS} supervisors died" in (update.last_error or "")
