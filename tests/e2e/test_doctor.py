"""What the doctor says of a real installation, well and broken in several ways."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from supervisor.specs import LABEL_PROJECT
from tests.support import candidates
from tests.support.installation import Install, Installation, wait_for


@pytest.fixture(scope="module")
def installation(install: Install, checkout: Path) -> Installation:
    """Up, with an update that is active and what was before it standing by."""
    made = install()
    made.up()
    made.promote(candidates.answers(checkout, "I am looked at."))
    made.settled()
    return made


@pytest.fixture
def dead(installation: Installation) -> Iterator[Installation]:
    """Without its supervisor."""
    installation.kill_supervisor()
    yield installation
    installation.up()
    installation.settled()


def findings(installation: Installation, code: int, **settings: str) -> dict[str, dict[str, Any]]:
    """What it finds, by name; each finding that is not good has a remedy."""
    answer = installation.run("doctor", "--json", settings=settings).expect(code).json
    assert answer["ok"] is (code == 0)
    for finding in answer["findings"]:
        assert set(finding) == {"check", "level", "what", "remedy"}
        assert finding["level"] == "ok" or finding["remedy"], finding
    return {finding["check"]: finding for finding in answer["findings"]}


def test_one_that_is_well(installation: Installation) -> None:
    """0; everything was looked at, and nothing is broken."""
    found = findings(installation, 0)
    good = {"engine kind", "disk of the home", "disk of the engine", "clock", "home", "keys", "ledger", "agent.db"}
    good |= {"revisions", "supervisor", "sockets", "worker", "toolbox", "image", "image of N-1", "containers"}
    assert {name for name, finding in found.items() if finding["level"] == "ok"} >= good
    assert "keeper" in found["service"]["what"]


def test_the_lines(installation: Installation) -> None:
    """One for each finding, its level first."""
    lines = installation.run("doctor").expect(0).out.splitlines()
    assert len(lines) == len(findings(installation, 0)) + 1, "two are about keys"
    assert all(line.startswith(("ok   ", "warn ")) for line in lines)


def test_without_an_engine(installation: Installation) -> None:
    """3, and the rest is looked at all the same."""
    found = findings(installation, 3, DOCKER_HOST="unix:///nonexistent/docker.sock")
    assert found["engine"]["level"] == "fail"
    assert found["ledger"]["level"] == "ok"


def test_containers_that_nobody_knows(installation: Installation) -> None:
    """A warning that names them."""
    image = installation.active_container()["Image"]
    left = installation.docker.create_container(
        image, name=f"{installation.project}-left", labels={LABEL_PROJECT: installation.project}
    )
    try:
        found = findings(installation, 0)["containers"]
        assert (found["level"], f"{installation.project}-left" in found["what"]) == ("warn", True)
    finally:
        installation.docker.remove_container(left["Id"], force=True)


@pytest.mark.fault(20)
def test_a_name_that_was_moved_to_another_image(installation: Installation) -> None:
    """A warning, and N-1 is started from its own image all the same; the remedy puts it right."""
    previous, active = installation.history()[1], installation.history()[0]
    repository, tag = previous["image_tag"].rsplit(":", 1)
    assert installation.docker.tag(active["image_id"], repository, tag, force=True)
    assert findings(installation, 0)["image of N-1"]["level"] == "warn"
    standby = wait_for(lambda: installation.status_at_once()["standby"], 20, "a warm N-1")["container"]
    installation.docker.kill(standby)

    def another() -> str | None:
        found = installation.status_at_once()["standby"]
        return str(found["container"]) if found and found["container"] != standby else None

    # What is started is the image that the ledger has, whatever its name leads to.
    assert installation.inspect(str(wait_for(another, 30, "another N-1")))["Image"] == previous["image_id"]
    assert installation.docker.tag(previous["image_id"], repository, tag, force=True)
    assert findings(installation, 0)["image of N-1"]["level"] == "ok"


def test_nobody_keeps_it(installation: Installation) -> None:
    """A warning; `up` is the remedy."""
    supervisor = installation.supervisor_pid()
    installation.kill_keeper()
    found = findings(installation, 0)["service"]
    assert (found["level"], found["remedy"]) == ("warn", "`make up`")
    installation.up()
    assert findings(installation, 0)["service"]["level"] == "ok"
    assert installation.supervisor_pid() == supervisor


def test_a_dead_supervisor_and_a_dead_toolbox(dead: Installation) -> None:
    """1; what still lives is said to."""
    container = dead.status()["active"]["container"]
    dead.docker.kill(f"{container}-toolbox")
    found = findings(dead, 1)
    assert (found["supervisor"]["level"], found["supervisor"]["remedy"]) == ("fail", "`make up`")
    assert found["toolbox"]["level"] == "fail"
    assert found["worker"]["level"] == "ok"
    dead.docker.kill(container)
    assert findings(dead, 1)["worker"]["level"] == "fail"
