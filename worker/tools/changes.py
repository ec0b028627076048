"""Replacing texts at known places, and the unified diff of that."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

from worker.tools import text
from worker.tools.truncation import split

CONTEXT: Final = 3


@dataclass(frozen=True, slots=True)
class _Block:
    """Lines, by index from ``first`` up to ``end``, in place of which come others."""

    first: int
    end: int
    new: list[str]


def replaced(content: str, ranges: Sequence[tuple[int, int]], new: str) -> str:
    """The content with ``new`` at each of the ranges, with ends of line of the kind that is there."""
    file_end = text.Conventions.of(content.encode("utf-8", "surrogateescape")).line_end
    pieces: list[str] = []
    at = 0
    for start, end in ranges:
        pieces += content[at:start], _adapted(new, content[start:end], file_end)
        at = end
    return "".join(pieces) + content[at:]


def _adapted(new: str, old: str, file_end: str) -> str:
    own = "\r\n" if "\r\n" in old else "\n" if "\n" in old else file_end
    return new if own == "\n" else new.replace("\n", own)


def diff(content: str, ranges: Sequence[tuple[int, int]], new: str, path: str) -> Iterator[str]:
    """The lines of the unified diff; the ends of line are shown as line feeds."""
    lines = list(split(content))
    yield f"--- {path}\n"
    yield f"+++ {path}\n"
    shift = 0
    for hunk in _hunks(_blocks(content, lines, ranges, new)):
        first = max(0, hunk[0].first - CONTEXT)
        end = min(len(lines), hunk[-1].end + CONTEXT)
        grown = sum(len(block.new) - (block.end - block.first) for block in hunk)
        yield f"@@ -{_range(first, end - first)} +{_range(first + shift, end - first + grown)} @@\n"
        shift += grown
        at = first
        for block in hunk:
            yield from _signed(" ", lines[at : block.first])
            yield from _signed("-", lines[block.first : block.end])
            yield from _signed("+", block.new)
            at = block.end
        yield from _signed(" ", lines[at:end])


def _blocks(content: str, lines: Sequence[str], ranges: Sequence[tuple[int, int]], new: str) -> Iterator[_Block]:
    """The lines that change, and what they become; ranges that share a line are one block."""
    starts = list(accumulate(map(len, lines), initial=0))
    first, stop = 0, 0
    inside: list[tuple[int, int]] = []

    def block() -> _Block:
        begin = starts[first]
        moved = [(start - begin, end - begin) for start, end in inside]
        return _Block(first, stop, list(split(replaced(content[begin : starts[stop]], moved, new))))

    for start, end in ranges:
        row = bisect_right(starts, start) - 1
        behind = bisect_right(starts, max(start, end - 1))
        if end == starts[behind] and behind < len(lines) and not new.endswith("\n"):
            behind += 1  # its end of line goes, and the next line joins it
        if inside and row >= stop:
            yield block()
            inside.clear()
        if not inside:
            first = row
        inside.append((start, end))
        stop = max(stop, behind)
    yield block()


def _hunks(blocks: Iterator[_Block]) -> Iterator[list[_Block]]:
    """Blocks that are so near to each other that their context would meet, together."""
    near: list[_Block] = []
    for block in blocks:
        if near and block.first - near[-1].end > 2 * CONTEXT:
            yield near
            near = []
        near.append(block)
    if near:
        yield near


def _range(first: int, count: int) -> str:
    return f"{first + 1 if count else first},{count}"


def _signed(sign: str, lines: Sequence[str]) -> Iterator[str]:
    for line in lines:
        yield f"{sign}{line.removesuffix(chr(10)).removesuffix(chr(13))}\n"
        if not line.endswith("\n"):
            yield "\\ No newline at end of file\n"
