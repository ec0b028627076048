"""Lists that may be long: a page of them, and the cursor that gets the next one."""

from collections.abc import Iterable, Iterator
from urllib.parse import quote, unquote

from worker.tools import truncation
from worker.tools.base import ToolResult
from worker.tools.workplace import Workplace


def page(entries: Iterable[tuple[str, str]], limit: int, workplace: Workplace) -> ToolResult:
    """As many entries as fit, each with the cursor that begins after it, and its text, of one line or more."""
    shown: list[str] = []

    def texts() -> Iterator[str]:
        for cursor, text in entries:
            shown.append(cursor)
            yield f"{text}\n"

    cut = truncation.head(texts(), min(limit, workplace.max_lines), workplace.max_bytes)
    more = cut.by_lines or cut.by_bytes
    return ToolResult(
        ok=True,
        stdout=cut.text,
        truncated_lines=cut.by_lines,
        truncated_bytes=cut.by_bytes,
        next_page_cursor=shown[cut.lines - 1] if more else None,
        meta={"shown": cut.lines, "more": "call again with cursor=next_page_cursor"} if more else {"shown": cut.lines},
    )


def cursor_of(path: str) -> str:
    """A cursor that stands for a path, whatever bytes that is made of."""
    return quote(path, errors="surrogateescape")


def path_of(cursor: str | None) -> str:
    """The path that a cursor stands for; none is the beginning."""
    return unquote(cursor, errors="surrogateescape") if cursor else ""
