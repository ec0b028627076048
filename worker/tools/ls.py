"""The tool ``ls``."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from worker.tools import text
from worker.tools.base import Arguments, Tier, Tool, ToolResult, argument
from worker.tools.ignore import REPOSITORY
from worker.tools.pages import cursor_of, page, path_of
from worker.tools.roots import locate
from worker.tools.walk import Entry, Walk
from worker.tools.workplace import Workplace

LIMIT: Final = 500


@dataclass(frozen=True, slots=True)
class LsArguments(Arguments):
    """What to list."""

    path: str = argument("A directory. Relative paths start at the workspace.", default=".")
    recursive: bool = argument("Also what is in its directories, but not in .git.", default=False)
    limit: int = argument("The most entries.", default=LIMIT, ge=1, le=LIMIT)
    cursor: str | None = argument("next_page_cursor of the page before.", default=None)


def run(arguments: LsArguments, workplace: Workplace) -> ToolResult:
    """What is in a directory, hidden files too."""
    with locate(workplace, arguments.path) as place:
        directory = place.directory()
        try:
            walk = Walk(
                directory,
                place.path,
                max_depth=None if arguments.recursive else 1,
                after=path_of(arguments.cursor),
                closed=frozenset({REPOSITORY}),
            )
            result = page(_lines(walk), arguments.limit, workplace)
        finally:
            os.close(directory)
    return replace(result, meta={**result.meta, **unreadable(walk)})


def unreadable(walk: Walk) -> dict[str, object]:
    """Word of the directories that could not be read, if any."""
    return {"unreadable_directories": walk.unreadable} if walk.unreadable else {}


def marked(entry: Entry) -> str:
    """An entry's path, with a sign of what it is when it is no file."""
    return text.name(entry.path) + ("/" if entry.is_directory else "@" if entry.is_link else "")


def _lines(walk: Walk) -> Iterator[tuple[str, str]]:
    for entry in walk:
        yield cursor_of(entry.path), marked(entry)


TOOL = Tool(
    "ls",
    "Lists a directory, hidden files too, in order of names. Directories end with /, symbolic links with @. "
    f"At most {LIMIT} entries a page; go on with cursor.",
    LsArguments,
    run,
    Tier.READ,
)
