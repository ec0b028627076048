"""What a command puts out: the end of it in memory, all of it (within reason) in a file."""

import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Final

from worker.tools import text, truncation
from worker.tools.truncation import Cut

#: Of a command's output this many bytes are kept in a file, and the files of so many commands.
FULL_BYTES: Final = 8 * 1024 * 1024
FULL_FILES: Final = 8
_DIRECTORY: Final = "autonous-bash"


class Tail:
    """The end of a stream; twice as much as is shown, so that what is cut off can be whole lines."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept = bytearray()
        self.size = 0

    def add(self, data: bytes) -> None:
        """More of it has come."""
        self.size += len(data)
        self._kept += data
        if len(self._kept) > 4 * self._most:
            del self._kept[: -2 * self._most]

    def bytes(self, most: int) -> bytes:
        """The last so many bytes."""
        return bytes(self._kept[-most:])

    def cut(self, max_lines: int, max_bytes: int) -> Cut:
        """What is shown of it: the last lines that fit."""
        kept = text.output(bytes(self._kept[-2 * self._most :]))
        cut = truncation.tail(kept, max_lines, max_bytes)
        lost = self.size > len(self._kept[-2 * self._most :])
        return Cut(cut.text, cut.lines, cut.by_lines, cut.by_bytes or (lost and not cut.by_lines))


class FullOutput:
    """All output in one file, in the order in which it came; made when there is more than fits into a result."""

    def __init__(self, threshold: int) -> None:
        self._threshold = threshold
        self._waiting = bytearray()
        self._fd: int | None = None
        self._room = FULL_BYTES
        self.path: str | None = None

    def add(self, data: bytes) -> None:
        """More has come."""
        if self.path is None:
            self._waiting += data
            if len(self._waiting) > self._threshold:
                self.keep()
        else:
            self._write(data)

    def keep(self) -> None:
        """Make the file now, whatever there is so far."""
        if self.path is None:
            self._open()
            self._write(bytes(self._waiting))
            self._waiting.clear()

    def _open(self) -> None:
        self.path = ""  # also when it cannot be made: it is not tried again
        with suppress(OSError):
            directory = Path(tempfile.gettempdir(), _DIRECTORY)
            directory.mkdir(mode=0o700, exist_ok=True)
            oldest_first = sorted(directory.iterdir(), key=lambda path: path.lstat().st_mtime)
            for path in oldest_first[: -FULL_FILES + 1]:
                path.unlink()
            self._fd, self.path = tempfile.mkstemp(suffix=".log", dir=directory)

    def _write(self, data: bytes) -> None:
        data = data[: self._room]
        if self._fd is None or not data:
            return
        try:
            self._room -= os.write(self._fd, data)
        except OSError:  # the disk is full: what there is is there
            self._room = 0

    def meta(self) -> dict[str, object]:
        """Where it is, if anywhere."""
        if not self.path:
            return {}
        told: dict[str, object] = {"full_output": self.path}
        if self._room <= 0:
            told["full_output_cut_at_bytes"] = FULL_BYTES
        return told

    def close(self) -> None:
        """The file stays."""
        if self._fd is not None:
            os.close(self._fd)
