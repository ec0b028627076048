"""A consistent copy of a SQLite database that somebody else may be writing to."""

import os
import sqlite3
import stat
from contextlib import closing
from pathlib import Path
from typing import Final
from urllib.parse import quote

_BUSY_SECONDS: Final = 10.0


class BackupFailed(Exception):
    """The copy could not be made; the message is one line that says why."""


def backup(source: Path, target: Path) -> None:
    """Copy ``source`` to ``target``, which is replaced.

    A worker can put anything in the source's place, so only a plain file is read. Raises BackupFailed.
    """
    partial = target.with_name(f"{target.name}.partial")
    try:
        partial.unlink(missing_ok=True)
        if not stat.S_ISREG(os.lstat(source).st_mode):
            raise BackupFailed(f"{source} is not a plain file")
        uri = f"file:{quote(str(source))}?mode=ro"
        with (
            closing(sqlite3.connect(uri, uri=True, timeout=_BUSY_SECONDS)) as reading,
            closing(sqlite3.connect(partial)) as writing,
        ):
            reading.backup(writing)
        partial.replace(target)
    except (OSError, sqlite3.Error) as error:
        raise BackupFailed(f"{source.name} could not be copied: {error}") from error
