"""The way from a path to a file: step by step from an allowed root, over open directories, so that nothing leads out.

Each step opens one name in the directory that is already held, and never follows: what is opened was checked, and
what somebody puts in its place meanwhile is not reached. Symbolic links are read and walked by the same rules, so those
that stay inside the roots work and those that lead out are refused.
"""

import errno
import os
import stat
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from worker.tools.base import ErrorClass, ToolError
from worker.tools.workplace import Workplace

#: Not files, whatever the roots are: the kernel's faces, and devices.
FORBIDDEN: Final = (Path("/proc"), Path("/sys"), Path("/dev"))
_MOST_LINKS: Final = 40
_HOLD: Final = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_KINDS: Final = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


@dataclass(frozen=True, slots=True)
class Held:
    """A directory on the way, held open."""

    fd: int
    name: str


@dataclass(frozen=True, slots=True)
class Place:
    """What a path leads to, held open by ``fd``; None when nothing is there, in a directory that is.

    ``way`` are the directories from the root to the one that it is in, and ``path`` is free of links.
    """

    path: Path
    way: tuple[Held, ...]
    name: str
    fd: int | None
    mode: int

    @property
    def is_directory(self) -> bool:
        """Whether it is a directory."""
        return stat.S_ISDIR(self.mode)

    @property
    def parent(self) -> int:
        """The directory that it is in."""
        return self.way[-1].fd

    def directory(self) -> int:
        """A new descriptor of this directory, to list it. Raises ToolError when it is none."""
        self.must_exist()
        if not self.is_directory:
            raise ToolError("not_a_directory", f"{self.path} is a file, not a directory")
        with translated(self.path):
            # Always of the directory that is held, whatever stands at its path now.
            return os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self.fd)

    def file(self) -> int:
        """A new descriptor of this file, to read it. Raises ToolError when it is none."""
        self.must_be_file()
        with translated(self.path):
            return os.open(f"/proc/self/fd/{self.fd}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)

    def must_be_file(self) -> None:
        """Raises ToolError when it is not a regular file."""
        self.must_exist()
        if self.is_directory:
            raise ToolError("is_a_directory", f"{self.path} is a directory: `ls` shows what is in it")

    def must_exist(self) -> None:
        """Raises ToolError when nothing is there."""
        if self.fd is None:
            raise ToolError("not_found", f"{self.path} does not exist")


@contextmanager
def locate(workplace: Workplace, path: str, *, make_parents: bool = False) -> Iterator[Place]:
    """What a path leads to, as long as the context lasts. Raises ToolError, ``outside_root`` when it leads out."""
    with ExitStack() as held:
        yield _Walk(workplace, path, held, make_parents=make_parents).walk()


@contextmanager
def translated(path: object) -> Iterator[None]:
    """The system's errors as the tool's."""
    try:
        yield
    except PermissionError as error:
        raise ToolError("permission_denied", f"{path}: permission denied") from error
    except FileNotFoundError as error:
        raise ToolError("not_found", f"{path} does not exist") from error
    except OSError as error:
        code = errno.errorcode.get(error.errno or 0, "os_error").lower()
        raise ToolError(code, f"{path}: {error.strerror}") from error


class _Walk:
    """One walk. ``held`` closes what was opened on the way."""

    def __init__(self, workplace: Workplace, path: str, held: ExitStack, *, make_parents: bool) -> None:
        if not path or "\0" in path:
            raise ToolError("bad_path", "path is empty or has a zero byte", ErrorClass.VALIDATION)
        self._workplace = workplace
        self._asked = path
        self._held = held
        self._make_parents = make_parents
        self._root = Path()
        self._way: list[Held] = []
        self._steps: deque[str] = deque()
        self._links = 0

    def walk(self) -> Place:
        with translated(self._asked):
            self._start(self._workplace.workspace / self._asked)
            while self._steps:
                name = self._steps.popleft()
                if name == "..":
                    if len(self._way) == 1:
                        raise self._outside()
                    self._way.pop()
                    continue
                place = self._step(name)
                if place is not None:
                    return place
            return self._arrived(self._way[-1].fd, self._way[-1].name, stat.S_IFDIR)

    def _start(self, path: Path) -> None:
        """Begin at the root that a path is below; the innermost, when there are several."""
        for root in sorted(self._workplace.roots, key=lambda root: -len(root.parts)):
            real = Path(os.path.realpath(root))
            below = next((path.parts[len(top.parts) :] for top in (root, real) if _is_below(path, top)), None)
            if below is None:
                continue
            self._root = real
            try:
                fd = self._hold(os.open(real, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
            except FileNotFoundError:
                raise ToolError("not_found", f"the root {root} does not exist") from None
            self._way = [Held(fd, "")]
            if any(real.is_relative_to(top) for top in FORBIDDEN):
                raise self._outside()
            self._steps.extendleft(reversed([part for part in below if part != "."]))
            return
        raise self._outside()

    def _step(self, name: str) -> Place | None:
        """Go one name further; gives the place when that is what was asked for."""
        here = self._way[-1].fd
        try:
            fd = self._hold(os.open(name, _HOLD, dir_fd=here))
        except FileNotFoundError:
            if not self._steps:
                return self._arrived(None, name, 0)
            if not self._make_parents:
                raise
            with suppress(FileExistsError):
                os.mkdir(name, dir_fd=here)
            fd = self._hold(os.open(name, _HOLD, dir_fd=here))
        mode = os.fstat(fd).st_mode
        if stat.S_ISLNK(mode):
            self._follow(os.readlink("", dir_fd=fd))
            return None
        if stat.S_ISDIR(mode):
            self._way.append(Held(fd, name))
            if self._path("") in FORBIDDEN:
                raise self._outside()
            return None
        if self._steps:
            raise ToolError("not_a_directory", f"{self._path(name)} is not a directory")
        return self._arrived(fd, name, mode)

    def _follow(self, target: str) -> None:
        self._links += 1
        if self._links > _MOST_LINKS:
            raise ToolError("eloop", f"{self._asked}: too many symbolic links")
        if target.startswith("/"):
            self._start(Path(target))
        else:
            self._steps.extendleft(reversed([part for part in target.split("/") if part not in ("", ".")]))

    def _arrived(self, fd: int | None, name: str, mode: int) -> Place:
        is_directory = stat.S_ISDIR(mode)
        path = self._path("" if is_directory else name)
        if kind := _KINDS.get(stat.S_IFMT(mode)):
            raise ToolError("outside_root", f"{path} is {kind}: only files and directories are", ErrorClass.POLICY)
        way = self._way[:-1] if is_directory and len(self._way) > 1 else self._way
        return Place(path, tuple(way), name, fd, mode)

    def _path(self, name: str) -> Path:
        return self._root.joinpath(*(held.name for held in self._way[1:]), name)

    def _hold(self, fd: int) -> int:
        self._held.callback(os.close, fd)
        return fd

    def _outside(self) -> ToolError:
        roots = ", ".join(map(str, self._workplace.roots))
        reason = f"{self._asked} leads out of what may be reached: everything below {roots}, without `..` out of it"
        return ToolError("outside_root", reason, ErrorClass.POLICY)


def _is_below(path: Path, root: Path) -> bool:
    return path.parts[: len(root.parts)] == root.parts


def shown(workplace: Workplace, path: Path) -> str:
    """A path as the model is told it, and may give it: relative to the workspace when it is in there."""
    for top in (workplace.workspace, Path(os.path.realpath(workplace.workspace))):
        if _is_below(path, top):
            return str(path.relative_to(top))
    return str(path)
