"""The patches that the README invites to try."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.checkouts import CHECKOUT

EXAMPLES = CHECKOUT / "examples"


@pytest.mark.parametrize("name", ["good.patch", "bad.patch"])
def test_it_applies_to_the_checkout(name: str) -> None:
    """To the worker as it is now, with nothing left over."""
    subprocess.run(["git", "apply", "--check", str(EXAMPLES / name)], cwd=CHECKOUT, check=True)


def test_the_bad_one_applies_over_the_good_one(tmp_path: Path) -> None:
    """Whoever tries one after the other sees a failing test, not a conflict."""
    shutil.copytree(CHECKOUT / "worker", tmp_path / "worker")
    shutil.copytree(CHECKOUT / "tests" / "worker", tmp_path / "tests" / "worker")
    for name in ("good.patch", "bad.patch"):
        subprocess.run(["git", "apply", str(EXAMPLES / name)], cwd=tmp_path, check=True)


def test_the_readme_names_every_patch() -> None:
    """Each with a line that says what it is for."""
    text = (EXAMPLES / "README.md").read_text()
    for patch in EXAMPLES.glob("*.patch"):
        assert f"`{patch.name}`" in text
