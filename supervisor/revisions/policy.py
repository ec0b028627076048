"""What a patch may do to a revision: pure judgements over values, no git and no files.

The resulting tree is judged against the base tree, entry by entry; what the patch says about itself is read only
to refuse early what would be costly to apply. Every rule is stricter than git's own.

    Refused             with a RefusalCode and a reason of one line
"""

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

MAX_PATCH_BYTES: Final = 256 * 1024
MAX_FILES: Final = 30
MAX_ADDED_LINES: Final = 2_000

#: The folders that a revision is made of. Nothing else is in its tree, so nothing else can be patched.
AREAS: Final = ("worker/", "tests/worker/")

REGULAR: Final = "100644"

#: The packages that the worker needs; a patch may ask for more where that is allowed.
REQUIREMENTS: Final = "worker/requirements.in"


class RefusalCode(StrEnum):
    """Why a patch is not let through."""

    NOT_A_PATCH = "not_a_patch"
    TOO_LARGE = "too_large"
    EMPTY = "empty"
    APPLY_FAILED = "apply_failed"
    PATH_DENIED = "path_denied"
    MODE_DENIED = "mode_denied"
    BINARY_DENIED = "binary_denied"
    HIDDEN_CHAR = "hidden_char"
    DEPENDENCY_DENIED = "dependency_denied"
    FAILED_BEFORE = "failed_before"  # raised by whoever knows the history; the other codes come from here


