"""Searching files line by line."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from worker.tools import text

#: Files are searched in pieces of this many bytes, cut between lines; context does not reach over a cut.
PIECE: Final = 16 * 1024 * 1024
#: What makes a search over many lines differ from one in each of them (looking around, the ends of the whole text,
#: what never gives back), or take much longer (what matches ends of lines, too, again and again).
_ALONE: Final = re.compile(r"\(\?(?!:|i\))|\\[AZWD]|\[\^|[*+?}]\+")
_FIRST_READ: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Match:
    """A line that matches, by its number from 1, with the lines around it."""

    number: int
    line: str
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()

    @property
    def first(self) -> int:
        """The number of the first line of context."""
        return self.number - len(self.before)

    @property
    def last(self) -> int:
        """The number of the last one."""
        return self.number + len(self.after)

    def lines(self) -> Iterator[tuple[int, str]]:
        """All its lines, with their numbers."""
        return enumerate((*self.before, self.line, *self.after), self.first)


class LineSearch:
    """Finds the lines that a pattern matches. ``plain`` is the text that it stands for, when it stands for one."""

    def __init__(self, pattern: re.Pattern[str], *, plain: str | None = None, context: int = 0) -> None:
        self._pattern = pattern
        self._plain = plain.encode("utf-8", "replace") if plain is not None else None
        self._context = context
        self._may_leap = _ALONE.search(pattern.pattern) is None

    def in_file(self, fd: int, after: int = 0) -> Iterator[Match]:
        """The matches in an open file after the line with that number; a binary one has none."""
        lines_before = 0
        for piece in _pieces(fd):
            if not lines_before and text.is_binary(piece):
                return
            yield from self._in_piece(piece, lines_before, after)
            lines_before += piece.count(b"\n")

    def _in_piece(self, data: bytes, lines_before: int, after: int) -> Iterator[Match]:
        if self._plain is not None and self._plain not in data:
            return
        content = data.decode("utf-8", "replace")
        if "\r" in content:
            content = content.replace("\r\n", "\n")
        found = self._by_leaps(content) if self._may_leap else self._line_by_line(content)
        lines: list[str] | None = None
        for number, line in found:
            if lines_before + number <= after:
                continue
            if not self._context:
                yield Match(lines_before + number, line)
                continue
            lines = lines if lines is not None else content.split("\n")
            before = lines[max(0, number - 1 - self._context) : number - 1]
            behind = lines[number : number + self._context]
            if behind and number + len(behind) == len(lines) and not lines[-1]:
                behind.pop()  # what follows the last end of line is no line
            yield Match(lines_before + number, line, tuple(before), tuple(behind))

    def _line_by_line(self, content: str) -> Iterator[tuple[int, str]]:
        for number, line in enumerate(content.removesuffix("\n").split("\n"), 1):
            if self._pattern.search(line):
                yield number, line

    def _by_leaps(self, content: str) -> Iterator[tuple[int, str]]:
        """Search the whole text, which is quick where nothing is found, and look at the line where something is."""
        number, counted, start = 1, 0, 0
        while start < len(content) and (hit := self._pattern.search(content, start)):
            begin = content.rfind("\n", 0, hit.start()) + 1
            end = content.find("\n", hit.start())
            end = end if end >= 0 else len(content)
            line = content[begin:end]
            if begin < len(content) and self._pattern.search(line):
                number += content.count("\n", counted, begin)
                counted = begin
                yield number, line
            start = end + 1


def _pieces(fd: int) -> Iterator[bytes]:
    """A file's content, cut between lines; most files are one small piece. Ends early where it cannot be read."""
    rest, size = b"", _FIRST_READ
    while True:
        try:
            data = os.read(fd, size)
        except OSError:
            return
        rest += data
        if len(data) < size:
            if rest:
                yield rest
            return
        size = PIECE
        if len(rest) >= PIECE and (end := rest.rfind(b"\n") + 1):
            yield rest[:end]
            rest = rest[end:]
