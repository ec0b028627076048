"""The tool ``edit``."""

import os
import re
from dataclasses import dataclass
from typing import Final

from worker.tools import changes, text, truncation
from worker.tools.base import Arguments, ErrorClass, Tier, Tool, ToolError, ToolResult, argument
from worker.tools.replace import replace
from worker.tools.roots import locate, shown, translated
from worker.tools.workplace import Workplace

#: A file that is larger, in bytes, is not edited: it is held in memory.
LARGEST: Final = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class EditArguments(Arguments):
    """What to put in place of what."""

    path: str = argument("The file. Relative paths start at the workspace.")
    old_text: str = argument("The text to replace, exactly as in the file, and often enough around it to be unique.")
    new_text: str = argument("The text to put in its place; empty deletes it.")
    all: bool = argument("Replace every occurrence.", default=False)


def run(arguments: EditArguments, workplace: Workplace) -> ToolResult:
    """The file with one text replaced; every other line stays as it is, byte for byte."""
    if not arguments.old_text:
        raise ToolError("bad_arguments", "old_text is empty: a new file is made by `write`", ErrorClass.VALIDATION)
    with locate(workplace, arguments.path) as place:
        with os.fdopen(place.file(), "rb") as file, translated(place.path):
            data = file.read(LARGEST + 1)
        if len(data) > LARGEST or text.is_binary(data):
            what = "larger than 32 MiB" if len(data) > LARGEST else "no text"
            raise ToolError("not_editable", f"{place.path} is {what}: change it with bash")
        content = data.decode("utf-8", "surrogateescape")
        found = _occurrences(content, arguments, place.path.name)
        made = changes.replaced(content, found, _normal(arguments.new_text))
        if made == content:
            raise ToolError(
                "no_change", "old_text and new_text are the same here: nothing to do", ErrorClass.VALIDATION
            )
        replace(place, [made.encode("utf-8", "surrogateescape")])
        path = shown(workplace, place.path)
        diff = changes.diff(content, found, _normal(arguments.new_text), path)
        meta = {"path": str(place.path), "replaced": len(found), **text.Conventions.of(data).meta()}
    cut = truncation.head(map(text.shown, diff), workplace.max_lines, workplace.max_bytes)
    return ToolResult(ok=True, stdout=cut.text, truncated_lines=cut.by_lines, truncated_bytes=cut.by_bytes, meta=meta)


def _normal(given: str) -> str:
    return given.replace("\r\n", "\n")


def _occurrences(content: str, arguments: EditArguments, name: str) -> list[tuple[int, int]]:
    """Where the old text is, as ranges of characters. An end of line matches either kind."""
    old = _normal(arguments.old_text)
    pattern = re.compile("\r?\n".join(map(re.escape, old.split("\n"))))
    found = [match.span() for match in pattern.finditer(content)]
    if not found:
        raise ToolError("no_match", f"old_text is not in {name}{_hint(content, old)}", ErrorClass.VALIDATION)
    first = found[0]
    if arguments.all:
        return found
    again = pattern.search(content, first[0] + 1)  # may overlap with the first
    if again is not None:
        lines = ", ".join(str(content.count("\n", 0, start) + 1) for start in (first[0], again.start()))
        reason = (
            f"old_text is in {name} more than once (lines {lines}, ...): give more of what is around it, or all=true"
        )
        raise ToolError("not_unique", reason, ErrorClass.VALIDATION)
    return [first]


def _hint(content: str, old: str) -> str:
    """Where the text would be, were it not for white space; what the model sees it must give."""
    wanted = old.split()
    if not wanted:
        return ""
    close = re.search(r"\s+".join(map(re.escape, wanted)), content)
    if close is None:
        return ": read the file again"
    return f": but on line {content.count(chr(10), 0, close.start()) + 1} with other white space"


TOOL = Tool(
    "edit",
    "Replaces a text in a file by another one, and shows the diff. The text must be there exactly once (or all=true). "
    "Line ends, a byte order mark, the mode and all other lines stay as they are.",
    EditArguments,
    run,
    Tier.WRITE,
)
