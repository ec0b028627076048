"""The working copy of the worker's own source, and the patch that is made from it."""

import os
import subprocess
from pathlib import Path

import pytest

from worker.tools import selfsource
from worker.tools.base import ToolError
from worker.tools.registry import OPERATIONS, TOOLS
from worker.tools.selfsource import CheckoutArguments, DiffArguments, checkout, diff
from worker.tools.workplace import Workplace


@pytest.fixture
def pristine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small source in the place of the one that runs here."""
    root = tmp_path / "app"
    for path, text in {
        "worker/__init__.py": "",
        "worker/a.py": "one\ntwo\n",
        "tests/worker/test_a.py": "def test_a() -> None:\n    import worker.a\n",
        "supervisor/contract/__init__.py": "",
        "worker/__pycache__/a.pyc": "x",
        ".git/config": "x",
    }.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    monkeypatch.setattr(selfsource, "PRISTINE", root)
    return root


@pytest.fixture
def workplace(tmp_path: Path) -> Workplace:
    (tmp_path / "workspace").mkdir()
    return Workplace(workspace=tmp_path / "workspace", roots=(tmp_path / "workspace",))


def check_out(workplace: Workplace, base: str = "b1", *, fresh: bool = False) -> tuple[Path, object]:
    result = checkout(CheckoutArguments(chat_id=7, base=base, fresh=fresh), workplace)
    return Path(result.stdout), result.meta["state"]


def patch(workplace: Workplace) -> str:
    return diff(DiffArguments(chat_id=7), workplace).stdout


def test_a_copy_has_the_source_and_nothing_else(pristine: Path, workplace: Workplace) -> None:
    """No caches and no repository; an untouched copy is no change."""
    copy, state = check_out(workplace)
    assert state == "fresh"
    found = (path.relative_to(copy).as_posix() for path in copy.rglob("*") if path.is_file())
    assert sorted(path for path in found if not path.startswith(".origin/")) == [
        ".base",
        "pytest.ini",
        "run-tests",
        "supervisor/contract/__init__.py",
        "tests/worker/test_a.py",
        "worker/__init__.py",
        "worker/a.py",
    ]
    assert patch(workplace) == ""


def test_work_on_the_same_base_is_kept(pristine: Path, workplace: Workplace) -> None:
    """It is put aside when it is not wanted any more."""
    copy, _ = check_out(workplace)
    (copy / "worker" / "a.py").write_text("three\n")
    assert check_out(workplace)[1] == "kept"
    assert "+three" in patch(workplace)
    assert check_out(workplace, fresh=True)[1] == "replaced"
    assert patch(workplace) == ""
    assert (workplace.workspace / "self" / "7.old" / "worker" / "a.py").read_text() == "three\n"


def test_another_base_brings_another_copy(pristine: Path, workplace: Workplace) -> None:
    """Nothing is put aside when nothing of its own is in the copy, or just what became that base."""
    copy, _ = check_out(workplace)
    (copy / "worker" / "a.py").write_text("three\n")
    (pristine / "worker" / "a.py").write_text("three\n")
    assert check_out(workplace, "b2")[1] == "fresh"
    (pristine / "worker" / "a.py").write_text("one\ntwo\n")
    assert check_out(workplace, "b1")[1] == "fresh"  # it was taken back, and does not come again
    assert (copy / "worker" / "a.py").read_text() == "one\ntwo\n"
    (copy / "worker" / "a.py").write_text("four\n")
    (pristine / "worker" / "a.py").write_text("five\n")
    assert check_out(workplace, "b3")[1] == "replaced"
    assert (copy / "worker" / "a.py").read_text() == "five\n"
    assert (workplace.workspace / "self" / "7.old" / "worker" / "a.py").read_text() == "four\n"


def test_work_is_carried_over_to_another_base(pristine: Path, workplace: Workplace) -> None:
    """What the other base leaves alone, and not what it already has; nothing when the two meet in a file."""
    copy, _ = check_out(workplace)
    (copy / "worker" / "a.py").write_text("mine\n")
    (copy / "worker" / "new.py").write_text("new\n")
    (copy / "tests" / "worker" / "test_a.py").unlink()
    (pristine / "worker" / "b.py").write_text("theirs\n")
    (pristine / "worker" / "new.py").write_text("new\n")
    assert check_out(workplace, "b2")[1] == "carried"
    assert "+mine" in patch(workplace)
    assert "deleted file" in patch(workplace)
    assert patch(workplace).count("diff --git") == 2
    assert (copy / "worker" / "b.py").read_text() == "theirs\n"
    (pristine / "worker" / "a.py").write_text("theirs\n")
    assert check_out(workplace, "b3")[1] == "replaced"
    assert patch(workplace) == ""


def test_the_patch_says_what_changed(pristine: Path, workplace: Workplace) -> None:
    """Changed, new, removed, emptied, and without a line feed at its end; caches are no change."""
    copy, _ = check_out(workplace)
    (copy / "worker" / "a.py").write_text("one\n2")
    (copy / "worker" / "b.py").write_text("new\n")
    (copy / "worker" / "empty.py").write_text("")
    (copy / "tests" / "worker" / "test_a.py").unlink()
    (copy / "worker" / "__pycache__").mkdir()
    (copy / "worker" / "__pycache__" / "b.pyc").write_bytes(b"\0")
    assert patch(workplace) == (
        "diff --git a/tests/worker/test_a.py b/tests/worker/test_a.py\ndeleted file mode 100644\n"
        "--- a/tests/worker/test_a.py\n+++ /dev/null\n@@ -1,2 +0,0 @@\n-def test_a() -> None:\n-    import worker.a\n"
        "diff --git a/worker/a.py b/worker/a.py\n--- a/worker/a.py\n+++ b/worker/a.py\n"
        "@@ -1,2 +1,2 @@\n one\n-two\n+2\n\\ No newline at end of file\n"
        "diff --git a/worker/b.py b/worker/b.py\nnew file mode 100644\n--- /dev/null\n+++ b/worker/b.py\n"
        "@@ -0,0 +1 @@\n+new\n"
        "diff --git a/worker/empty.py b/worker/empty.py\nnew file mode 100644\nindex 0000000..e69de29\n"
    )


def test_what_is_not_the_workers_is_in_the_patch_too(pristine: Path, workplace: Workplace) -> None:
    """So that the supervisor refuses it, and the model is told: nothing is left out in silence."""
    copy, _ = check_out(workplace)
    (copy / "supervisor" / "contract" / "__init__.py").write_text("x = 1\n")
    (copy / "setup.py").write_text("x = 1\n")
    assert patch(workplace).count("diff --git") == 2


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("worker/bytes.py", b"\xff\xfe", "not_text"),
        ("worker/a b.py", b"x", "bad_name"),
        ("worker/new\nline.py", b"x", "bad_name"),
        ("worker/big.py", b"x" * 2_000_000, "too_large"),
    ],
)
def test_what_no_patch_can_hold(pristine: Path, workplace: Workplace, name: str, content: bytes, code: str) -> None:
    """The model is told which file it is."""
    copy, _ = check_out(workplace)
    (copy / name).write_bytes(content)
    with pytest.raises(ToolError) as caught:
        patch(workplace)
    assert caught.value.code == code


def test_each_chat_has_its_own(pristine: Path, workplace: Workplace) -> None:
    """What one changes is not in the other's patch."""
    copy, _ = check_out(workplace)
    other = Path(checkout(CheckoutArguments(chat_id=8, base="b1"), workplace).stdout)
    (copy / "worker" / "a.py").write_text("seven\n")
    (other / "worker" / "a.py").write_text("eight\n")
    assert ("+seven" in patch(workplace), "+eight" in patch(workplace)) == (True, False)


