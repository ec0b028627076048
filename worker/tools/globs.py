"""Patterns for names and paths, as in a shell and as in ``.gitignore``, turned into regular expressions."""

import re
from typing import Final

_SPECIAL: Final = frozenset("*?[\\")


def expression(pattern: str, *, braces: bool = False) -> str:
    """What matches a whole path: ``*``, ``?`` and ``[…]`` stay between slashes, ``**`` spans them.

    ``braces`` allows ``{a,b}``. Raises re.error when a bracket is not closed.
    """
    out: list[str] = []
    at, depth = 0, 0
    while at < len(pattern):
        char = pattern[at]
        if char == "*":
            at, piece = _stars(pattern, at)
        elif char == "?":
            at, piece = at + 1, "[^/]"
        elif char == "[":
            at, piece = _bracket(pattern, at)
        elif char == "\\" and at + 1 < len(pattern):
            at, piece = at + 2, re.escape(pattern[at + 1])
        elif braces and char == "{" and "}" in pattern[at:]:
            at, piece, depth = at + 1, "(?:", depth + 1
        elif depth and char in ",}":
            at, piece, depth = at + 1, "|" if char == "," else ")", depth - (char == "}")
        else:
            at, piece = at + 1, re.escape(char)
        out.append(piece)
    return "".join(out) + ")" * depth


def matcher(pattern: str) -> re.Pattern[str]:
    """What matches paths: a pattern without a slash any name, else the path from the start. Raises re.error."""
    anywhere = "" if "/" in pattern.rstrip("/") else "(?:.*/)?"
    return re.compile(rf"{anywhere}{expression(pattern.strip('/'), braces=True)}\Z", re.DOTALL)


def _stars(pattern: str, at: int) -> tuple[int, str]:
    """One star, or more that do not stand alone between slashes: within a name. Else: any directories, none too.

    After a beginning that is plain text, ``**`` stands alone for git, which compares that by itself: a**/b matches ab.
    """
    end = at
    while pattern[end : end + 1] == "*":
        end += 1
    begins = pattern[at - 1 : at] == "/" or not _SPECIAL.intersection(pattern[:at])
    alone = begins and pattern[end : end + 1] in ("", "/")
    if end - at == 1 or not alone:
        return end, "[^/]*"
    if end == len(pattern):
        return end, ".*"
    return end + 1, "(?:.*/)?"


def _bracket(pattern: str, at: int) -> tuple[int, str]:
    start = at + 1
    negated = pattern[start : start + 1] in ("!", "^")
    start += negated
    end = start + 1 if pattern[start : start + 1] == "]" else start  # a bracket that comes first is one of the set
    inside: list[str] = []
    if end > start:
        inside.append(r"\]")
    while end < len(pattern) and pattern[end] != "]":
        if pattern.startswith("[:", end) and (close := pattern.find(":]", end)) > 0:
            inside.append(_CLASSES.get(pattern[end + 2 : close], ""))
            end = close + 2
            continue
        if pattern[end] == "\\" and end + 1 < len(pattern):
            end += 1
            inside.append(re.escape(pattern[end]))
        else:
            inside.append(pattern[end] if pattern[end] == "-" else re.escape(pattern[end]))
        end += 1
    if end >= len(pattern):
        raise re.error(f"[ without ] in {pattern!r}")
    return end + 1, f"(?!/)[{'^' if negated else ''}{''.join(inside)}]"


_CLASSES = {
    "alpha": "a-zA-Z",
    "digit": "0-9",
    "alnum": "a-zA-Z0-9",
    "upper": "A-Z",
    "lower": "a-z",
    "space": r"\s",
    "xdigit": "0-9a-fA-F",
    "punct": r"!-/:-@\[-`{-~",
}
