"""The same installations as the end-to-end tests have, and one to be walked on."""

from collections.abc import Iterator

import pytest

from tests.crash.road import Road
from tests.e2e.conftest import checkout, first_image, install, pytest_runtest_makereport
from tests.support.installation import Install

__all__ = ["checkout", "first_image", "install", "pytest_runtest_makereport", "road"]


@pytest.fixture(scope="module")
def road(install: Install, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Road]:
    """Up, with an N-1 and a keeper."""
    with Road(install, tmp_path_factory.mktemp("bombs")) as made:
        yield made