class Refused(Exception):
    """The patch is not let through. ``reason`` is one line for a person and has no hidden characters."""

    def __init__(self, code: RefusalCode, reason: str) -> None:
        super().__init__(f"{code}: {reason}")
        self.code = code
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of a tree, as git records it. ``mode`` is six octal digits."""

    mode: str
    oid: str


#: The files of a tree by path. A path that is not UTF-8 has surrogates in it, as ``os.fsdecode`` makes them.
Tree = Mapping[str, Entry]


def check_patch(patch: bytes) -> None:
    """Refuse what need not even be applied.

    The size comes first, before anything is parsed. The other counts keep a small patch from having git write a
    great deal: a copy of a file costs two lines, and packed binary data can grow a thousandfold.
    """
    if len(patch) > MAX_PATCH_BYTES:
        raise Refused(RefusalCode.TOO_LARGE, f"{len(patch):,} bytes; at most {MAX_PATCH_BYTES:,} are taken")
    if not patch.strip():
        raise Refused(RefusalCode.EMPTY, "the patch is empty")
    if not _DIFF_STARTS.search(patch):
        raise Refused(RefusalCode.NOT_A_PATCH, "no 'diff --git' or '---'/'+++' lines were found")
    if _BINARY_HUNK.search(patch):
        raise Refused(RefusalCode.BINARY_DENIED, "the patch has binary data; only text files are taken")
    files = len(_GIT_HEADER.findall(patch))
    if files > MAX_FILES:
        raise Refused(RefusalCode.TOO_LARGE, f"{files} files; at most {MAX_FILES} are taken")


def check_tree(base: Tree, result: Tree, *, dependencies: bool = False) -> tuple[str, ...]:
    """Judge paths and modes of everything that differs; return the changed paths, sorted.

    ``dependencies`` lets the list of packages be changed.
    """
    changed = sorted(path for path in base.keys() | result.keys() if base.get(path) != result.get(path))
    if not changed:
        raise Refused(RefusalCode.EMPTY, "the patch changes nothing")
    if len(changed) > MAX_FILES:
        raise Refused(RefusalCode.TOO_LARGE, f"{len(changed)} files; at most {MAX_FILES} are taken")
    for path in changed:
        _check_path(path, dependencies=dependencies)
    for path in changed:
        _check_mode(path, base.get(path), result.get(path))
    _check_collisions(result)
    return tuple(changed)


def check_text(path: str, before: bytes | None, after: bytes | None, added: Sequence[bytes]) -> None:
    """Judge the new content of one file; ``added`` are the lines, without line feed, that base does not have.

    A carriage return is a control character like any other, except at the end of a line of a file that had such
    line ends before: it keeps its convention.
    """
    if after is None:
        return
    if b"\0" in after or not _is_utf8(after):
        raise Refused(RefusalCode.BINARY_DENIED, f"{path} is not UTF-8 text")
    crlf = before is not None and b"\r\n" in before
    for line in added:
        text = line.decode()
        hidden = _hidden_in(text.removesuffix("\r") if crlf else text)
        if hidden:
            reason = f"{path} adds the hidden character {_name(hidden)}; write it as an escape"
            raise Refused(RefusalCode.HIDDEN_CHAR, reason)


def check_added(lines: int) -> None:
    """Judge the number of added lines of the whole change."""
    if lines > MAX_ADDED_LINES:
        raise Refused(RefusalCode.TOO_LARGE, f"{lines:,} added lines; at most {MAX_ADDED_LINES:,} are taken")


def check_import(files: Mapping[str, bytes]) -> None:
    """Judge files that come from the trusted side: what no revision may hold, whoever wrote it.

    Files that a patch may not touch (a ``conftest.py``, say) are let through here, and there are no caps.
    """
    for path, content in files.items():
        if not belongs(path):
            raise Refused(RefusalCode.PATH_DENIED, f"{shown(path)} can not be part of a revision")
        if b"\0" in content or not _is_utf8(content):
            raise Refused(RefusalCode.BINARY_DENIED, f"{path} is not UTF-8 text")
    _check_collisions(files)


def belongs(path: str) -> bool:
    """Whether a file of the checkout at this path is part of a revision: in an area, with a plain name.

    Leaves out hidden files and what Python and editors leave behind, so a checkout can be read through it.
    """
    return path.startswith(AREAS) and all(
        _PLAIN_NAME.fullmatch(part) and not _LEFTOVER.fullmatch(part.lower()) for part in path.split("/")
    )


def shown(text: str) -> str:
    """The text on one line, with every hidden character as an escape that a person can read."""
    return "".join(char.encode("unicode_escape").decode() if _is_hidden(char) else char for char in text)


# Lines of content start with a blank, + or -, so these are only found where git itself would look for them.
_GIT_HEADER = re.compile(rb"^diff --git ", re.MULTILINE)
_DIFF_STARTS = re.compile(rb"^diff --git |^--- [^\n]*\n\+\+\+ ", re.MULTILINE)
_BINARY_HUNK = re.compile(rb"^GIT binary patch\r?$|^Binary files .* differ\r?$", re.MULTILINE)

# ASCII without blanks, backslash, colon or tilde: no case folding, normal form, stream or short name can make two of
# these one, or one of these something else. Neither hidden (a leading dot) nor ".." nor with a trailing dot.
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.+-]*[A-Za-z0-9_+-])?")

_LEFTOVER = re.compile(r"__pycache__|.*\.(?:py[cod]|so|orig|rej|egg-info|dist-info)")

# Names by which Python, pip or pytest would take orders from the tree. Compared in lower case.
_ORDERS = re.compile(
    r"conftest\.py|pytest\.(?:ini|toml)|tox\.ini|noxfile\.py"
    r"|pyproject\.toml|setup\.(?:py|cfg)|requirements.*|constraints.*\.txt|pipfile|manifest\.in|.*\.lock"
    r"|(?:site|user)customize(?:\..*)?|pyvenv\.cfg|.*\._?pth"
)

_HIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
# Letters and marks that are drawn as nothing: fillers that pass as identifiers, and selectors that can carry data.
# Selector 16 (U+FE0F) is left out: ordinary emoji have it.
_DRAWN_AS_NOTHING = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0") | {
    chr(code) for code in range(0xE0100, 0xE01F0)
}


def _is_hidden(char: str) -> bool:
    return unicodedata.category(char) in _HIDDEN_CATEGORIES or char in _DRAWN_AS_NOTHING


def _hidden_in(text: str) -> str | None:
    if text.isascii() and text.isprintable():
        return None
    return next((char for char in text if char != "\t" and _is_hidden(char)), None)


def _name(char: str) -> str:
    return f"U+{ord(char):04X}"


def _is_utf8(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True


def _check_path(path: str, *, dependencies: bool) -> None:
    if hidden := next(filter(_is_hidden, path), None):
        reason = f"the name {shown(path)} has the hidden character {_name(hidden)}"
        raise Refused(RefusalCode.HIDDEN_CHAR, reason)
    if not path.startswith(AREAS):
        raise Refused(RefusalCode.PATH_DENIED, f"{path} is outside {' and '.join(AREAS)}")
    if not belongs(path):
        raise Refused(RefusalCode.PATH_DENIED, f"{path} has a name that is not allowed")
    if path == REQUIREMENTS:
        if not dependencies:
            reason = f"{path} asks for packages; only AUTONOUS_ALLOW_DEPENDENCY_UPDATES=1 lets a patch do that"
            raise Refused(RefusalCode.PATH_DENIED, reason)
        return
    if any(_ORDERS.fullmatch(part.lower()) for part in path.split("/")):
        raise Refused(RefusalCode.PATH_DENIED, f"{path} would configure Python, pip or pytest")


def _check_mode(path: str, before: Entry | None, after: Entry | None) -> None:
    if after is None:
        return
    if after.mode != REGULAR:
        raise Refused(RefusalCode.MODE_DENIED, f"{path} would be {_kind(after.mode)}; only plain files are taken")
    if before is not None and before.mode != REGULAR:
        raise Refused(RefusalCode.MODE_DENIED, f"{path} is {_kind(before.mode)} and would become a plain file")


def _kind(mode: str) -> str:
    names = {"120000": "a symbolic link", "160000": "a submodule", "100755": "an executable file"}
    return names.get(mode, f"of mode {mode}")


def _check_collisions(paths: Iterable[str]) -> None:
    """Refuse two spellings of one name: where case is not told apart, one would stand for the other."""
    spelling: dict[str, str] = {}
    for path in sorted(paths):
        parts = path.split("/")
        for depth in range(1, len(parts) + 1):
            prefix = "/".join(parts[:depth])
            other = spelling.setdefault(prefix.lower(), prefix)
            if other != prefix:
                reason = f"{shown(prefix)} and {shown(other)} differ in case only"
                raise Refused(RefusalCode.PATH_DENIED, reason)
