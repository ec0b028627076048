"""Patterns for names and paths, as in a shell and as in ``.gitignore``, turned into regular expressions."""

import re


def expression(pattern: str, *, braces: bool = False) -> str:
    """What matches a whole path: ``*``, ``?`` and ``[…]`` stay between slashes, ``**`` spans them.

    ``braces`` allows ``{a,b}``. Raises re.error when a bracket is not closed.
    """
    out: list[str] = []
    at, depth = 0, 0
    while at < len(pattern):
        char = pattern[at]
        if pattern.startswith("**", at) and _alone(pattern, at):
            at, piece = _stars(pattern, at)
        elif char == "*":
            at, piece = at + 1, "[^/]*"
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


def _alone(pattern: str, at: int) -> bool:
    """Whether these two stars are all that is between slashes."""
    return (at == 0 or pattern[at - 1] == "/") and (at + 2 == len(pattern) or pattern[at + 2] == "/")


def _stars(pattern: str, at: int) -> tuple[int, str]:
    """Any directories, none too; at the end, anything that is inside."""
    if at + 2 == len(pattern):
        return at + 2, ".+" if at else ".*"
    return at + 3, "(?:.*/)?"


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
