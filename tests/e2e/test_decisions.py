"""What a person decides, in the wrong order, twice, or about something else than they were shown."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import candidates
from tests.support.installation import Install, Installation
from tests.support.watching import ContainerWatch


@pytest.fixture(scope="module")
def installation(install: Install) -> Installation:
    """Up."""
    made = install()
    made.up()
    return made


@pytest.fixture(scope="module")
def genesis(installation: Installation) -> str:
    """The first update."""
    return str(installation.history()[-1]["tx_id"])


@pytest.fixture(scope="module")
def cancelled(installation: Installation, checkout: Path) -> str:
    """An update that was staged and cancelled."""
    tx = installation.stage(candidates.answers(checkout, "I was cancelled."))
    assert installation.run("cancel", tx, "--json").expect(0).json["status"] == "cancelled"
    return tx


@pytest.fixture(scope="module")
def promoted(installation: Installation, cancelled: str, checkout: Path) -> str:
    """An update that is active."""
    return installation.promote(candidates.answers(checkout, "I am the active one."))


def test_cancel_twice(installation: Installation, cancelled: str) -> None:
    """It says that it is cancelled already, and exits with 0."""
    assert "already" in installation.run("cancel", cancelled).expect(0).out


@pytest.mark.fault(
    37,
    what="refused; nothing is deployed",
    user="one line",
    within="at once",
)
def test_approve_after_cancel(installation: Installation, cancelled: str) -> None:
    """Refused; nothing is deployed."""
    assert "is cancelled; only a staged one can be approved" in installation.run("approve", cancelled).refusal()
    assert installation.status_of(cancelled) == "cancelled"


def test_the_first_revision_cannot_be_rolled_back(installation: Installation, genesis: str) -> None:
    """There is nothing before it."""
    assert "nothing before it" in installation.run("rollback", genesis).refusal()


@pytest.mark.fault(36)
def test_rollback_of_what_is_not_active(installation: Installation, cancelled: str, promoted: str) -> None:
    """Refused, and the active one is named, so that it can be said instead."""
    assert promoted[:8] in installation.run("rollback", cancelled).refusal()
    assert installation.status()["active"]["tx_id"] == promoted


@pytest.mark.fault(37)
def test_approve_twice(installation: Installation, promoted: str) -> None:
    """It says that it is promoted already, and exits with 0."""
    before = installation.status()
    result = installation.run("approve", promoted, "--json").expect(0)
    assert result.json["status"] == "promoted"
    assert "already" in result.json["reason"]
    assert installation.status() == before


def test_cancel_of_what_is_active(installation: Installation, promoted: str) -> None:
    """Too late; `rollback` is the way."""
    assert "cannot be cancelled any more" in installation.run("cancel", promoted).refusal()


@pytest.mark.exhaustive
def test_an_update_whose_base_is_not_the_good_one_any_more(
    installation: Installation, promoted: str, checkout: Path
) -> None:
    """It was judged against another base, so it is superseded when that changes, and cannot be approved."""
    waiting = installation.stage(candidates.exits_when_told(checkout))
    installation.promote(candidates.wedges_when_told(checkout))
    assert installation.status_of(waiting) == "superseded"
    assert "superseded" in installation.run("approve", waiting).refusal()


@pytest.fixture(scope="module")
def watch(installation: Installation) -> Iterator[ContainerWatch]:
    """Every container that starts from here on."""
    with ContainerWatch(installation.project) as watching:
        yield watching


@pytest.fixture(scope="module")
def swapped(installation: Installation, checkout: Path, genesis: str, watch: ContainerWatch) -> str:
    """An update that is approved after its image's name was given to another image; its tx."""
    tx = installation.stage(candidates.adds_a_module(checkout, "swapped"))
    repository, tag = installation.show(tx)["image_tag"].rsplit(":", 1)
    assert installation.docker.tag(installation.show(genesis)["image_id"], repository, tag, force=True)
    watch.seen.clear()
    installation.run("approve", tx, "--wait").expect(1)
    return tx


@pytest.mark.fault(
    20,
    what="nothing of it is started",
    user="`digest_mismatch`",
    within="at once",
)
def test_an_image_that_was_swapped_is_not_deployed(installation: Installation, swapped: str) -> None:
    """`digest_mismatch`, by somebody else's fault."""
    shown = installation.show(swapped)
    assert (shown["status"], shown["code"], shown["blame"]) == ("deploy_failed", "digest_mismatch", "external")
    assert "was moved to another image" in installation.run("show", swapped).out


def test_nothing_of_a_swapped_image_was_started(
    installation: Installation, swapped: str, watch: ContainerWatch
) -> None:
    """Neither from the one image nor from the other; the active worker is still the same."""
    assert watch.seen == {}
    active = installation.settled()["active"]
    assert active["tx_id"] != swapped
    assert active["sha"] != installation.show(swapped)["sha"]


@pytest.mark.exhaustive
def test_an_image_that_is_gone_is_not_deployed(installation: Installation, checkout: Path) -> None:
    """Removed from outside between staging and approval."""
    tx = installation.stage(candidates.adds_a_module(checkout, "removed"))
    before = installation.status()["active"]
    installation.docker.remove_image(installation.show(tx)["image_id"], force=True)
    installation.run("approve", tx, "--wait").expect(1)
    shown = installation.show(tx)
    assert (shown["status"], shown["blame"]) == ("deploy_failed", "external")
    assert "is gone" in shown["last_error"]
    assert installation.settled()["active"] == before