def test_links_are_not_followed(pristine: Path, workplace: Workplace, tmp_path: Path) -> None:
    """Neither to a file nor to a directory, nor where the copy itself should be."""
    copy, _ = check_out(workplace)
    for target in (tmp_path / "app" / "worker" / "a.py", tmp_path / "app"):
        (copy / "worker" / "link").symlink_to(target)
        with pytest.raises(ToolError) as caught:
            patch(workplace)
        assert caught.value.code == "not_a_file"
        assert check_out(workplace)[1] == "kept"  # whoever works there is told when it is to become a patch
        (copy / "worker" / "link").unlink()
    copy.rename(tmp_path / "elsewhere")
    copy.symlink_to(tmp_path / "elsewhere")
    assert check_out(workplace)[1] == "fresh"
    assert not copy.is_symlink()


def test_the_tests_of_the_copy_run(pristine: Path, workplace: Workplace) -> None:
    """On the copy's code and not on that which runs here."""
    copy, _ = check_out(workplace)
    (copy / "worker" / "a.py").write_text("THREE = 3\n")
    (copy / "tests" / "worker" / "test_b.py").write_text("import worker.a\n\ndef test_b():\n    worker.a.FOUR\n")
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    command = ["sh", str(copy / "run-tests"), "-k", "test_a or test_b"]
    ran = subprocess.run(command, env=environment, check=False, capture_output=True)
    assert b"1 failed, 1 passed" in ran.stdout
    assert b"has no attribute 'FOUR'" in ran.stdout


def test_no_model_is_told_of_the_operations() -> None:
    """They are none of the tools."""
    assert not OPERATIONS.keys() & TOOLS.keys()
