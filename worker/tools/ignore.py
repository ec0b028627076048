"""What ``.gitignore`` files leave out: as git reads them, nested ones too. A user's own excludes do not count."""

import os
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final

from worker.tools import globs
from worker.tools.roots import Place

FILE_NAME: Final = ".gitignore"
REPOSITORY: Final = ".git"
_LARGEST: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class _Rule:
    """``matches`` is for names, or, when ``anchored``, for paths from where its file is."""

    matches: re.Pattern[str]
    ignores: bool
    directories_only: bool
    anchored: bool


@dataclass(frozen=True, slots=True)
class _Rules:
    """One file's rules, the last first, and what is between that file's directory and the present one.

    ``names`` and ``paths`` match whatever any of the rules does: most entries are none of theirs.
    """

    rules: tuple[_Rule, ...]
    names: re.Pattern[str] | None
    paths: re.Pattern[str] | None
    prefix: str = ""

    def verdict(self, name: str, is_directory: bool) -> bool | None:
        """Whether this file ignores an entry; None when it says nothing of it."""
        path = self.prefix + name
        if (self.names and self.names.match(name)) or (self.paths and self.paths.match(path)):
            for rule in self.rules:
                applies = is_directory or not rule.directories_only
                if applies and rule.matches.match(path if rule.anchored else name):
                    return rule.ignores
        return None


@dataclass(frozen=True, slots=True)
class Ignored:
    """The rules that hold in one directory, those of the innermost file first."""

    files: tuple[_Rules, ...] = ()

    def __call__(self, name: str, is_directory: bool) -> bool:
        """Whether an entry of this directory is left out."""
        if name == REPOSITORY:
            return True
        for rules in self.files:
            verdict = rules.verdict(name, is_directory)
            if verdict is not None:
                return verdict
        return False

    def below(self, name: str) -> "Ignored":
        """The same rules, one directory further in."""
        return Ignored(tuple(replace(rules, prefix=f"{rules.prefix}{name}/") for rules in self.files))

    def entered(self, directory: int, names: Sequence[str]) -> "Ignored":
        """With what the directory itself has: rules of its own; a repository's begin here."""
        outer = () if REPOSITORY in names else self.files
        own = _read(directory) if FILE_NAME in names else None
        return Ignored((own, *outer)) if own else Ignored(outer)


def above(place: Place) -> Ignored:
    """The rules that hold in a directory by the files above it, below its root."""
    ignored = Ignored()
    names = [held.name for held in place.way[1:]] + [place.name]
    for held, inner in zip(place.way, names, strict=True):
        if held.fd != place.fd:  # the root itself has nothing above it
            present = [name for name in (REPOSITORY, FILE_NAME) if _has(held.fd, name)]
            ignored = ignored.entered(held.fd, present).below(inner)
    return ignored


def _has(directory: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=directory, follow_symlinks=False)
    except OSError:
        return False
    return True


def _read(directory: int) -> _Rules | None:
    try:
        fd = os.open(FILE_NAME, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    except OSError:
        return None
    with os.fdopen(fd, "rb") as file, suppress(OSError):
        return parse(file.read(_LARGEST).decode("utf-8", "surrogateescape"))
    return None


def parse(text: str) -> _Rules | None:
    """The rules of a file, None when there are none. A line that is no pattern matches nothing, as in git."""
    found = [rule for line in text.removeprefix("\ufeff").split("\n") if (rule := _rule(line)) is not None]
    if not found:
        return None
    names, paths = (
        _any_of([rule.matches.pattern for rule in found if rule.anchored is anchored]) for anchored in (False, True)
    )
    return _Rules(tuple(reversed(found)), names, paths)


def _any_of(patterns: Sequence[str]) -> re.Pattern[str] | None:
    return re.compile("|".join(f"(?:{pattern})" for pattern in patterns), re.DOTALL) if patterns else None


def _rule(line: str) -> _Rule | None:
    pattern = line.removesuffix("\r")
    while pattern.endswith(" ") and not pattern.endswith("\\ "):
        pattern = pattern[:-1]
    if not pattern or pattern.startswith("#"):
        return None
    ignores = not pattern.startswith("!")
    pattern = pattern if ignores else pattern[1:]
    directories_only = pattern.endswith("/")
    pattern = pattern.removesuffix("/")
    anchored = "/" in pattern
    try:
        matches = re.compile(rf"{globs.expression(pattern.removeprefix('/'))}\Z", re.DOTALL)
    except re.error:
        return None
    return _Rule(matches, ignores, directories_only, anchored) if pattern else None
