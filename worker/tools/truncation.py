"""Cutting output to what a model can be given: whole lines, and word of which limit cut it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cut:
    """What is left of a text, how many lines that are, and which limits have cut it."""

    text: str
    lines: int
    by_lines: bool = False
    by_bytes: bool = False


def size(text: str) -> int:
    """The length of a text in bytes."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def head(lines: Iterable[str], max_lines: int, max_bytes: int) -> Cut:
    """The first lines that fit, each with what ends it; of a first one that does not, the beginning.

    No more is taken from ``lines`` than one beyond what fits.
    """
    kept: list[str] = []
    room = max_bytes
    for line in lines:
        if len(kept) == max_lines:
            return Cut("".join(kept), len(kept), by_lines=True)
        room -= size(line)
        if room < 0:
            if not kept:
                return Cut(_first_bytes(line, max_bytes), 1, by_bytes=True)
            return Cut("".join(kept), len(kept), by_bytes=True)
        kept.append(line)
    return Cut("".join(kept), len(kept))


def tail(text: str, max_lines: int, max_bytes: int) -> Cut:
    """The last lines that fit; of a last one that does not, the end."""
    lines = list(split(text))
    kept: list[str] = []
    room = max_bytes
    for line in reversed(lines):
        if len(kept) == max_lines:
            return Cut("".join(reversed(kept)), len(kept), by_lines=True)
        room -= size(line)
        if room < 0:
            if not kept:
                return Cut(_last_bytes(line, max_bytes), 1, by_bytes=True)
            return Cut("".join(reversed(kept)), len(kept), by_bytes=True)
        kept.append(line)
    return Cut(text, len(kept))


def split(text: str) -> Iterator[str]:
    """The lines of a text, with the line feeds that end them; nothing else ends a line."""
    start = 0
    while (end := text.find("\n", start) + 1) > 0:
        yield text[start:end]
        start = end
    if start < len(text):
        yield text[start:]


def _first_bytes(text: str, most: int) -> str:
    return text.encode("utf-8", "replace")[:most].decode("utf-8", "ignore")


def _last_bytes(text: str, most: int) -> str:
    return text.encode("utf-8", "replace")[-most:].decode("utf-8", "ignore")
