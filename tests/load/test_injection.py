"""The failure injection of the control plane, one test for each of its cases."""

from pathlib import Path

import pytest

from tests.load.injection import CASES, run


@pytest.mark.fault(
    44,
    what="retried, then given up; tools' errors go back to the model",
    user="a late answer, or why there is none",
    within="`AUTONOUS_CONTROL_MAX_RETRIES` retries",
)
@pytest.mark.parametrize("name", CASES)
def test_injected(name: str, tmp_path: Path) -> None:
    """The worker's database tells just what was injected, and everything that started in it has its end."""
    assert run(CASES[name], tmp_path) == []
