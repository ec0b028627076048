"""The worker's own source as a working copy, and the patch that the copy has become.

Two operations of the toolbox that no model is told of. They run there because tools can write to the copy: the worker
gets bytes and never touches the files. The pristine source is what this image runs, and cannot be written.
"""

import difflib
import os
import re
import shutil
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from worker.tools.base import Arguments, Tier, Tool, ToolError, ToolResult, argument
from worker.tools.workplace import Workplace

#: The root of the source that runs here.
PRISTINE: Final = Path(__file__).resolve().parents[2]
#: The parts of it that a copy has. Of the supervisor an image holds the contract alone, which the tests need.
PARTS: Final = ("supervisor", "tests", "worker")
#: Where the copies are, one for each chat, named by its id.
COPIES: Final = "self"
FORMER: Final = ".old"
RUN_TESTS: Final = "run-tests"
#: As the gate runs them, but for its own report.
PYTEST_INI: Final = """[pytest]
addopts = -p no:cacheprovider --import-mode=importlib --strict-markers -q --tb=short
python_files = test_*.py
testpaths = tests/worker
"""
_RUN_TESTS_SH: Final = """#!/bin/sh
# The tests of this copy, as the gate runs them; arguments are pytest's.
cd "$(dirname "$0")" && PYTHONPATH="$PWD" exec python -m pytest -c pytest.ini --rootdir="$PWD" "$@"
"""
_BASE: Final = ".base"
#: In a copy: the source that it was made of, which runs here no more once the base has moved.
_ORIGIN: Final = ".origin"
_SCAFFOLD: Final = frozenset({_BASE, RUN_TESTS, "pytest.ini"})
_NO_SOURCE: Final = frozenset({_ORIGIN, "__pycache__", ".pytest_cache", ".mypy_cache", ".ruff_cache", ".hypothesis"})
_PLAIN_NAME: Final = re.compile(r"[A-Za-z0-9_./+@-]+")
_LARGEST_FILE_BYTES: Final = 1024 * 1024
_MOST_FILES: Final = 5000
_NO_NEWLINE: Final = "\n\\ No newline at end of file\n"
_EMPTY_BLOB: Final = "e69de29"


@dataclass(frozen=True, slots=True)
class CheckoutArguments(Arguments):
    """``fresh`` puts what is there aside."""

    chat_id: int = argument("whose copy")
    base: str = argument("the revision that runs here")
    fresh: bool = argument("begin anew", default=False)


@dataclass(frozen=True, slots=True)
class DiffArguments(Arguments):
    """Which copy."""

    chat_id: int = argument("whose copy")


def checkout(arguments: CheckoutArguments, workplace: Workplace) -> ToolResult:
    """See that there is a copy of this revision; gives where.

    ``meta["state"]`` is ``kept`` of one of the same base, with what was done in it; ``carried`` when what was done in
    one of another base was carried over to this one; else ``fresh``, or ``replaced`` when what was there is now aside,
    where it takes the place of what was aside before: it was not wanted any more, or files that were changed in it
    are other ones in this base.
    """
    copy = _copy_of(arguments.chat_id, workplace)
    state, work = "fresh", None
    if copy.is_dir() and not copy.is_symlink():
        if not arguments.fresh and _base_of(copy) == arguments.base:
            return _checked_out(copy, "kept", changed=_done_in(copy, PRISTINE) != {})
        done = _done_in(copy, _origin_of(copy))
        work = None if arguments.fresh or done is None else _that_fits(done)
        state = "carried" if work else "replaced" if done != {} and work is None else "fresh"
        _set_aside(copy)
    elif copy.is_symlink() or copy.exists():
        copy.unlink()
    _write_copy(PRISTINE, copy, arguments.base)
    _carry_over(work or {}, copy)
    return _checked_out(copy, state, changed=bool(work))


def diff(arguments: DiffArguments, workplace: Workplace) -> ToolResult:
    """The change from the source that runs here to the copy, as a git patch."""
    copy = _copy_of(arguments.chat_id, workplace)
    if not copy.is_dir():
        raise ToolError("no_copy", f"there is no {copy}")
    return ToolResult(ok=True, stdout=patch_between(PRISTINE, copy))


def patch_between(pristine: Path, copy: Path) -> str:
    """A git patch that makes the one tree into the other. Raises ToolError for what no patch of text can hold."""
    return "".join(_file_patch(path, old, new) for path, (old, new) in sorted(_changes(pristine, copy).items()))


def _changes(pristine: Path, copy: Path) -> dict[str, tuple[bytes | None, bytes | None]]:
    """The files that differ, before and after; None is a file that is not there."""
    before = {path: _read(pristine / path) for path in _files(pristine, PARTS)}
    after = {path: _read(copy / path) for path in _files(copy)}
    return {
        path: (before.get(path), after.get(path))
        for path in before.keys() | after.keys()
        if before.get(path) != after.get(path)
    }


