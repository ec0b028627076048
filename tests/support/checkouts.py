"""Copies of this checkout, as a fresh clone has them, and patches of the worker's source in them."""

import difflib
import shutil
from collections.abc import Mapping
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
#: What candidates run in tests that are not about their tests. It stands in for the real module, as that looks at
#: clocks, which a busy machine makes wrong.
FEW_TESTS = CHECKOUT / "tests" / "support" / "few_tests.py"
_LEFTOVERS = shutil.ignore_patterns("__pycache__", "*.pyc")


def copy_checkout(target: Path, *, all_tests: bool = False) -> Path:
    """Copy what an installation is made from; all of the worker's tests take a while in every update.

    The supervisor comes with its bytecode: to compile it takes each copy as long as half an update.
    """
    shutil.copytree(CHECKOUT / "supervisor", target / "supervisor")
    for name in ("worker", "images"):
        shutil.copytree(CHECKOUT / name, target / name, ignore=_LEFTOVERS)
    tests = target / "tests" / "worker"
    if all_tests:
        shutil.copytree(CHECKOUT / "tests" / "worker", tests, ignore=_LEFTOVERS)
        return target
    tests.mkdir(parents=True)
    shutil.copy(FEW_TESTS, tests / "test_models_dummy.py")
    return target


def checkout_with(target: Path, changed: Mapping[str, str]) -> Path:
    """A copy of this checkout in which files have these contents."""
    copy_checkout(target)
    for path, text in changed.items():
        (target / path).write_text(text)
    return target


def replaced(checkout: Path, path: str, old: str, new: str) -> dict[str, str]:
    """A file of a checkout with another content where it says ``old``, which it does once."""
    text = (checkout / path).read_text()
    assert text.count(old) == 1, f"{path} says {text.count(old)} times: {old}"
    return {path: text.replace(old, new)}


def patch_of(checkout: Path, changed: Mapping[str, str]) -> bytes:
    """A git patch that gives files of a checkout, or new files, these contents."""
    return "".join(_file_patch(checkout / path, path, new) for path, new in changed.items()).encode()


def _file_patch(file: Path, path: str, new: str) -> str:
    there = file.exists()
    old = file.read_text() if there else ""
    head = f"diff --git a/{path} b/{path}\n" + ("" if there else "new file mode 100644\n")
    lines = difflib.unified_diff(
        old.splitlines(keepends=True),
        new.splitlines(keepends=True),
        f"a/{path}" if there else "/dev/null",
        f"b/{path}",
    )
    return head + "".join(lines)
