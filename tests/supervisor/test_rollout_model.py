"""The rules of the roll-out over the stateful fakes."""

import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from supervisor.states import IN_ROLLOUT, Status
from supervisor.updates.decisions import Refusal
from tests.supervisor.fakes.installation import QUICK, Installation
from tests.supervisor.fakes.supervisors import Killed
from tests.supervisor.fakes.workers import Behaviour
from tests.support.moves import Move, noted
from tests.support.rolloutmodel import GOOD, Model, Rest, ShakenRollouts, ShakenWorld

SECONDS = 20.0
#: A busy machine makes workers late; nothing here is about that.
PATIENT = replace(QUICK, ready=6.0, activate=6.0, first_poll=6.0, grace=2.0)
BEHAVIOURS = {
    GOOD: [],
    "exits at once": [Behaviour(exits_after=0, polls=False)],
    "exits in its probation": [Behaviour(exits_after=0.1)],
}


class Fakes:
    """An installation without an engine."""

    def __init__(self) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="model-")
        self._installation = Installation(Path(self._directory.name) / "home", timing=PATIENT)
        # What is killed here is nobody's crash loop.
        self._installation.change(stable_window_seconds=0.2, crash_threshold=1000)
        self._supervisor = self._installation.start()
        self._installation.becomes_active(self._installation.genesis)
        self._numbers = 0
        self.killed = 0

    def stage(self, kind: str) -> str:
        self._numbers += 1
        installation = self._installation
        if installation.ledger.first(*IN_ROLLOUT) is not None:
            return ""
        update = installation.staged(f"{kind} {self._numbers}")
        installation.behaviours[update.sha or ""] = list(BEHAVIOURS[kind])
        return update.tx_id

    def approve(self, update: str) -> bool:
        return self._decided("approve", update)

    def cancel(self, update: str) -> bool:
        return self._decided("cancel", update)

    def roll_back(self, update: str) -> bool:
        return self._decided("rollback", update)

    def _decided(self, decision: str, update: str) -> bool:
        decisions = self._installation.decisions
        try:
            match decision:
                case "approve":
                    decisions.approve(update, by="the model")
                case "cancel":
                    decisions.cancel(update)
                case _:
                    decisions.rollback(update)
        except Refusal:
            return False
        self._installation.nudge()
        return True

    def status(self, update: str) -> str:
        return str(self._installation.ledger.find(update).status)

    def why(self, update: str) -> str:
        return str(self._installation.ledger.find(update).last_error)

    def history(self, update: str) -> list[Move]:
        return noted(self._installation.ledger, update)

    def kill_supervisor(self, after: int) -> None:
        left = [after]
        dead = threading.Event()

        def count() -> None:
            if threading.current_thread().name == "rollout":
                left[0] -= 1
                if left[0] < 0 and not dead.is_set():
                    dead.set()
                    raise Killed

        self._installation.interrupt = count
        if dead.wait(0.3):
            self._installation.interrupt = lambda: None
            assert self._supervisor.wait_until_killed()
            self.killed += 1
        else:  # it has nothing to do: as on SIGTERM
            self._installation.interrupt = lambda: None
            self._supervisor.stop()
        self._supervisor = self._installation.start()

    def crash_worker(self, which: int) -> None:
        if running := self._installation.running():
            self._installation.engine.crash(running[which % len(running)], code=137)

    def stop_machine(self) -> None:
        self._supervisor.stop()
        for role in ("worker", "toolbox"):
            for name in self._installation.running(role):
                self._installation.engine.crash(name, code=137)
        self._supervisor = self._installation.start()

    def lose_engine(self) -> None:
        self._installation.engine.go_away()
        time.sleep(0.1)
        self._installation.engine.come_back()

    def jump(self, hours: int) -> None:
        self._installation.clock_is_off += 3600 * hours

    def wait(self, seconds: float) -> None:
        time.sleep(seconds)

    def rest(self) -> Rest:
        """As soon as two looks in a row find it so: a worker that died a moment ago is still to be replaced."""
        seen: list[Rest | None] = [None]

        def resting() -> bool:
            seen.append(self._resting())
            return seen[-1] is not None and seen[-1] == seen[-2]

        self._installation.until(resting, SECONDS, "nothing to be on its way")
        assert seen[-1] is not None
        return seen[-1]

    def _resting(self) -> Rest | None:
        installation = self._installation
        good = installation.ledger.good_revision()
        active, running = installation.active_sha(), installation.running_shas()
        beside = [sha for sha in running if sha != active]
        busy = installation.ledger.first(Status.APPROVED, *IN_ROLLOUT) is not None
        if busy or active != good.sha or running != sorted(filter(None, (good.sha, good.base_sha))):
            return None
        return Rest(active, beside[0] if beside else None, good.sha, good.base_sha)

    def say(self) -> None:
        """Workers that are threads have no chat: whoever holds the lease is well, by its beats, and polls."""
        pool = self._supervisor.pool
        self._installation.until(lambda: pool.in_service() and pool.polls(), SECONDS, "somebody who polls")

    def close(self) -> None:
        self._installation.__exit__(None, None, None)
        self._directory.cleanup()


@pytest.mark.parametrize(("examples", "steps"), [(6, 14), pytest.param(200, 40, marks=pytest.mark.exhaustive)])
def test_any_order_of_commands_faults_and_time(examples: int, steps: int) -> None:
    """At rest the good revision is active and its N-1 beside it, each update ended where it may, by legal steps."""
    worlds: list[Fakes] = []
    models: list[Model] = []

    class OverFakes(ShakenRollouts):
        def make(self) -> ShakenWorld:
            worlds.append(Fakes())
            return worlds[-1]

        def teardown(self) -> None:
            models.append(self.model)
            super().teardown()

    run_state_machine_as_test(
        OverFakes,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            database=None,
            phases=[Phase.generate],  # threads take their own time: a smaller example may not fail any more
        ),
    )
    assert any(world.killed for world in worlds)
    assert any("promoted" in model.ends for model in models)
