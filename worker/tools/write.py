"""The tool ``write``."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from worker.tools.base import Arguments, Tier, Tool, ToolResult, argument
from worker.tools.replace import replace
from worker.tools.roots import Place, locate, shown, translated
from worker.tools.text import LOOKED_AT, Conventions
from worker.tools.workplace import Workplace

_PIECE: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class WriteArguments(Arguments):
    """What to write, and where."""

    path: str = argument("The file. Relative paths start at the workspace; missing directories are made.")
    content: str = argument("The text.")
    append: bool = argument("Put it at the end of what the file has, instead of in its place.", default=False)


def run(arguments: WriteArguments, workplace: Workplace) -> ToolResult:
    """A file with this content: in one step, in the way in which the file was written before."""
    with locate(workplace, arguments.path, make_parents=True) as place:
        if place.fd is None:
            size = replace(place, [Conventions().encode(arguments.content)])
            return _written(place, "created", size, Conventions(), workplace)
        with os.fdopen(place.file(), "rb") as old, translated(place.path):
            conventions = Conventions.of(old.read(LOOKED_AT))
            old.seek(0)
            if arguments.append:
                added = Conventions(line_end=conventions.line_end).encode(arguments.content)
                size = replace(place, _appended(old.fileno(), added))
            else:
                size = replace(place, [conventions.encode(arguments.content)])
        return _written(place, "appended to" if arguments.append else "replaced", size, conventions, workplace)


def _appended(old: int, added: bytes) -> Iterator[bytes]:
    while piece := os.read(old, _PIECE):
        yield piece
    yield added


def _written(place: Place, what: str, size: int, conventions: Conventions, workplace: Workplace) -> ToolResult:
    path = shown(workplace, place.path)
    meta = {"path": str(place.path), "bytes": size, **conventions.meta()}
    return ToolResult(ok=True, stdout=f"{what} {path}, {size} bytes", meta=meta)


TOOL = Tool(
    "write",
    "Writes a text file, all of it at once, or appends to it. A file that is replaced keeps its mode, and a byte order "
    "mark and CRLF line ends if it has them. To change a part of a file use `edit`.",
    WriteArguments,
    run,
    Tier.WRITE,
)
