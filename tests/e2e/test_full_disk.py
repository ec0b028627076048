"""The engine's disk is full: a real one that is small, under an engine of the test's own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.images.builds import Deps, base_tag
from tests.support import candidates
from tests.support.installation import Install, Installation, wait_for
from tests.support.leftout import leave_out
from tests.support.privateengine import PrivateEngine, why_not

DISK_MIB = 700


@pytest.fixture(scope="module")
def private(deps: Deps) -> Iterator[PrivateEngine]:
    """An engine on a small disk, which the tests of this file find in the environment."""
    if reason := why_not():
        leave_out(reason)
    engine = PrivateEngine([base_tag(), deps.tag], disk_mib=DISK_MIB)
    with engine, pytest.MonkeyPatch.context() as patch:
        patch.setenv("DOCKER_HOST", engine.url)
        yield engine


@pytest.fixture(scope="module")
def installation(private: PrivateEngine, install: Install) -> Installation:
    """Up on that engine."""
    made = install()
    made.up()
    return made


@pytest.mark.fault(
    8,
    what="the update waits, and goes on when there is room; nobody is blamed",
    user="`status` names the reason; the worker answers",
    within="5 s after there is room",
)
def test_no_space_left_in_a_build(installation: Installation, private: PrivateEngine, checkout: Path) -> None:
    """The update waits and says why, nobody is blamed, the worker answers; with room again it passes its gates."""
    private.fill_disk(leave_bytes=4096)
    try:
        patch = candidates.adds_a_module(checkout, "without_room")
        tx = installation.run("submit", "-", "--json", given=patch).expect(0).json["tx_id"]
        wait_for(lambda: "no space left" in installation.status().get("paused", ""), 30, "the reason why it waits")
        assert installation.status_of(tx) in {"created", "building"}
        assert installation.say("do you still answer?")
    finally:
        private.clear_disk()
    wait_for(lambda: installation.status_of(tx) == "staged", 60, "the end of the gates")
    assert installation.show(tx)["blame"] is None
