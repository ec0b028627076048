"""Whether a SQLite file is whole, found out without touching it or whatever lies beside it."""

import sqlite3
import stat
import time
from contextlib import closing
from pathlib import Path
from typing import Final
from urllib.parse import quote

_STEPS: Final = 10_000  # of SQLite's machine, between two looks at the clock


def fault(path: Path, *, seconds: float = 10.0) -> str | None:
    """What is wrong with a database, None when nothing was found within the time.

    The file may be a worker's, that is, anything at all.
    """
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            return "it is no plain file"
    except OSError as error:
        return error.strerror or str(error)
    # Without a write-ahead log there is no writer, and none of its files must be made.
    alone = "" if Path(f"{path}-wal").exists() else "&immutable=1"
    ends = time.monotonic() + seconds
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro{alone}", uri=True, timeout=seconds)) as database:
            database.execute("PRAGMA trusted_schema = OFF")
            database.set_progress_handler(lambda: time.monotonic() > ends, _STEPS)
            (said,) = database.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.Error as error:
        return None if time.monotonic() > ends else str(error)
    return None if said == "ok" else str(said)
