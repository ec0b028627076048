"""Going through a tree of directories, in order, over open directories: no link is followed, and nothing leads out."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path

from worker.tools.ignore import Ignored
from worker.tools.roots import FORBIDDEN

_ALL = Path("/")
_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(slots=True)
class Entry:
    """Something in the tree: its path from where the walk began, and the open directory that it is in."""

    path: str
    directory: int
    is_directory: bool
    found: os.DirEntry[str]

    @property
    def name(self) -> str:
        """Its name in its directory."""
        return self.found.name

    @property
    def is_link(self) -> bool:
        """Whether it is a symbolic link."""
        return self.found.is_symlink()

    @property
    def is_file(self) -> bool:
        """Whether it is a regular file."""
        return self.found.is_file(follow_symlinks=False)


@dataclass(slots=True)
class _Level:
    """A directory that is being gone through. ``after`` is what is left of the place where to begin."""

    directory: int
    prefix: str
    ignored: Ignored | None
    after: list[str]
    entries: Iterator[os.DirEntry[str]]


@dataclass(slots=True)
class Walk:
    """Goes through everything below ``directory``, whose path is ``top``: a directory comes before what is in it.

    ``after`` is the path of the entry after which to begin, or with which, when ``inclusive``; what comes before is
    not even looked at. ``ignored`` says what is left out, None leaves nothing out; ``closed`` are names of directories
    that are not entered. ``unreadable`` counts the directories that could not be read.
    """

    directory: int
    top: Path
    ignored: Ignored | None = None
    max_depth: int | None = None
    after: str = ""
    inclusive: bool = False
    closed: frozenset[str] = frozenset()
    unreadable: int = field(default=0, init=False)

    def __iter__(self) -> Iterator[Entry]:
        """All entries. The directory of one is open until the next is asked for."""
        levels: list[_Level] = []
        try:
            self._enter(levels, os.dup(self.directory), "", self.ignored, self.after.split("/") if self.after else [])
            while levels:
                level = levels[-1]
                entry = next(level.entries, None)
                if entry is None:
                    os.close(levels.pop().directory)
                    continue
                first = level.after[0] if level.after else ""
                name = entry.name
                if name < first:
                    continue
                is_directory = entry.is_dir(follow_symlinks=False)
                if level.ignored is not None and level.ignored(name, is_directory):
                    continue
                path = level.prefix + name
                if name != first or (self.inclusive and len(level.after) == 1):
                    yield Entry(path, level.directory, is_directory, entry)
                if is_directory and (self.max_depth is None or len(levels) < self.max_depth):
                    self._descend(levels, name, path, level.after[1:] if name == first else [])
        finally:
            for level in levels:
                os.close(level.directory)

    def _descend(self, levels: list[_Level], name: str, path: str, after: list[str]) -> None:
        level = levels[-1]
        if name in self.closed or (self.top == _ALL and Path(_ALL, path) in FORBIDDEN):
            return
        try:
            directory = os.open(name, _OPEN, dir_fd=level.directory)
        except OSError:
            self.unreadable += 1
            return
        ignored = level.ignored.below(name) if level.ignored is not None else None
        self._enter(levels, directory, f"{path}/", ignored, after)

    def _enter(
        self, levels: list[_Level], directory: int, prefix: str, ignored: Ignored | None, after: list[str]
    ) -> None:
        """Read a directory, which the new level then owns."""
        level = _Level(directory, prefix, ignored, after, iter(()))
        levels.append(level)
        try:
            with os.scandir(directory) as scan:
                found = sorted(scan, key=attrgetter("name"))
        except OSError:
            self.unreadable += 1
            return
        if ignored is not None:
            level.ignored = ignored.entered(directory, [entry.name for entry in found])
        level.entries = iter(found)
