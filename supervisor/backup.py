"""A consistent copy of a SQLite database that somebody else may be writing to."""

import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import quote


def backup(source: Path, target: Path) -> None:
    """Copy ``source`` to ``target``, which is replaced. Raises sqlite3.Error, FileNotFoundError."""
    if not source.exists():
        raise FileNotFoundError(source)
    partial = target.with_name(f"{target.name}.partial")
    partial.unlink(missing_ok=True)
    with (
        closing(sqlite3.connect(f"file:{quote(str(source))}?mode=ro", uri=True, timeout=10)) as reading,
        closing(sqlite3.connect(partial)) as writing,
    ):
        reading.backup(writing)
    partial.replace(target)
