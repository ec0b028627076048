"""A revision whose image was removed from outside is built again from its commit, and examined again."""

from pathlib import Path

import pytest

from tests.support import candidates
from tests.support.installation import Install, wait_for


@pytest.mark.fault(
    19,
    what="built again from its commit, and examined",
    user="nothing; `history` has the new image",
    within="a build and an exam",
)
def test_n_minus_1_that_loses_its_image_is_built_again(install: Install, checkout: Path) -> None:
    """Removed from outside with its container: it stands by again on a new image, examined before it was accepted."""
    installation = install()
    installation.up()
    installation.promote(candidates.adds_a_module(checkout, "one"))
    one = installation.history()[0]
    installation.promote(candidates.adds_a_module(checkout, "two"))
    standby = wait_for(lambda: installation.status()["standby"], 20, "a warm N-1")
    assert standby["sha"] == one["sha"]
    installation.kill_supervisor()  # which would start another on the same image at once
    for name in (standby["container"], f"{standby['container']}-toolbox"):
        installation.docker.remove_container(name, force=True)
    installation.docker.remove_image(one["image_tag"], force=True)
    installation.up()

    def again() -> bool:
        now = installation.status()["standby"]
        return bool(now) and now["container"] != standby["container"] and now["health"] == "healthy"

    wait_for(again, 60, "N-1 on a new image")
    rebuilt = next(entry for entry in installation.history() if entry["tx_id"] == one["tx_id"])
    assert rebuilt["image_id"] != one["image_id"]
    told = installation.run("events", "--tx", one["tx_id"], "--json").expect(0).out
    assert (told.count("update.build.completed"), told.count("update.self_check.completed")) == (2, 2)
    assert told.rindex("update.build.completed") < told.rindex("update.self_check.completed")
    assert "accepted_unexamined" not in told
    active = installation.status()["active"]
    installation.run("rollback", active["tx_id"], "--wait").expect(0)
    assert installation.say("are you there?")


@pytest.mark.exhaustive
def test_an_image_that_is_gone_while_nothing_runs(install: Install) -> None:
    """It is built and run at once, and examined afterwards, which an event says."""
    installation = install()
    installation.up()
    genesis = installation.history()[0]
    installation.down()
    installation.docker.remove_image(genesis["image_id"], force=True)
    installation.up()
    assert installation.say("are you there?")

    def told() -> str:
        return installation.run("events", "--tx", genesis["tx_id"], "--json").expect(0).out

    assert '"accepted_unexamined": true' in told()
    wait_for(lambda: "update.self_check.completed" in told(), 60, "the exam afterwards")
