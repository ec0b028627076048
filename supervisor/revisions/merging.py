"""Three-way merge of whole trees, file by file, as values. A rename is a deletion and an addition."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

Files = Mapping[str, bytes]

#: Merges the text of one file, given base, ours and theirs; None when both changed the same lines.
MergeText = Callable[[bytes, bytes, bytes], bytes | None]

#: What conflicts call our side and theirs.
Sides = tuple[str, str]
CHECKOUT: Final[Sides] = ("the agent", "the checkout")
UPDATE: Final[Sides] = ("the good revision", "the update")


@dataclass(frozen=True, slots=True)
class Conflict:
    """A file that both sides changed in ways that exclude each other."""

    path: str
    reason: str


def merge(
    base: Files, ours: Files, theirs: Files, merge_text: MergeText, sides: Sides = CHECKOUT
) -> tuple[dict[str, bytes], list[Conflict]]:
    """What both sides made of ``base``; with conflicts the files are of no use."""
    merged: dict[str, bytes] = {}
    conflicts = []
    for path in sorted(base.keys() | ours.keys() | theirs.keys()):
        before, our, their = base.get(path), ours.get(path), theirs.get(path)
        content = our if their == before else their
        if before != our != their != before:  # each side did something else
            content, reason = _both(before, our, their, merge_text, sides)
            if reason:
                conflicts.append(Conflict(path, reason))
        if content is not None:
            merged[path] = content
    folders = {folder for path in merged for folder in _folders(path)}
    conflicts += [Conflict(path, "a file on one side, a folder on the other") for path in merged if path in folders]
    return merged, conflicts


def _both(
    before: bytes | None, our: bytes | None, their: bytes | None, merge_text: MergeText, sides: Sides
) -> tuple[bytes | None, str]:
    """The merged text, or why there is none."""
    if our is None or their is None:
        gone, changed = sides if our is None else reversed(sides)
        return None, f"{gone} deleted it, {changed} changed it"
    if before is None:
        return None, "both added it, with other contents"
    text = merge_text(before, our, their)
    return text, "" if text is not None else "both changed the same lines"


def _folders(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:depth]) for depth in range(1, len(parts))]
