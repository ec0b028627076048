"""Long texts in pieces."""

import re
from typing import Final

from worker.commander.markup import FENCE, closes

#: A code block's first line is repeated in every piece that goes on with it, as long as it is no longer than this.
_LONGEST_OPENING: Final = 64


def utf16_units(text: str) -> int:
    """The length as Telegram counts it."""
    return len(text) + sum(character > "\uffff" for character in text)


def split(text: str, limit: int) -> list[str]:
    """Pieces of at most ``limit`` UTF-16 units that make up the text when put together again.

    A piece ends after the last line break that fits, else after the last space, else anywhere.
    """
    pieces = []
    while utf16_units(text) > limit:
        piece = text[: _cut(text, limit)]
        pieces.append(piece)
        text = text[len(piece) :]
    return [*pieces, text] if text else pieces


def split_markdown(text: str, limit: int) -> list[str]:
    """The same for Markdown: a code block that is cut ends in one piece and begins again in the next one."""
    pieces = []
    while utf16_units(text) > limit:
        # Never so early that nothing but the repeated first line of a block would fit.
        piece = text[: _cut(text, limit - _LONGEST_OPENING - 1, least=2 * _LONGEST_OPENING)]
        rest = text[len(piece) :]
        if opening := _open_fence(piece):
            found = FENCE.match(opening)
            closing = found["indent"] + found["marks"] if found else ""
            piece += closing if piece.endswith("\n") else f"\n{closing}"
            rest = f"{opening}\n{rest}"
        pieces.append(piece)
        text = rest
    return [*pieces, text] if text else pieces


def _cut(text: str, limit: int, *, least: int = 0) -> int:
    """Where the first piece ends: after more than ``least`` characters."""
    end = _fitting(text, limit)
    for separator in ("\n", " "):
        if (cut := text.rfind(separator, 0, end) + 1) > least:
            return cut
    return end


def _open_fence(text: str) -> str:
    """The first line of the code block that the text leaves open, empty when it leaves none."""
    opening: re.Match[str] | None = None
    for line in text.split("\n"):
        fence = FENCE.match(line)
        if opening is None:
            opening = fence
        elif closes(fence, opening):
            opening = None
    if opening is None:
        return ""
    line = opening[0].rstrip()
    return line if len(line) <= _LONGEST_OPENING else opening["marks"]


def _fitting(text: str, limit: int) -> int:
    """How many characters fit into ``limit`` units."""
    units = 0
    for index, character in enumerate(text):
        units += 2 if character > "\uffff" else 1
        if units > limit:
            return index
    return len(text)
