"""Installations for the tests of this folder: made when a file asks for one, removed with all they left at its end."""

from collections.abc import Generator, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from supervisor.engine import Engine
from supervisor.images.builds import BuiltImage, Deps, build_revision
from supervisor.pipeline.upgrade import checkout_files
from tests.support import commands
from tests.support.checkouts import copy_checkout
from tests.support.installation import Install, Installation
from tests.support.projects import new_project


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout whose worker has few tests, so that an update is soon judged. To be read only."""
    made = copy_checkout(tmp_path_factory.mktemp("few-tests") / "checkout")
    commands.is_not_changed(made)
    return made


@pytest.fixture(scope="session")
def first_image(engine: Engine, deps: Deps, checkout: Path) -> Iterator[BuiltImage]:
    """The first revision of that checkout as an image that stays: all installations share its layers in the engine."""
    built = build_revision(
        engine,
        project=new_project(),
        deps_image_id=deps.image_id,
        sha="0" * 40,
        base_sha=None,
        tx_id="",
        files=checkout_files(checkout),
        trunk=None,
        created=0,
        log=lambda _line: None,
        timeout=120,
    )
    yield built
    engine.remove_image(built.tag)


@pytest.fixture(scope="module")
def install(first_image: BuiltImage, checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Install]:
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
