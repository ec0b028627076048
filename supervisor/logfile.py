"""The size of a log file that processes keep open."""

import shutil
from contextlib import suppress
from pathlib import Path
from typing import Final

_LARGEST_BYTES: Final = 20 * 10**6


def rotate(path: Path, *, above: int = _LARGEST_BYTES) -> None:
    """Put a log file that has grown large aside as ``.1``, and begin it anew.

    Emptied, not renamed: processes that append to it keep the file that they opened.
    """
    with suppress(OSError):  # none yet, or a full disk: then it grows on
        if path.stat().st_size <= above:
            return
        shutil.copyfile(path, path.with_name(f"{path.name}.1"))
        with path.open("r+b") as file:
            file.truncate(0)
