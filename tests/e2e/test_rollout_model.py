"""The rules of the roll-out, the same as over the fakes, in fewer steps on the real engine."""

import time
from contextlib import suppress

import pytest
from docker.errors import APIError
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from supervisor.ledger import Ledger
from supervisor.localbot.faults import PollOutcome
from tests.support import candidates
from tests.support.installation import Install, Installation, wait_for
from tests.support.rolloutmodel import Rest, Rollouts, World

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

    def history(self, update: str) -> list[tuple[str, str]]:
        with Ledger.read_only(self._installation.paths.ledger) as ledger:
            told = [
                e.payload for e in ledger.events(parent_id=ledger.find(update).event_id) if "status_to" in e.payload
            ]
        return list(dict.fromkeys((str(one["status_from"]), str(one["status_to"])) for one in told))

    def kill_supervisor(self, after: int) -> None:
        time.sleep(after / 30)
        self._installation.kill_supervisor()
        self._installation.up()

    def crash_worker(self, which: int) -> None:
        if running := self._installation.containers():
            with suppress(APIError):  # it went by itself
                self._installation.docker.kill(running[which % len(running)]["Id"])

    def stop_machine(self) -> None:
        self._installation.kill_supervisor()
        for role in ("worker", "toolbox"):
            for container in self._installation.containers(role):
                self._installation.docker.kill(container["Id"])
        self._installation.up()

    def wait(self, seconds: float) -> None:
        time.sleep(seconds)

    def rest(self) -> Rest:
        def resting() -> Rest | None:
            status = self._installation.settled(SECONDS)
            with Ledger.read_only(self._installation.paths.ledger) as ledger:
                good = ledger.good_revision()
            standby = status["standby"]["sha"] if status["standby"] else None
            found = Rest(status["active"]["sha"], standby, good.sha, good.base_sha, answers=True)
            return found if (found.active, found.standby) == (good.sha, good.base_sha) else None

        found = wait_for(resting, SECONDS, "the good revision, with N-1 beside it")
        assert found is not None
        assert self._installation.say("do you answer?")
        return found

    def close(self) -> None:
        try:
            with self._installation.bot() as bot:
                assert [poll for poll in bot.polls() if poll.outcome is PollOutcome.CONFLICT] == []
        finally:
            self._installation.remove()


@pytest.mark.parametrize(("examples", "steps"), [(1, 10), pytest.param(20, 25, marks=pytest.mark.exhaustive)])
def test_any_order_of_commands_and_faults(install: Install, examples: int, steps: int) -> None:
    """At rest the good revision is active and answers, its N-1 beside it, and each update ended where it may."""

    class OverTheEngine(Rollouts):
        def make(self) -> World:
            return Real(install(SUPERVISOR_CRASH_THRESHOLD="1000"))

    run_state_machine_as_test(
        OverTheEngine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            database=None,
            derandomize=examples == 2,
            phases=[Phase.generate],  # to make a failure smaller would take an hour
            suppress_health_check=list(HealthCheck),
        ),
    )