def _files(root: Path, parts: Iterable[str] = ("",)) -> Iterator[str]:
    """All files below a root by their paths; a link or a special file is listed, too."""
    found = 0
    for part in parts:
        for directory, names, files in os.walk(root / part):
            here = Path(directory)
            links = [name for name in names if (here / name).is_symlink()]
            names[:] = sorted(set(names) - _NO_SOURCE - set(links))
            for name in (*files, *links):
                path = (here / name).relative_to(root).as_posix()
                if path in _SCAFFOLD or name.endswith(".pyc"):
                    continue
                found += 1
                if found > _MOST_FILES:
                    raise ToolError("too_large", f"{root} holds more than {_MOST_FILES} files")
                yield path


def _read(path: Path) -> bytes:
    """A plain file's content."""
    status = path.lstat()
    if not stat.S_ISREG(status.st_mode):
        raise ToolError("not_a_file", f"{path} is no plain file, and a patch holds nothing else: remove it")
    if status.st_size > _LARGEST_FILE_BYTES:
        raise ToolError("too_large", f"{path} has {status.st_size:,} bytes: remove it, or make it smaller")
    return path.read_bytes()


def _file_patch(path: str, old: bytes | None, new: bytes | None) -> str:
    if not _PLAIN_NAME.fullmatch(path):
        raise ToolError("bad_name", f"{path!r}: a file's name may have letters, digits and _ . / + @ - only")
    head = f"diff --git a/{path} b/{path}\n"
    if old is None:
        head += "new file mode 100644\n" + (f"index 0000000..{_EMPTY_BLOB}\n" if not new else "")
    elif new is None:
        head += "deleted file mode 100644\n" + (f"index {_EMPTY_BLOB}..0000000\n" if not old else "")
    names = ("/dev/null" if old is None else f"a/{path}", "/dev/null" if new is None else f"b/{path}")
    lines = difflib.unified_diff(_lines(path, old), _lines(path, new), *names)
    return head + "".join(line if line.endswith("\n") else line + _NO_NEWLINE for line in lines)


def _lines(path: str, content: bytes | None) -> list[str]:
    """Lines end at a line feed and nowhere else."""
    try:
        text = (content or b"").decode()
    except UnicodeDecodeError:
        raise ToolError("not_text", f"{path} is not UTF-8 text, and a patch holds nothing else") from None
    lines = text.split("\n")
    return [line + "\n" for line in lines[:-1]] + ([lines[-1]] if lines[-1] else [])


def _checked_out(copy: Path, state: str, *, changed: bool) -> ToolResult:
    return ToolResult(ok=True, stdout=str(copy), meta={"state": state, "changed": changed})


def _done_in(copy: Path, origin: Path) -> dict[str, tuple[bytes | None, bytes | None]] | None:
    """What was changed in a copy; None when no patch could hold it."""
    try:
        return _changes(origin, copy)
    except ToolError:
        return None


def _that_fits(done: Mapping[str, tuple[bytes | None, bytes | None]]) -> dict[str, bytes | None] | None:
    """Of what was done in a copy of another base, what is not in this one; None when the two changed the same file."""
    work: dict[str, bytes | None] = {}
    for path, (before, after) in done.items():
        now = _read(PRISTINE / path) if (PRISTINE / path).is_file() else None
        if now not in (before, after):
            return None
        if now != after:
            work[path] = after
    return work


def _carry_over(work: Mapping[str, bytes | None], copy: Path) -> None:
    for path, content in work.items():
        target = copy / path
        if content is None:
            target.unlink()
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)


def _write_copy(pristine: Path, copy: Path, base: str) -> None:
    """Write a copy beside its place and move it there, so that a half one is never taken for whole."""
    unfinished = copy.with_name(f"{copy.name}.new")
    shutil.rmtree(unfinished, ignore_errors=True)
    for path in _files(pristine, PARTS):
        content = _read(pristine / path)
        for root in (unfinished, unfinished / _ORIGIN):
            target = root / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
    scaffold: Mapping[str, str] = {_BASE: base, RUN_TESTS: _RUN_TESTS_SH, "pytest.ini": PYTEST_INI}
    for name, text in scaffold.items():
        (unfinished / name).write_text(text)
    unfinished.rename(copy)


def _copy_of(chat_id: int, workplace: Workplace) -> Path:
    return workplace.workspace / COPIES / str(chat_id)


def _set_aside(copy: Path) -> None:
    former = copy.with_name(copy.name + FORMER)
    if former.is_symlink() or former.is_file():
        former.unlink()
    shutil.rmtree(former, ignore_errors=True)
    copy.rename(former)


def _origin_of(copy: Path) -> Path:
    """What a copy was made of; of one that does not say it, what runs here."""
    origin = copy / _ORIGIN
    return origin if origin.is_dir() and not origin.is_symlink() else PRISTINE


def _base_of(copy: Path) -> str:
    try:
        return (copy / _BASE).read_text()[:100]
    except (OSError, UnicodeDecodeError):
        return ""


CHECKOUT: Final = Tool("checkout", "Sees that the working copy is there.", CheckoutArguments, checkout, Tier.WRITE)
DIFF: Final = Tool("diff", "The change in the working copy.", DiffArguments, diff, Tier.READ)
