"""The rules of the roll-out, the same as over the fakes, in fewer steps on the real engine."""

import time
from contextlib import suppress
from typing import Any

import pytest
from docker.errors import APIError
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from supervisor.contract import EventType
from supervisor.ledger import Ledger
from supervisor.localbot.faults import PollOutcome
from tests.support import candidates
from tests.support.installation import Install, Installation, wait_for
from tests.support.moves import Move, noted
from tests.support.rolloutmodel import GOOD, Rest, Rollouts, World
from worker.models.dummy import OFFLINE_REPLY

SECONDS = 120.0


class Real:
    """An installation of its own.

    The engine and the clock are the machine's, which others use, too: the rules that shake them (``lose_engine``,
    ``jump``) are left out. They run over the fakes; an engine of its own is restarted, frozen and cut off in
    ``test_engine_restarts.py`` and in ``make chaos ENGINE=1``; the clock of a container is its machine's.
    """

    def __init__(self, installation: Installation) -> None:
        self._installation = installation
        self._numbers = 0
        installation.up()

    def stage(self, kind: str) -> str:
        self._numbers += 1
        if any(update["status"] != "staged" for update in self._installation.status_at_once()["pending"]):
            return ""
        late = self._numbers / 1000  # no two are the same change
        checkout = self._installation.checkout
        match kind:
            case "exits at once":
                patch = candidates.exits_in_service(checkout, late)
            case "exits in its probation":
                patch = candidates.exits_in_service(checkout, 0.5 + late)
            case _:
                patch = candidates.adds_a_module(checkout, f"model_{self._numbers}")
        answer = self._installation.submit(patch)
        return str(answer["tx_id"]) if answer["status"] == "staged" else ""

    def approve(self, update: str) -> bool:
        return self._installation.run("approve", update).code == 0

    def cancel(self, update: str) -> bool:
        return self._installation.run("cancel", update).code == 0

    def roll_back(self, update: str) -> bool:
        return self._installation.run("rollback", update).code == 0

    def status(self, update: str) -> str:
        return self._installation.status_of(update)

    def why(self, update: str) -> str:
        return str(self._installation.show(update)["last_error"])

    def history(self, update: str) -> list[Move]:
        with Ledger.read_only(self._installation.paths.ledger) as ledger:
            return noted(ledger, update)

    def began_in_deploy(self) -> bool:
        """Whether the supervisor that runs did so after the latest approval and before the latest promotion."""
        kinds = (EventType.UPDATE_APPROVED, EventType.PROCESS_STARTED, EventType.UPDATE_PROMOTED)
        with Ledger.read_only(self._installation.paths.ledger) as ledger:
            latest = [ledger.events(kind, newest_first=True, limit=1)[0].id for kind in kinds]
        return latest == sorted(latest)

    def kill_supervisor(self, after: int) -> None:
        time.sleep(after / 30)
        self._installation.kill_supervisor()
        self._installation.up()

    def crash_worker(self, which: int) -> None:
        if running := self._installation.containers():
            self._kill(running[which % len(running)])

    def stop_machine(self) -> None:
        self._installation.kill_supervisor()
        for role in ("worker", "toolbox"):
            for container in self._installation.containers(role):
                self._kill(container)
        self._installation.up()

    def _kill(self, container: dict[str, Any]) -> None:
        with suppress(APIError):  # it went by itself
            self._installation.docker.kill(container["Id"])

    def wait(self, seconds: float) -> None:
        time.sleep(seconds)

    def rest(self) -> Rest:
        def resting() -> Rest | None:
            status = self._installation.settled(SECONDS)
            with Ledger.read_only(self._installation.paths.ledger) as ledger:
                good = ledger.good_revision()
            standby = status["standby"]["sha"] if status["standby"] else None
            found = Rest(status["active"]["sha"], standby, good.sha, good.base_sha)
            return found if (found.active, found.standby) == (good.sha, good.base_sha) else None

        found = wait_for(resting, SECONDS, "the good revision, with N-1 beside it")
        assert found is not None
        return found

    def say(self) -> None:
        assert self._installation.say("do you answer?") == OFFLINE_REPLY

    def close(self) -> None:
        try:
            with self._installation.bot() as bot:
                assert [poll for poll in bot.polls() if poll.outcome is PollOutcome.CONFLICT] == []
        finally:
            self._installation.remove()


def over_the_engine(install: Install) -> type[Rollouts]:
    """The rules, each time over an installation of their own."""

    class OverTheEngine(Rollouts):
        def make(self) -> World:
            return Real(install(SUPERVISOR_CRASH_THRESHOLD="1000"))

    return OverTheEngine


def test_one_order_of_commands_and_faults(install: Install) -> None:
    """A deploy whose supervisor is killed, a worker that dies, a way back in which all do: as the rules have it."""
    rollouts = over_the_engine(install)()
    try:
        rollouts.update(GOOD)
        (good,) = rollouts.model.updates
        rollouts.kill_supervisor(9)
        rollouts.come_to_rest()
        assert rollouts.world.status(good) == "promoted"
        assert isinstance(rollouts.world, Real)
        assert rollouts.world.began_in_deploy(), "no supervisor was killed in the deploy"
        rollouts.crash_worker(0)
        rollouts.roll_back(0)
        rollouts.stop_machine()
    finally:
        rollouts.teardown()
    assert rollouts.model.ends == {"promoted", "rolled_back"}


@pytest.mark.exhaustive
def test_any_order_of_commands_and_faults(install: Install) -> None:
    """At rest the good revision is active and answers, its N-1 beside it, and each update ended where it may."""
    run_state_machine_as_test(
        over_the_engine(install),
        settings=settings(
            max_examples=20,
            stateful_step_count=25,
            deadline=None,
            database=None,
            phases=[Phase.generate],  # to make a failure smaller would take an hour
            suppress_health_check=list(HealthCheck),
        ),
    )
