"""The tool ``find``."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from worker.tools import ignore
from worker.tools.base import Arguments, Tier, Tool, ToolResult, argument
from worker.tools.ls import marked, unreadable
from worker.tools.pages import cursor_of, page, path_of
from worker.tools.patterns import glob
from worker.tools.roots import locate
from worker.tools.walk import Walk
from worker.tools.workplace import Workplace

LIMIT: Final = 1000


@dataclass(frozen=True, slots=True)
class FindArguments(Arguments):
    """Where to look, and for what."""

    path: str = argument("The directory to look in. Relative paths start at the workspace.", default=".")
    name_pattern: str = argument(
        "A glob such as *.py or test_*.{js,ts}; with a slash it is for the whole path below `path`: src/**/*.py",
        default="*",
    )
    max_depth: int | None = argument("How many levels deep; 1 is the directory itself.", default=None, ge=1)
    limit: int = argument("The most results.", default=LIMIT, ge=1, le=LIMIT)
    cursor: str | None = argument("next_page_cursor of the page before.", default=None)


def run(arguments: FindArguments, workplace: Workplace) -> ToolResult:
    """The paths that match, below a directory; what .gitignore files leave out is left out."""
    wanted = glob("name_pattern", arguments.name_pattern)
    with locate(workplace, arguments.path) as place:
        directory = place.directory()
        try:
            walk = Walk(
                directory,
                place.path,
                ignored=ignore.above(place),
                max_depth=arguments.max_depth,
                after=path_of(arguments.cursor),
            )

            def lines() -> Iterator[tuple[str, str]]:
                for entry in walk:
                    if wanted is None or wanted.match(entry.path):
                        yield cursor_of(entry.path), marked(entry)

            result = page(lines(), arguments.limit, workplace)
        finally:
            os.close(directory)
    return replace(result, meta={**result.meta, **unreadable(walk)})


TOOL = Tool(
    "find",
    "Finds files and directories by name below a directory; paths are relative to it, directories end with /. "
    "Leaves out .git and what .gitignore files leave out (unless `path` is in there). "
    f"At most {LIMIT} results a page; go on with cursor.",
    FindArguments,
    run,
    Tier.READ,
)
