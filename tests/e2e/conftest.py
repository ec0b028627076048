"""Installations for the tests of this folder: made when a file asks for one, removed with all they left at its end."""

from collections.abc import Generator, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from supervisor.images.builds import Deps
from tests.support.checkouts import copy_checkout
from tests.support.installation import Install, Installation


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout whose worker has few tests, so that an update is soon judged. To be read only."""
    return copy_checkout(tmp_path_factory.mktemp("few-tests") / "checkout")


@pytest.fixture(scope="module")
def install(deps: Deps, checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Install]:
    """Makes installations with the settings that are given; they are not up yet."""
    with ExitStack() as stack:

        def make(source: Path = checkout, **settings: str) -> Installation:
            made = Installation(tmp_path_factory.mktemp("installation") / "home", source, settings)
            stack.callback(made.remove)
            return made

        yield make


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the supervisor's last words to what is told of a failed test."""
    report = yield
    if report.failed:
        for value in getattr(item, "funcargs", {}).values():
            if isinstance(value, Installation):
                report.sections.append(("the supervisor's log", value.log_tail()))
    return report
