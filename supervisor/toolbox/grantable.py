"""Which directories of the host may be opened to the tools at all, whoever asks."""

import math
import os
import re
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from supervisor.ledger import Access

LONGEST_HOURS: Final = 24.0

#: The system's own, and what a container has at the same place: neither is opened, nor anything in it.
_CLOSED: Final = tuple(
    map(
        Path,
        (
            *("/bin", "/boot", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/libx32", "/proc", "/run", "/sbin", "/sys"),
            *("/usr", "/var/cache", "/var/lib", "/var/lock", "/var/log", "/var/run", "/var/spool"),
            *("/app", "/config", "/state", "/workspace"),
        ),
    )
)
_ODD: Final = re.compile(r"[\x00-\x1f\x7f]")


class NotGrantable(Exception):
    """It is not opened; ``code`` is one word, the message one line for the owner."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code


@dataclass(frozen=True, slots=True)
class Walls:
    """``roots`` are what the owner allows to be granted; ``private`` are directories of ours, ``home`` the user's."""

    roots: tuple[Path, ...]
    private: tuple[Path, ...]
    home: Path

    def check(self, path: str, mode: str, hours: float) -> tuple[Path, Access]:
        """The directory to be opened, and how. Raises NotGrantable."""
        if mode not in tuple(Access):
            raise NotGrantable("bad_mode", f"{mode!r} cannot be granted: ro (read only) and rw (read and write) can")
        if not math.isfinite(hours) or not 0 < hours <= LONGEST_HOURS:
            raise NotGrantable("bad_time", f"{hours:g} hours cannot be granted: more than 0 and at most 24 can")
        directory = _directory(path)
        if not self.roots:
            raise NotGrantable("not_grantable", "nothing can be granted: AUTONOUS_GRANTABLE_ROOTS is not set")
        if not any(directory.is_relative_to(root) for root in self.roots):
            raise NotGrantable("not_grantable", f"{path} is not under AUTONOUS_GRANTABLE_ROOTS ({_listed(self.roots)})")
        if closed := self._closed_by(directory):
            raise NotGrantable("not_grantable", f"{path} is never granted: {closed}")
        return directory, Access(mode)

    def _closed_by(self, directory: Path) -> str:
        """Why this is never opened, empty when it may be."""
        for closed in _CLOSED:
            if directory.is_relative_to(closed) or closed.is_relative_to(directory):
                return f"{closed} is the system's"
        # As they are now, like the directory itself: a way that leads through symlinks is no wall.
        home = self.home.resolve()
        if home.is_relative_to(directory):
            return "it is a home directory, or around one"
        if directory.is_relative_to(home) and directory.relative_to(home).parts[0].startswith("."):
            return "hidden directories of the home hold keys and settings"
        for own in {path.resolve() for path in self.private}:
            if directory.is_relative_to(own) or own.is_relative_to(directory):
                return "autonous itself lives there"
        if directory in (Path("/"), Path("/home"), Path("/tmp"), Path("/var")):  # noqa: S108 - to be refused
            return "it is a directory of the system"
        return ""


def _directory(path: str) -> Path:
    """The directory that this names, when nothing on the way is a symlink or a step back."""
    if _ODD.search(path) or not path.startswith("/") or len(path) > 1024:  # noqa: PLR2004 - no sane path is longer
        raise NotGrantable("bad_path", f"{path[:200]!r} cannot be granted: only an absolute path can")
    if ".." in Path(path).parts:
        raise NotGrantable("bad_path", f"{path} cannot be granted: it has a .. in it")
    plain = os.path.normpath("/" + path.lstrip("/"))
    try:
        real = os.path.realpath(plain, strict=True)
        mode = os.lstat(real).st_mode
    except OSError as error:
        raise NotGrantable("bad_path", f"{path} cannot be granted: {error.strerror}") from None
    if real != plain:
        raise NotGrantable("symlink", f"{path} leads through a symlink to {real}; grant that instead, if you mean it")
    if not stat.S_ISDIR(mode):
        raise NotGrantable("not_a_directory", f"{path} cannot be granted: it is no directory")
    return Path(real)


def place(directory: Path) -> str:
    """What tells this directory from another one that may take its place."""
    seen = os.lstat(directory)
    return f"{seen.st_dev}:{seen.st_ino}"


def still_there(path: str, known: str) -> bool:
    """Whether the same directory is at the path, with no symlink on the way."""
    try:
        return os.path.realpath(path, strict=True) == path and place(Path(path)) == known
    except OSError:
        return False


def overlapping(directory: Path, others: Iterable[str]) -> str | None:
    """One of the others that is inside of this directory, around it, or the same."""
    return next((o for o in others if directory.is_relative_to(o) or Path(o).is_relative_to(directory)), None)


def _listed(roots: Iterable[Path]) -> str:
    return ", ".join(map(str, roots))
