"""Putting a file's new content in place in one step: who reads it sees the old or the new, also after a power cut."""

import os
import secrets
import stat
from collections.abc import Iterable
from contextlib import suppress

from worker.tools.base import ToolError
from worker.tools.roots import Place, translated

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def replace(place: Place, content: Iterable[bytes | memoryview]) -> int:
    """Write a file anew, with the mode it had; gives its size in bytes. Raises ToolError, and then nothing changed."""
    if place.fd is not None:
        place.must_be_file()
        if not os.access(f"/proc/self/fd/{place.fd}", os.W_OK, effective_ids=True):
            raise ToolError("permission_denied", f"{place.path} is read-only")
    temporary = f".{secrets.token_hex(8)}.tmp"
    with translated(place.path):
        fd = os.open(temporary, _NEW, 0o666, dir_fd=place.parent)
        try:
            try:
                written = sum(_write(fd, piece) for piece in content)
                if place.fd is not None:
                    _dress_as(fd, place.fd)
                os.fsync(fd)
            finally:
                os.close(fd)
            os.rename(temporary, place.name, src_dir_fd=place.parent, dst_dir_fd=place.parent)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary, dir_fd=place.parent)
            raise
        _sync_directory(place.parent)
    return written


def _write(fd: int, piece: bytes | memoryview) -> int:
    left = memoryview(piece)
    while left:
        left = left[os.write(fd, left) :]
    return len(piece)


def _dress_as(fd: int, other: int) -> None:
    """Give a file the owner, as far as that is allowed, and the mode of another."""
    wanted = os.fstat(other)
    with suppress(PermissionError):
        os.fchown(fd, wanted.st_uid, wanted.st_gid)
    os.fchmod(fd, stat.S_IMODE(wanted.st_mode))


def _sync_directory(held: int) -> None:
    directory = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=held)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
