"""Settings that need more packages than the worker's image has: it is made anew, and nothing else changes."""

import json

import pytest

from supervisor.contract.providers import Extra
from supervisor.engine import Engine
from supervisor.images.builds import extras_in
from supervisor.ledger import Ledger
from tests.support.installation import Install, Installation, wait_for

WANTED = {"AUTONOUS_EMBEDDINGS_MODEL": "bge-m3", "AUTONOUS_EMBEDDINGS_BASE_URL": "http://127.0.0.1:9/v1"}


@pytest.fixture(scope="module")
def installation(install: Install) -> Installation:
    """Up with the defaults, and spoken to."""
    made = install(AUTONOUS_MODEL_PROVIDER="dummy")
    made.up()
    assert made.say("the anchor weighs 4711 kg")
    return made


def extras_of(engine: Engine, installation: Installation) -> tuple[Extra, ...]:
    image = engine.image(installation.active_container()["Image"])
    assert image is not None
    return extras_in(image)


def test_a_running_worker_is_not_given_what_it_cannot_use(installation: Installation, engine: Engine) -> None:
    """It is told in one line, and everything goes on as it was."""
    before = installation.status()["active"]
    line = installation.run("up", settings=WANTED).refusal()
    assert line == "supervisor: the worker's image has no packages for embeddings: `make down`, then `make up`"
    assert installation.status()["active"] == before
    assert extras_of(engine, installation) == ()


@pytest.mark.exhaustive
def test_the_image_is_made_anew_while_nothing_is_in_service(installation: Installation, engine: Engine) -> None:
    """Of the same revision, with the extra; it answers, remembers, and is examined afterwards."""
    revision = installation.active_sha()
    installation.down()
    installation.run("up", settings=WANTED).expect(0)
    assert installation.active_sha() == revision
    assert extras_of(engine, installation) == (Extra.EMBEDDINGS,)
    assert "4711" in installation.say("/recall anchor")
    assert installation.say("hello")

    def examined() -> bool:
        with Ledger.read_only(installation.paths.ledger) as ledger:
            told = [event.payload for event in ledger.events(newest_first=True, limit=500)]
        return any(event.get("rebuilt") and not event.get("accepted_unexamined") for event in told)

    wait_for(examined, 60, "the exam of the new image")
    assert "the worker has all" in json.dumps(installation.run("upgrade", "--json", settings=WANTED).expect(0).out)
