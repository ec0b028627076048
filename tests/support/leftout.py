"""Leaving out a test that this machine cannot run, except where nothing may be left out."""

import os
from typing import NoReturn

import pytest


def leave_out(reason: str) -> NoReturn:
    """Skip the test that runs; ``AUTONOUS_REQUIRE_ENGINE=1`` makes it fail instead."""
    if os.environ.get("AUTONOUS_REQUIRE_ENGINE") == "1":
        pytest.fail(f"{reason}, and AUTONOUS_REQUIRE_ENGINE=1", pytrace=False)
    pytest.skip(reason)


def only_root(what: str) -> None:
    """Leave out the test that runs when it is not root who does ``what``."""
    if os.getuid() != 0:
        leave_out(f"only root can {what}")
