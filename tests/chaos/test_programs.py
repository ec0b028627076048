"""The programs that no other test runs, each for as short as it can: they end well and print what they are run for."""

import os
import re
import subprocess
import sys

import pytest

from tests.support.checkouts import CHECKOUT
from tests.support.privateengine import why_not

pytestmark = pytest.mark.exhaustive


def run(*command: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name not in ("MINUTES", "SEED", "ENGINE")}
    return subprocess.run(
        [sys.executable, "-m", *command], cwd=CHECKOUT, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.engine
def test_chaos() -> None:
    """Half a minute: its figures, with nothing lost, and what repeats it, with blows to the engine where it can."""
    ended = run("tests.chaos", "--minutes", "0.5", "--seed", "7")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    figures = re.search(r"^sent (\d+), answered (\d+), lost (\d+), doubled (\d+) ", ended.stdout, re.MULTILINE)
    assert figures is not None, ended.stdout
    sent, answered, lost, doubled = map(int, figures.groups())
    assert (sent > 0, answered, lost, doubled) == (True, sent, 0, 0)
    assert re.search(r"^blows: \d+ ", ended.stdout, re.MULTILINE)
    again = f"again: make chaos MINUTES=0.5 SEED=7 ENGINE={why_not() is None:d}"
    assert again in ended.stdout.splitlines()


def test_bench() -> None:
    """The worker's figures, over few messages: each in its row, whether or not this machine is quick enough."""
    ended = run("tests.bench", "--only", "worker", "--messages", "20", "--worker-kills", "1", "--report-only")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    for what in ("conversation", "kill -9"):
        assert re.search(rf"│ {what}: lost +│ 0 +│ 0 +│ ok +│", ended.stdout), ended.stdout
