"""What a candidate's migration did to the tables that were there, for whoever is told that N-1 cannot live with it."""

import re
import sqlite3
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from supervisor.agent_db.access import AgentDbUnusable, opened

#: Of each table: its own definition, and those of its indexes and triggers.
Schema = Mapping[str, frozenset[str]]


def schema(database: Path) -> Schema:
    """The tables of a database; none when it cannot be read."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    try:
        with opened(database) as connection:
            for table, statement in connection.execute("SELECT tbl_name, sql FROM sqlite_master"):
                found[str(table)].add(str(statement))
    except (AgentDbUnusable, sqlite3.Error):
        return {}
    return {table: frozenset(statements) for table, statements in found.items()}


def culprits(before: Schema, after: Schema, said: str) -> list[str]:
    """The former tables that were changed or are gone; only those that ``said`` names, if it names any of them."""
    changed = sorted(table for table, statements in before.items() if after.get(table) != statements)
    named = [table for table in changed if re.search(rf"\b{re.escape(table)}\b", said)]
    return named or changed
