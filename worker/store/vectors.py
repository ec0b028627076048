"""Vectors of messages, and the search for those that are near, with the functions of sqlite-vec.

A vector is kept as one byte a dimension, and as one bit a dimension: the bits are compared first, as they are an eighth
as much to read, and the nearest hundred once more by their bytes. These are ordinary tables, so that a revision without
the extension can read and clear them.
"""

import array
import logging
import math
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from worker.store.database import Database
from worker.store.recall import ROLES, Found

#: So many of the nearest by their bits are compared exactly.
COMPARED: Final = 100
_MISSING: Final = f"""
SELECT history.id, history.chat_id, history.text FROM history
LEFT JOIN recall_vectors ON recall_vectors.history_id = history.id AND recall_vectors.model = ?
WHERE history.id >= ? AND history.id < ? AND role IN {ROLES} AND recall_vectors.history_id IS NULL
    AND history.id NOT IN (SELECT history_id FROM recall_forgotten)
ORDER BY history.id DESC LIMIT ?
"""  # noqa: S608 - words of ours
_OUTDATED: Final = "SELECT history_id FROM recall_vectors WHERE model != ? LIMIT ?"
_NEAREST: Final = """
WITH near AS MATERIALIZED (
    SELECT history_id FROM recall_codes WHERE chat_id = :chat AND history_id > :after AND length(code) = length(:code)
    ORDER BY vec_distance_hamming(vec_bit(code), vec_bit(:code)) LIMIT :compared
)
SELECT history_id, vec_distance_cosine(vec_int8(vector), vec_int8(:vector)) AS distance
FROM recall_vectors JOIN near USING (history_id) WHERE model = :model ORDER BY distance LIMIT :limit
"""

logger = logging.getLogger(__name__)


class VectorsUnavailable(Exception):
    """The interpreter cannot load sqlite-vec; the message is one line for a person."""


class VectorIndex:
    """Finds messages by vectors of one embeddings model. Raises VectorsUnavailable."""

    def __init__(self, database: Database, model: str) -> None:
        self._database = database
        self._model = model
        _connected(database.path).close()

    def newest(self) -> int:
        """The number of the newest message there is."""
        return int((self._database.first("SELECT MAX(id) FROM history") or (0,))[0] or 0)

    def missing(self, first: int, end: int, limit: int) -> Sequence[tuple[int, int, str]]:
        """Messages from ``first`` to before ``end`` that lack a vector, newest first: number, chat, text."""
        with closing(self._database.cursor(_MISSING, (self._model, first, end, limit))) as cursor:
            rows: list[tuple[int, int, str]] = cursor.fetchall()
            return rows

    def clear_outdated(self, limit: int) -> int:
        """Remove up to ``limit`` vectors of other models; how many there were."""
        with closing(self._database.cursor(_OUTDATED, (self._model, limit))) as cursor:
            rows = cursor.fetchall()
        if rows:
            with self._database.write():
                for row in rows:
                    self._database.execute("DELETE FROM recall_codes WHERE history_id = ?", row)
                    self._database.execute("DELETE FROM recall_vectors WHERE history_id = ?", row)
        return len(rows)

    def add(self, vectors: Mapping[tuple[int, int], Sequence[float]]) -> None:
        """Keep vectors, by number and chat of their messages."""
        with self._database.write():
            for (history_id, chat_id), vector in vectors.items():
                self._database.execute(
                    "INSERT OR REPLACE INTO recall_codes (history_id, chat_id, code) VALUES (?, ?, ?)",
                    (history_id, chat_id, _bits(vector)),
                )
                self._database.execute(
                    "INSERT OR REPLACE INTO recall_vectors (history_id, chat_id, model, vector) VALUES (?, ?, ?, ?)",
                    (history_id, chat_id, self._model, _bytes(vector)),
                )

    def find(self, chat_id: int, vector: Sequence[float], *, limit: int, after: int = 0) -> list[Found]:
        """The chat's messages with the nearest vectors, nearest first. May be called in a thread of its own."""
        parameters: dict[str, Any] = {
            "chat": chat_id,
            "after": after,
            "code": _bits(vector),
            "vector": _bytes(vector),
            "model": self._model,
            "compared": COMPARED,
            "limit": limit,
        }
        with closing(_connected(self._database.path)) as connection:
            rows = connection.execute(_NEAREST, parameters).fetchall()
        return [Found(history_id, 1.0 - distance) for history_id, distance in rows]


def _connected(path: Path) -> sqlite3.Connection:
    """A connection of its own, with the extension. Raises VectorsUnavailable."""
    try:
        import sqlite_vec
    except ImportError as error:
        raise VectorsUnavailable("sqlite-vec is not installed") from error
    connection = sqlite3.connect(path, timeout=2.0)
    try:
        connection.enable_load_extension(True)
        sqlite_vec.load(connection)
        connection.enable_load_extension(False)
    except (AttributeError, sqlite3.Error) as error:
        connection.close()
        raise VectorsUnavailable(f"this Python cannot load extensions into SQLite: {error}") from error
    return connection


def _bits(vector: Sequence[float]) -> bytes:
    """One bit a dimension, set where it is positive; the number of dimensions is rounded down to whole bytes."""
    return bytes(
        sum((vector[start + bit] > 0) << bit for bit in range(8)) for start in range(0, len(vector) // 8 * 8, 8)
    )


def _bytes(vector: Sequence[float]) -> bytes:
    """One byte a dimension. The length of a vector means nothing to its direction."""
    largest = max((abs(value) for value in vector if math.isfinite(value)), default=0.0) or 1.0
    return array.array("b", (round(value / largest * 127) for value in vector)).tobytes()
