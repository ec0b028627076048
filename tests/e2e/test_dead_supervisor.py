"""What can be done while no supervisor runs, and what the next one finds after a restart of the machine."""

import os
import shlex
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from supervisor.contract import EventType
from supervisor.homelock import held, owner
from supervisor.ledger import Ledger
from tests.support import candidates
from tests.support.installation import Install, Installation, Result, wait_for

NO_ENGINE = {"DOCKER_HOST": "unix:///nonexistent/docker.sock"}


@pytest.fixture(scope="module")
def installation(install: Install) -> Installation:
    """Up."""
    made = install()
    made.up()
    return made


@pytest.fixture(scope="module")
def genesis(installation: Installation) -> str:
    """The first revision's sha."""
    return installation.active_sha()


@pytest.fixture
def dead(installation: Installation, genesis: str) -> Iterator[Installation]:
    """The installation with its supervisor killed, and nobody who brings it back."""
    installation.up()
    installation.settled()
    installation.kill_supervisor()
    yield installation
    installation.up()


@pytest.fixture(scope="module")
def promoted(installation: Installation, genesis: str, checkout: Path) -> str:
    """An update that is active; what was before it stands by."""
    return installation.promote(candidates.answers(checkout, "I am the second."))


def test_status_looks_at_the_containers(dead: Installation) -> None:
    """A worker that came up and lives is healthy, one whose container has stopped is not."""
    status = dead.status()
    assert (status["running"], status["active"]["health"]) == (False, "healthy")
    dead.docker.kill(status["active"]["container"])
    assert dead.status()["active"]["health"] == "unhealthy"


def test_status_without_an_engine(dead: Installation) -> None:
    """What the ledger knows, and no claim about health."""
    status = dead.run("status", "--json", settings=NO_ENGINE).expect(0).json
    assert (status["running"], status["active"]["health"]) == (False, "starting")


def test_rollback_without_supervisor_and_engine(promoted: str, dead: Installation) -> None:
    """3, and nothing is decided that could not be begun."""
    dead.run("rollback", promoted, settings=NO_ENGINE).expect(3)
    assert dead.status_of(promoted) == "promoted"


def test_rollback_of_what_is_not_active(promoted: str, dead: Installation) -> None:
    """Refused as ever; no supervisor is started for it."""
    first = dead.history()[-1]["tx_id"]
    result = dead.run("rollback", first).expect(1)
    assert promoted[:8] in result.err.splitlines()[-1]
    assert not held(dead.paths.lock)


@pytest.mark.fault(7)
def test_after_a_restart_of_the_machine(promoted: str, genesis: str, dead: Installation) -> None:
    """Nothing runs, neither of itself nor by the engine; then the one active worker is of the revision that was."""
    before = dead.status()["active"]
    granted = len(leases(dead))
    for role in ("worker", "toolbox"):
        for container in dead.containers(role):
            assert container["HostConfig"]["RestartPolicy"]["Name"] == "no"
            dead.docker.kill(container["Id"])
    dead.up()
    active = dead.settled()["active"]
    assert active["sha"] == before["sha"] != genesis
    assert active["container"] != before["container"]
    assert leases(dead)[granted:] == [before["sha"]], "only the revision that was active got the lease"
    assert dead.say("hello").startswith("I am the second.")


@pytest.mark.exhaustive
def test_the_service_after_a_restart_of_the_machine(promoted: str, dead: Installation) -> None:
    """What the unit says, and no more, brings worker and local bot back: one lease, and an answer."""
    before, granted = dead.status()["active"], len(leases(dead))
    unit = dead.run("install-service", "--print").expect(0).out
    end_of_the_machine(dead)
    service = started_as_by_systemd(unit)
    try:
        active = wait_for(lambda: dead.status()["active"] if held(dead.paths.lock) else None, 60, "an active worker")
        assert dead.settled()["active"]["sha"] == before["sha"]
        assert dead.say("hello").startswith("I am the second.")
        assert active is not None
        assert leases(dead)[granted:] == [before["sha"]]
        assert service.pid == dead.supervisor_pid()
    finally:
        service.terminate()
        service.wait(timeout=90)


def end_of_the_machine(installation: Installation) -> None:
    """Of what still runs of it: its containers and the local bot."""
    for role in ("worker", "toolbox"):
        for container in installation.containers(role):
            installation.docker.kill(container["Id"])
    os.kill(int(owner(installation.localbot_lock)), signal.SIGKILL)
    wait_for(lambda: not held(installation.localbot_lock), 5, "the end of the local bot")


def started_as_by_systemd(unit: str) -> "subprocess.Popen[bytes]":
    """The process that a unit describes, with the environment that the unit gives and the little that systemd adds."""
    lines = [line.partition("=") for line in unit.splitlines() if not line.startswith("#")]
    said = {name: value for name, _, value in lines}
    environment = dict(shlex.split(value)[0].split("=", 1) for name, _, value in lines if name == "Environment")
    return subprocess.Popen(
        shlex.split(said["ExecStart"]),
        cwd=said["WorkingDirectory"],
        env={"PATH": "/usr/local/bin:/usr/bin:/usr/sbin", "HOME": os.environ["HOME"], **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


@dataclass(frozen=True)
class WayBack:
    """A roll-back while no supervisor ran."""

    tx: str
    before: dict[str, Any]
    result: Result


@pytest.fixture(scope="module")
def way_back(promoted: str, installation: Installation) -> WayBack:
    """Of the active update."""
    installation.up()
    before = installation.settled()
    installation.kill_supervisor()
    return WayBack(promoted, before, installation.run("rollback", promoted, "--json").expect(0))


def test_rollback_without_a_supervisor(way_back: WayBack, genesis: str, installation: Installation) -> None:
    """N-1, which lives on, becomes active; then a supervisor runs again, with somebody who keeps it running."""
    assert way_back.result.json == {"tx_id": way_back.tx, "status": "rolled_back", "reason": "rolled back"}
    after = installation.status()
    assert after["running"] is True
    assert after["active"]["sha"] == genesis
    assert after["active"]["container"] == way_back.before["standby"]["container"]
    assert held(installation.paths.keeper_lock)
    assert installation.say("who are you?").startswith("I am the offline stand-in")


def test_a_second_time(way_back: WayBack, dead: Installation) -> None:
    """It says that it is done already, exits with 0, and starts nothing."""
    assert "already" in dead.run("rollback", way_back.tx).expect(0).out
    assert not held(dead.paths.lock)


@pytest.mark.exhaustive
def test_rollback_where_no_supervisor_comes_up(
    way_back: WayBack, dead: Installation, checkout: Path, genesis: str
) -> None:
    """Whatever keeps a supervisor from starting, the way back is gone; that none runs after it is told."""
    dead.up()
    tx = dead.promote(candidates.adds_a_module(checkout, "third"))
    dead.kill_supervisor()
    dead.paths.control_socket.unlink(missing_ok=True)
    dead.paths.control_socket.mkdir()
    try:
        assert dead.run("run").code == 1
        result = dead.run("rollback", tx).expect(0)
        assert "rolled_back" in result.out
        assert result.err.splitlines()[-1].startswith("warning: the supervisor ended at once")
        assert not held(dead.paths.lock)
        assert dead.status()["active"]["sha"] == genesis
        assert dead.say("still there?")
    finally:
        dead.paths.control_socket.rmdir()


def leases(installation: Installation) -> list[str]:
    """The revisions that were given the lease, in this order."""
    with Ledger.read_only(installation.paths.ledger) as ledger:
        return [str(event.payload["sha"]) for event in ledger.events(EventType.LEASE_GRANTED)]
