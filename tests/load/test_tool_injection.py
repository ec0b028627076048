"""The failure injection of the tools, one test for each of its stories."""

from pathlib import Path

import pytest

from tests.load.tool_injection import STORIES, problems


@pytest.mark.parametrize("name", STORIES)
def test_injected(name: str, tmp_path: Path) -> None:
    """The worker's database tells what every call came to, and everything that started in it has its end."""
    assert problems(name, tmp_path) == []
