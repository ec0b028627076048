"""The three runs of ``scripts/inject-update``, one test for each."""

from pathlib import Path

import pytest

from tests.load.updates import CASES, run
from tests.support.exhaustive import but_for
from tests.support.installation import Install, Installation


@pytest.fixture(scope="module")
def installation(install: Install) -> Installation:
    made = install()
    made.up()
    return made


@pytest.mark.parametrize("name", but_for([next(iter(CASES))], CASES))
def test_injected(name: str, installation: Installation, checkout: Path) -> None:
    """The ledger tells just what happened, and the worker that should be active is."""
    assert run(CASES[name], installation, checkout) == []
