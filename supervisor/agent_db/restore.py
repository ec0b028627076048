"""The worker's database as it was before an update, with what people said and were told since carried across.

NoSnapshot      there is none of this update, or it cannot be read
"""

import os
import sqlite3
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote

from supervisor.agent_db.access import AgentDbUnusable, append_event, opened, transaction
from supervisor.agent_db.backup import BackupFailed, backup
from supervisor.contract.events import EventType
from supervisor.ledger import Ledger, Update
from supervisor.ledger.eventremoval import quoted

_FORGOTTEN: Final = "recall_forgotten"
#: What is carried across, parents first, and what a row is known by. Of a row that both have, and that was changed
#: since the snapshot, the later state counts: the one in the database that went on. Which that is no clock says, as it
#: may have been put back. An event and a word of the history never change, and what was to be forgotten stays so.
_CARRIED: Final[Mapping[str, str]] = {
    "events": "id",
    "inbox": "id",
    "history": "id",
    "runs": "id",
    "turns": "id",
    "tool_calls": "id",
    "outbox": "id",
    _FORGOTTEN: "history_id",
}
#: Made of messages, to find them again. The words' index is not among them: the worker looks it over at its start.
_MADE_OF_MESSAGES: Final = ("recall_codes", "recall_vectors")
#: The database that was replaced, kept beside the snapshots until the next one is.
REPLACED: Final = "before-restore.db"
_LOGS: Final = ("-wal", "-shm")


class NoSnapshot(Exception):
    """The state cannot be brought back, and nothing was changed; one line for the user."""


@dataclass(frozen=True, slots=True)
class Restored:
    """How many rows were carried across, by table. ``lost`` says why none were, when the former state is broken."""

    carried: Mapping[str, int]
    replaced: Path
    lost: str = ""


def snapshot_of(ledger: Ledger, update: Update) -> Path:
    """Where the state from before this update is. Raises NoSnapshot."""
    if update.snapshot:
        return Path(update.snapshot)
    others = [other.tx_id[:8] for other in ledger.updates() if other.snapshot]
    there = f"there are some of {', '.join(others)}" if others else "there are none at all"
    raise NoSnapshot(f"update {update.tx_id[:8]} has no snapshot, which is taken before each deploy; {there}")


def check_snapshot(snapshot: Path) -> None:
    """Raises NoSnapshot when no state can be made of it."""
    try:
        with opened(snapshot) as database:
            (state,) = database.execute("PRAGMA integrity_check(1)").fetchone()
            tables = _columns(database, "main")
    except AgentDbUnusable as error:
        raise NoSnapshot(f"the snapshot cannot be used: {error}") from error
    if state != "ok" or "inbox" not in tables:
        raise NoSnapshot(f"the snapshot {snapshot} is damaged: {state if state != 'ok' else 'it has no inbox'}")


def restore(
    agent_db: Path, snapshot: Path, kept: Path, *, about: Mapping[str, object], clock: Callable[[], float] = time.time
) -> Restored:
    """Put the snapshot in the place of ``agent_db``, with what is newer in that; no worker may live.

    What was there is kept in the directory ``kept``. Killed at any moment it has changed nothing, or all. ``about`` is
    what the event says of it. Raises NoSnapshot.
    """
    made = agent_db.with_name(f"{agent_db.name}.restored")
    replaced = kept / REPLACED
    try:
        owner = agent_db.parent.stat()
        _remove(made, "", *_LOGS)  # one that was killed may have left a log, which would be taken for this file's
        backup(snapshot, made)
        carried, lost = _carry(agent_db, made)
        with opened(made, write=True) as database:
            append_event(database, EventType.STATE_RESTORED, {**about, "carried": carried, "lost": lost}, clock())
        made.chmod(0o600)
        if os.getuid() == 0:
            os.chown(made, owner.st_uid, owner.st_gid)
        _set_aside(agent_db, replaced)
        made.replace(agent_db)
    except (OSError, BackupFailed, AgentDbUnusable) as error:
        raise NoSnapshot(f"the state was not brought back, and is as it was: {error}") from error
    finally:
        _remove(made, "", *_LOGS)
    return Restored(carried, replaced, lost)


