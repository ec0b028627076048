"""The patch of the worker's working copy is one that git takes, and gives back the very same tree."""

import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.checkouts import CHECKOUT
from worker.tools.selfsource import PYTEST_INI, patch_between

LINES = st.lists(st.sampled_from(["a", "b", "", "c d", "-x", "+y", "\\ No", "é", "\x0c", "end\r"]), max_size=8)
CONTENT = st.builds(lambda lines, end: "\n".join(lines) + end, LINES, st.sampled_from(["", "\n"]))
TREE = st.dictionaries(st.sampled_from(["worker/a.py", "worker/b.py", "tests/worker/test_c.py"]), CONTENT, max_size=3)


def written(root: Path, tree: dict[str, str]) -> Path:
    for path, content in tree.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content.encode())
    return root


def files(root: Path) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


@settings(max_examples=40, deadline=None)
@given(old=TREE, new=TREE)
def test_git_makes_the_one_tree_of_the_other(
    tmp_path_factory: pytest.TempPathFactory, old: dict[str, str], new: dict[str, str]
) -> None:
    """Whatever was added, removed, changed or left without a line feed."""
    root = tmp_path_factory.mktemp("trees")
    before, after = written(root / "old", old), written(root / "new", new)
    before.mkdir(exist_ok=True)
    after.mkdir(exist_ok=True)
    if patch := patch_between(before, after):
        subprocess.run(["git", "apply", "-"], input=patch.encode(), cwd=before, check=True)
    assert files(before) == files(after)


def test_the_copys_tests_run_as_the_gates_do() -> None:
    """The same configuration, but for the gate's own report."""
    gates = (CHECKOUT / "supervisor" / "gates" / "trusted" / "pytest.ini").read_text()
    assert gates.replace(" -p gate_report", "") + "testpaths = tests/worker\n" == PYTEST_INI
