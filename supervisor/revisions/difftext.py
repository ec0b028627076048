"""Reads the unified diff that our own git writes: paths already judged, no renames, always text."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class ChangeKind(StrEnum):
    """What happened to a file."""

    ADDED = "added"
    MODIFIED = "modified"
    DELETED = "deleted"


@dataclass(frozen=True, slots=True)
class FileChange:
    """One changed file. ``added`` and ``deleted`` count lines."""

    path: str
    kind: ChangeKind
    added: int
    deleted: int


@dataclass(frozen=True, slots=True)
class FileDiff:
    """The hunks of one file, each a tuple of lines with their sign and without the line feed."""

    path: str
    kind: ChangeKind
    hunks: tuple[tuple[bytes, ...], ...]

    @property
    def added(self) -> list[bytes]:
        """The added lines, without their sign."""
        return [line[1:] for hunk in self.hunks for line in hunk if line.startswith(b"+")]

    @property
    def change(self) -> FileChange:
        """The numbers without the text."""
        deleted = sum(line.startswith(b"-") for hunk in self.hunks for line in hunk)
        return FileChange(self.path, self.kind, len(self.added), deleted)


def parse(diff: bytes) -> tuple[FileDiff, ...]:
    """Split a diff by file. Hunks are taken by their counts, so a line of content is never read as a header."""
    lines = diff.split(b"\n")
    diffs = []
    at = 0
    while at < len(lines):
        if not lines[at].startswith(_HEADER):
            at += 1
            continue
        path = _path(lines[at])
        kind = ChangeKind.MODIFIED
        hunks = []
        at += 1
        while at < len(lines) and not lines[at].startswith(_HEADER):
            if counts := _HUNK.match(lines[at]):
                hunk, at = _take_hunk(lines, at + 1, *(int(count or b"1") for count in counts.groups()))
                hunks.append(hunk)
                continue
            kind = _KINDS.get(lines[at].split(b" mode ")[0], kind)
            at += 1
        diffs.append(FileDiff(path, kind, tuple(hunks)))
    return tuple(diffs)


def patch_id(diffs: Sequence[FileDiff]) -> str:
    """The identity of a change, whatever base it lands on: files, context and changed lines, no line numbers.

    As ``git patch-id --verbatim`` (which older gits lack): white space counts, for in Python a patch that only
    indents anew is another patch, and perhaps the one that works.
    """
    digest = hashlib.sha256()
    for diff in sorted(diffs, key=lambda diff: diff.path):
        digest.update(f"{diff.kind} {diff.path}\n".encode())
        for hunk in diff.hunks:
            digest.update(b"@@\n" + b"".join(line + b"\n" for line in hunk))
    return digest.hexdigest()


_HEADER = b"diff --git "
_HUNK = re.compile(rb"@@ -\d+(?:,(\d+))? \+\d+(?:,(\d+))? @@")
_KINDS = {b"new file": ChangeKind.ADDED, b"deleted file": ChangeKind.DELETED}


def _path(header: bytes) -> str:
    """The path in ``diff --git a/PATH b/PATH``: both are the same, so it is half of what stands there."""
    both = header.removeprefix(_HEADER)
    return both[len(b"a/") : len(both) // 2].decode()


def _take_hunk(lines: Sequence[bytes], at: int, before: int, after: int) -> tuple[tuple[bytes, ...], int]:
    start = at
    while before > 0 or after > 0 or lines[at].startswith(b"\\"):
        sign = lines[at][:1]
        before -= sign in (b" ", b"-")
        after -= sign in (b" ", b"+")
        at += 1
    return tuple(lines[start:at]), at
