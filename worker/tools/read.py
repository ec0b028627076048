"""The tool ``read``."""

import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from worker.tools import text, truncation
from worker.tools.base import Arguments, ErrorClass, Tier, Tool, ToolError, ToolResult, argument
from worker.tools.roots import Place, locate
from worker.tools.workplace import Workplace

LIMIT: Final = 2000
#: A line is never held in memory beyond this many bytes more than may be shown of it.
_SPARE: Final = 4
_CHUNK: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class ReadArguments(Arguments):
    """Which lines of which file."""

    path: str = argument("A text file. Relative paths start at the workspace.")
    offset: int = argument("How many lines to skip, from 0.", default=0, ge=0)
    limit: int = argument("The most lines.", default=LIMIT, ge=1, le=LIMIT)
    cursor: str | None = argument("next_page_cursor of the page before, in place of offset.", default=None)


def run(arguments: ReadArguments, workplace: Workplace) -> ToolResult:
    """Lines of a text file, whole ones."""
    offset = _offset(arguments)
    with locate(workplace, arguments.path) as place, os.fdopen(place.file(), "rb") as file:
        beginning = file.read(text.LOOKED_AT)
        if text.is_binary(beginning):
            size = os.fstat(file.fileno()).st_size
            raise ToolError("binary", f"{place.path} is no text ({size} bytes): look at it with bash, by file or xxd")
        file.seek(0)
        skipped = _skip(file, offset)
        if skipped < offset or (offset and not file.peek(1)):
            reason = f"offset={offset} is past the end: {place.path} has {skipped} lines"
            raise ToolError("past_the_end", reason, ErrorClass.VALIDATION)
        return _page(file, place, beginning, arguments, offset, workplace)


def _offset(arguments: ReadArguments) -> int:
    if arguments.cursor is None:
        return arguments.offset
    if not (arguments.cursor.isascii() and arguments.cursor.isdigit()):
        raise ToolError("bad_cursor", "cursor is none that read gave", ErrorClass.VALIDATION)
    return int(arguments.cursor)


def _page(
    file: io.BufferedReader, place: Place, beginning: bytes, arguments: ReadArguments, offset: int, workplace: Workplace
) -> ToolResult:
    replaced = False

    def lines() -> Iterator[str]:
        nonlocal replaced
        most = workplace.max_bytes + _SPARE
        while data := file.readline(most):
            line = data.decode("utf-8", "replace").replace("\r\n", "\n")
            replaced = replaced or "\ufffd" in line
            yield text.shown(line.removeprefix("\ufeff") if file.tell() == len(data) else line)

    cut = truncation.head(lines(), min(arguments.limit, workplace.max_lines), workplace.max_bytes)
    meta: dict[str, object] = {"path": str(place.path), "lines": cut.lines, **text.Conventions.of(beginning).meta()}
    if replaced:
        meta["encoding"] = "not all of it is UTF-8: \N{REPLACEMENT CHARACTER} stands for bytes that are not"
    more = cut.by_lines or cut.by_bytes
    if more:
        meta["more"] = f"go on with offset={offset + cut.lines}"
    if cut.by_bytes and cut.lines == 1 and not cut.text.endswith("\n"):
        meta["cut_line"] = f"line {offset + 1} is longer than {workplace.max_bytes} bytes: see the rest of it with bash"
    return ToolResult(
        ok=True,
        stdout=cut.text,
        truncated_lines=cut.by_lines,
        truncated_bytes=cut.by_bytes,
        next_page_cursor=str(offset + cut.lines) if more else None,
        meta=meta,
    )


def _skip(file: io.BufferedReader, lines: int) -> int:
    """Skip so many lines, however long they are; gives how many there were."""
    skipped = 0
    while skipped < lines:
        line = file.readline(_CHUNK)
        if not line:
            break
        while not line.endswith(b"\n") and (line := file.readline(_CHUNK)):
            pass
        skipped += 1
    return skipped


TOOL = Tool(
    "read",
    f"Reads a text file: at most {LIMIT} lines, and 50 KiB, in whole lines. Go on with offset (lines to skip, from 0).",
    ReadArguments,
    run,
    Tier.READ,
)