def _carry(agent_db: Path, made: Path) -> tuple[dict[str, int], str]:
    """Copy into ``made`` what ``agent_db`` has and it has not; how much, or why nothing can be read there."""
    try:
        with opened(agent_db) as former:  # a database that is broken is told apart from one that cannot be written
            former.execute("SELECT COUNT(*) FROM inbox").fetchone()
    except AgentDbUnusable as error:
        return {}, str(error)
    with opened(made, write=True) as database:
        database.execute("ATTACH ? AS former", (f"file:{quote(str(agent_db))}?mode=ro",))
        mine, theirs = _columns(database, "main"), _columns(database, "former")
        try:
            with transaction(database):
                counts = {
                    table: _carry_table(database, table, key, [c for c in mine[table] if c in theirs[table]])
                    for table, key in _CARRIED.items()
                    if key in mine.get(table, ()) and key in theirs.get(table, ())
                }
                _leave_out_forgotten(database, mine)
        except sqlite3.DatabaseError as error:
            return {}, f"the worker's database {agent_db} cannot be read: {error}"
        return {table: count for table, count in counts.items() if count}, ""


def _carry_table(database: sqlite3.Connection, table: str, key: str, columns: list[str]) -> int:
    name, listed, known_by = quoted(table), ", ".join(map(quoted, columns)), quoted(key)
    same = f"mine.{known_by} = former_row.{known_by}"
    if "updated_at" in columns:
        same += " AND mine.updated_at = former_row.updated_at"
    # The names are quoted, and all values stay where they are.
    return database.execute(
        f"INSERT OR REPLACE INTO main.{name} ({listed}) SELECT {listed} FROM former.{name} AS former_row"  # noqa: S608
        f" WHERE NOT EXISTS (SELECT 1 FROM main.{name} AS mine WHERE {same}) ORDER BY {known_by}"
    ).rowcount


def _leave_out_forgotten(database: sqlite3.Connection, tables: Mapping[str, list[str]]) -> None:
    """What was forgotten since the snapshot was still to be found in it."""
    known_by = _CARRIED[_FORGOTTEN]
    if known_by not in tables.get(_FORGOTTEN, ()):
        return
    for table in _MADE_OF_MESSAGES:
        if known_by in tables.get(table, ()):
            database.execute(
                f"DELETE FROM main.{table} WHERE {known_by} IN (SELECT {known_by} FROM main.{_FORGOTTEN})"  # noqa: S608
            )


def _columns(database: sqlite3.Connection, schema: str) -> dict[str, list[str]]:
    """The columns of each real table."""
    tables = database.execute(f"SELECT name FROM {schema}.sqlite_master WHERE type = 'table'").fetchall()  # noqa: S608
    return {
        table: [row[1] for row in database.execute(f"PRAGMA {schema}.table_info({quoted(table)})")]
        for (table,) in tables
    }


def _set_aside(agent_db: Path, replaced: Path) -> None:
    """Keep a copy of what was there, and leave no log behind that would be taken for the new file's."""
    if not agent_db.exists():
        return
    _remove(replaced, *_LOGS)
    try:
        backup(agent_db, replaced)
    except BackupFailed:  # broken: its bytes, with its log, for whoever may still get something out of it
        for ending in ("", *_LOGS):
            with suppress(FileNotFoundError):
                source = agent_db.with_name(agent_db.name + ending)
                replaced.with_name(replaced.name + ending).write_bytes(source.read_bytes())
    else:
        with opened(agent_db, write=True) as database:
            (busy, *_) = database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if busy:
            raise AgentDbUnusable(f"somebody reads the worker's database {agent_db}; its log cannot be put away")
    _remove(agent_db, *_LOGS)


def _remove(database: Path, *endings: str) -> None:
    for ending in endings:
        database.with_name(database.name + ending).unlink(missing_ok=True)
