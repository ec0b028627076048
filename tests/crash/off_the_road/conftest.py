"""An installation where everything is allowed that leads to a place beside an update's road.

Each place is come by by what a user does to get there. Which one is shown by which test says ``elsewhere.py``.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.localbot.client import LocalBotClient
from tests.crash.road import Road
from tests.support.installation import Install
from tests.support.played import PlayedModel
from tests.support.toolwork import Toolwork


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Below it directories may be granted."""
    return tmp_path_factory.mktemp("ground")


@pytest.fixture(scope="module")
def model() -> PlayedModel:
    """Repeats what it is asked, and calls tools where a test has written so."""
    return PlayedModel({})


@pytest.fixture(scope="module")
def road(
    install: Install, ground: Path, model: PlayedModel, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Road]:
    """Up, with an N-1, where everything is allowed that leads to one of these places."""
    settings = {
        "AUTONOUS_GRANTABLE_ROOTS": str(ground),
        "AUTONOUS_UPDATE_SELF_CHECK_CMD": "true",
        "AUTONOUS_ALLOW_DEPENDENCY_UPDATES": "1",
        "SUPERVISOR_CRASH_THRESHOLD": "1000",  # workers that cannot start are no reason to go back here
    }
    with Road(install, tmp_path_factory.mktemp("bombs"), model=model, **settings) as made:
        yield made


@pytest.fixture
def bot(road: Road) -> Iterator[LocalBotClient]:
    """The owner's side of the chat."""
    with road.installation.bot() as client:
        yield client


@pytest.fixture
def work(road: Road, model: PlayedModel) -> Toolwork:
    """Tool calls that the model makes."""
    return Toolwork(road.installation, model)
