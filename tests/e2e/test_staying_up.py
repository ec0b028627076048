"""What dies is started again: worker, toolbox, supervisor; and a revision that keeps dying gives way to N-1."""

import time
from pathlib import Path
from typing import Any

import pytest

from supervisor.sessions import LOST_AFTER_SECONDS
from tests.support import candidates
from tests.support.installation import Install, Installation, wait_for

SLEPT = "dummy-after-sleep"


@pytest.fixture(scope="module")
def installation(install: Install) -> Installation:
    """Up, with a model that takes a second for each answer."""
    made = install(
        AUTONOUS_DUMMY_PROVIDER_SCRIPT="sleep:1000",
        SUPERVISOR_CRASH_THRESHOLD="2",
        SUPERVISOR_CRASH_WINDOW_SECONDS="60",
    )
    made.up()
    return made


@pytest.fixture
def active(installation: Installation) -> dict[str, Any]:
    """The worker that is active at the start of a test."""
    return dict(installation.settled()["active"])


def toolbox_of(installation: Installation, active: dict[str, Any]) -> str:
    return f"{active['container']}-toolbox"


def replaced_by(installation: Installation, before: dict[str, Any]) -> dict[str, Any]:
    """The active healthy worker, empty while it is still the one before."""
    active = installation.status()["active"] or {}
    other = active.get("container") != before["container"] and active.get("health") == "healthy"
    return dict(active) if other else {}


def test_a_toolbox_that_is_killed_comes_back(installation: Installation, active: dict[str, Any]) -> None:
    """A new one, beside a worker that goes on as if nothing had been."""
    toolbox = toolbox_of(installation, active)
    before = installation.inspect(toolbox)["Id"]
    worker = installation.inspect(active["container"])["State"]["StartedAt"]
    installation.docker.kill(toolbox)

    def back() -> bool:
        found = installation.containers("toolbox")
        return bool(found) and found[0]["Id"] != before

    wait_for(back, 5, "the new toolbox")
    assert installation.status()["active"] == active
    assert installation.inspect(active["container"])["State"]["StartedAt"] == worker
    assert installation.say("still there?") == SLEPT


@pytest.mark.fault(
    42,
    what="the worker goes on with its lease",
    user="nothing",
    within="no time",
)
def test_the_supervisor_killed_while_a_worker_chats(installation: Installation, active: dict[str, Any]) -> None:
    """The answer in hand and the next one come without it; the next supervisor adopts worker and lease as they are."""
    containers = {c["Id"] for role in ("worker", "toolbox") for c in installation.containers(role)}
    with installation.bot() as bot:
        sent = bot.send("are you there?")
        wait_for(lambda: any(e.kind == "action" for e in bot.events(sent.cursor)), 10, "a run")
        installation.kill_supervisor()
        assert bot.wait_for(lambda m: m.message_id > sent.message_id, 10, after=sent.cursor).text == SLEPT
    assert installation.say("and without a supervisor?") == SLEPT
    assert installation.status()["running"] is False
    installation.up()
    status = installation.status()
    assert (status["running"], status["active"]) == (True, active)
    assert {c["Id"] for role in ("worker", "toolbox") for c in installation.containers(role)} == containers
    assert installation.say("and with a new one?") == SLEPT


@pytest.mark.fault(42)
def test_the_sockets_file_removed_under_a_living_supervisor(installation: Installation, active: dict[str, Any]) -> None:
    """The worker, which is connected, goes on and is not taken for silent; the next one finds the socket again."""
    socket = installation.paths.contract_socket
    socket.unlink()
    socket.write_text("")  # as long as this lies there, it cannot be bound anew
    removed = time.monotonic()
    assert installation.say("are you there?") == SLEPT
    time.sleep(max(0.0, removed + LOST_AFTER_SECONDS + 1 - time.monotonic()))
    assert installation.say("and now?") == SLEPT
    assert installation.status()["active"] == active
    socket.unlink()
    wait_for(socket.is_socket, 3, "the socket")
    installation.docker.kill(active["container"])
    after = wait_for(lambda: replaced_by(installation, active), 20, "another worker")
    assert after["sha"] == active["sha"]
    assert installation.say("and you?") == SLEPT


def test_a_worker_that_wedges_while_no_supervisor_watches(installation: Installation, active: dict[str, Any]) -> None:
    """The next supervisor finds it silent, and starts another one in its place."""
    installation.kill_supervisor()
    installation.docker.pause(active["container"])
    installation.up()
    after = wait_for(lambda: replaced_by(installation, active), 20, "another worker")
    assert (after["sha"], after["epoch"]) == (active["sha"], active["epoch"] + 1)
    assert installation.say("who is there?") == SLEPT


def test_a_worker_that_is_killed_comes_back(installation: Installation, active: dict[str, Any]) -> None:
    """Within seconds, with the next epoch, and answers what was in hand when it died."""
    with installation.bot() as bot:
        sent = bot.send("do not forget me")
        wait_for(lambda: any(e.kind == "action" for e in bot.events(sent.cursor)), 10, "a run")
        installation.docker.kill(active["container"])
        killed = time.monotonic()
        assert bot.wait_for(lambda m: m.message_id > sent.message_id, 15, after=sent.cursor).text == SLEPT
        assert time.monotonic() - killed < 8
    after = installation.status()["active"]
    assert after["container"] != active["container"]
    assert (after["sha"], after["epoch"]) == (active["sha"], active["epoch"] + 1)


def test_a_revision_that_keeps_crashing_gives_way_to_n_minus_1(
    installation: Installation, checkout: Path, active: dict[str, Any]
) -> None:
    """Promoted long ago or not: past the threshold its base is active again, and answers what it crashed on."""
    tx = installation.promote(candidates.exits_when_told(checkout))
    assert installation.active_sha() != active["sha"]
    assert installation.say("now crash", seconds=40) == SLEPT
    wait_for(lambda: installation.status_of(tx) == "rolled_back", 20, "the way back")
    shown = installation.show(tx)
    assert shown["blame"] == "own"
    assert "crash loop: 2 exits, the last: exited by itself with code 9" in shown["last_error"]
    assert installation.settled()["active"]["sha"] == active["sha"]
    assert "crash_loop.detected" in installation.run("events", "--json").expect(0).out
