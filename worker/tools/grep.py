"""The tool ``grep``."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from worker.tools import ignore, text
from worker.tools.base import Arguments, ErrorClass, Tier, Tool, ToolError, ToolResult, argument
from worker.tools.ls import unreadable
from worker.tools.pages import cursor_of, page, path_of
from worker.tools.patterns import glob, regex
from worker.tools.roots import Place, locate
from worker.tools.search import LineSearch, Match
from worker.tools.walk import Entry, Walk
from worker.tools.workplace import Workplace

LIMIT: Final = 100
#: Of a longer line only the beginning is shown, in characters.
LONGEST_LINE: Final = 500
MOST_CONTEXT: Final = 20
_OPEN: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class GrepArguments(Arguments):
    """Where to search, and for what."""

    pattern: str = argument("A Python regular expression, or plain text with literal=true. Matched line by line.")
    path: str = argument("A directory, or one file. Relative paths start at the workspace.", default=".")
    glob: str = argument("Only files like this, such as *.py or src/**/*.{c,h}", default="*")
    limit: int = argument("The most matches.", default=LIMIT, ge=1, le=LIMIT)
    context: int = argument("Lines to show before and after each match.", default=0, ge=0, le=MOST_CONTEXT)
    literal: bool = argument("Take the pattern as plain text.", default=False)
    ignore_case: bool = argument("Upper and lower case are the same.", default=False)
    cursor: str | None = argument("next_page_cursor of the page before.", default=None)


def run(arguments: GrepArguments, workplace: Workplace) -> ToolResult:
    """The lines that match, in all text files below a directory or in one file."""
    if not arguments.pattern:
        raise ToolError("bad_pattern", "pattern is empty and would match every line: use `read`", ErrorClass.VALIDATION)
    search = LineSearch(
        regex(arguments.pattern, literal=arguments.literal, ignore_case=arguments.ignore_case),
        plain=arguments.pattern if arguments.literal and not arguments.ignore_case else None,
        context=arguments.context,
    )
    line, _, path = path_of(arguments.cursor).partition(":")
    if arguments.cursor and not (line.isascii() and line.isdigit()):
        raise ToolError("bad_cursor", "cursor is none that grep gave", ErrorClass.VALIDATION)
    begin = (path, int(line or 0))
    with locate(workplace, arguments.path) as place:
        if place.fd is not None and not place.is_directory:
            return page(_in_file(search, place, begin[1]), arguments.limit, workplace)
        return _in_tree(search, place, arguments, begin, workplace)


def _in_file(search: LineSearch, place: Place, after: int) -> Iterator[tuple[str, str]]:
    with os.fdopen(place.file(), "rb", buffering=0) as file:
        yield from _shown(search.in_file(file.fileno(), after), place.name)


def _in_tree(
    search: LineSearch, place: Place, arguments: GrepArguments, begin: tuple[str, int], workplace: Workplace
) -> ToolResult:
    directory = place.directory()
    wanted = glob("glob", arguments.glob)
    walk = Walk(directory, place.path, ignored=ignore.above(place), after=begin[0], inclusive=True)

    def matches() -> Iterator[tuple[str, str]]:
        for entry in walk:
            if entry.is_file and (wanted is None or wanted.match(entry.path)):
                yield from _in_entry(search, entry, begin[1] if entry.path == begin[0] else 0)

    try:
        result = page(matches(), arguments.limit, workplace)
    finally:
        os.close(directory)
    return replace(result, meta={**result.meta, **unreadable(walk)})


def _in_entry(search: LineSearch, entry: Entry, after: int) -> Iterator[tuple[str, str]]:
    try:
        fd = os.open(entry.name, _OPEN, dir_fd=entry.directory)
    except OSError:  # it is gone, may not be read, or is no file any more
        return
    try:
        yield from _shown(search.in_file(fd, after), entry.path)
    finally:
        os.close(fd)


def _shown(matches: Iterable[Match], path: str) -> Iterator[tuple[str, str]]:
    """Each match with its lines of context, as ``grep -n`` shows them, but never a line twice."""
    shown_path = text.name(path)
    last = 0
    for match, following in _pairs(matches):
        lines = ["--"] if match.first > last + 1 and last and (match.before or match.after) else []
        end = following.number if following is not None else match.last + 1
        for number, line in match.lines():
            if last < number < end:
                sign = ":" if number == match.number else "-"
                lines.append(f"{shown_path}{sign}{number}{sign}{_short(text.shown(line))}")
        last = max(last, min(match.last, end - 1))
        yield cursor_of(f"{match.number}:{path}"), "\n".join(lines)


def _pairs(matches: Iterable[Match]) -> Iterator[tuple[Match, Match | None]]:
    """Each match with the one that follows it."""
    present: Match | None = None
    for following in matches:
        if present is not None:
            yield present, following
        present = following
    if present is not None:
        yield present, None


def _short(line: str) -> str:
    if len(line) <= LONGEST_LINE:
        return line
    return f"{line[:LONGEST_LINE]}… [{len(line) - LONGEST_LINE} more characters]"


TOOL = Tool(
    "grep",
    "Searches text files line by line; gives path:line:text, context lines with - instead of :. Leaves out binary "
    "files, .git and what .gitignore files leave out (unless `path` is in there). "
    f"At most {LIMIT} matches a page, {LONGEST_LINE} characters a line; go on with cursor.",
    GrepArguments,
    run,
    Tier.READ,
)
