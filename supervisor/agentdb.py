"""The one thing that the supervisor ever mends in the worker's database.

The ledger grants the lease, and agent.db repeats the epoch for the workers' writes. A revision that wrote an epoch of
its own there would fence every other one off, the way back included; so whenever the lease moves, and nobody holds it,
what stands above the ledger's epoch is put right.
"""

import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from typing import Final
from urllib.parse import quote

_BUSY_SECONDS: Final = 2.0


def cap_epoch(agent_db: Path, granted: int) -> None:
    """Bring the epoch in ``agent_db`` down to the last that was granted, where it is higher.

    A database that is missing, locked or of another shape is left as it is: then the worker says what is wrong.
    """
    if not agent_db.is_file() or agent_db.is_symlink():
        return
    uri = f"file:{quote(str(agent_db))}?mode=rw"
    with suppress(sqlite3.Error), closing(sqlite3.connect(uri, uri=True, timeout=_BUSY_SECONDS)) as database:
        (stored,) = database.execute("SELECT MAX(epoch) FROM lease").fetchone()
        if stored is not None and stored > granted:
            database.execute("UPDATE lease SET epoch = ?", (granted,))
            database.commit()
