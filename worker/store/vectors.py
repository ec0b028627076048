"""Vectors of messages, and the search for those that are near, with the functions of sqlite-vec.

A vector is kept as one byte a dimension, and as one bit a dimension: the first bits of all are compared in memory, and
the nearest ones once more by their bytes. These are ordinary tables, so that a revision without the
extension can read and clear them.
"""

import array
import json
import logging
import math
import sqlite3
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

from worker.store.codes import Codes, code_of
from worker.store.database import Database
from worker.store.recall import ROLES, Found

#: So many of the nearest by their bits are compared exactly.
COMPARED: Final = 200
_MISSING: Final = f"""
SELECT history.id, history.chat_id, history.text FROM history
LEFT JOIN recall_vectors ON recall_vectors.history_id = history.id AND recall_vectors.model = ?
WHERE history.id >= ? AND history.id < ? AND role IN {ROLES} AND recall_vectors.history_id IS NULL
    AND history.id NOT IN (SELECT history_id FROM recall_forgotten)
ORDER BY history.id DESC LIMIT ?
"""  # noqa: S608 - words of ours
_OUTDATED: Final = "SELECT history_id FROM recall_vectors WHERE model != ?"
_REMOVE_VECTOR: Final = "DELETE FROM recall_vectors WHERE history_id = ? AND model != ?"
_REMOVE_CODE: Final = (
    "DELETE FROM recall_codes WHERE history_id = ?"
    " AND NOT EXISTS (SELECT 1 FROM recall_vectors WHERE recall_vectors.history_id = ?)"
)
_KNOWN: Final = "SELECT history_id, chat_id, code FROM recall_codes WHERE length(code) = ? ORDER BY history_id"
_UNFORGOTTEN: Final = "WHERE NOT EXISTS (SELECT 1 FROM recall_forgotten WHERE history_id = ?)"
_ADD: Final = (
    f"INSERT OR REPLACE INTO recall_codes (history_id, chat_id, code) SELECT ?, ?, ? {_UNFORGOTTEN}",
    f"INSERT OR REPLACE INTO recall_vectors (history_id, chat_id, model, vector) SELECT ?, ?, ?, ? {_UNFORGOTTEN}",
)
_NEAREST: Final = """
SELECT history_id, vec_distance_cosine(vec_int8(vector), vec_int8(:vector)) AS distance FROM recall_vectors
WHERE history_id IN (SELECT value FROM json_each(:near)) AND model = :model AND length(vector) = length(:vector)
ORDER BY distance LIMIT :limit
"""

logger = logging.getLogger(__name__)


class VectorsUnavailable(Exception):
    """The interpreter cannot load sqlite-vec; the message is one line for a person."""


class VectorIndex:
    """Finds messages by vectors of one embeddings model. Raises VectorsUnavailable.

    The codes of all messages are read into memory by the first search, and followed from then on.
    """

    def __init__(self, database: Database, model: str) -> None:
        self._database = database
        self._model = model
        self._reading = _connected(database.path)
        #: Held by whichever thread searches. The event loop's never waits for it: it leaves what is new in ``_added``.
        self._searching = threading.Lock()
        self._codes: dict[int, Codes] = {}
        self._code_bytes = 0
        self._added: deque[tuple[int, int, bytes]] = deque()

    def newest(self) -> int:
        """The number of the newest message there is."""
        return int((self._database.first("SELECT MAX(id) FROM history") or (0,))[0] or 0)

    def missing(self, first: int, end: int, limit: int) -> Sequence[tuple[int, int, str]]:
        """Messages from ``first`` to before ``end`` that lack a vector, newest first: number, chat, text."""
        with closing(self._database.cursor(_MISSING, (self._model, first, end, limit))) as cursor:
            rows: list[tuple[int, int, str]] = cursor.fetchall()
            return rows

    def outdated(self) -> list[int]:
        """The numbers of all messages with a vector of another model. It reads them all, so it is for a thread."""
        with closing(sqlite3.connect(self._database.path, timeout=2.0)) as connection:
            return [history_id for (history_id,) in connection.execute(_OUTDATED, (self._model,))]

    def remove(self, ids: Sequence[int]) -> None:
        """Remove the vectors of these messages, in one transaction, unless they were made anew meanwhile."""
        with self._database.write():
            for history_id in ids:
                self._database.execute(_REMOVE_VECTOR, (history_id, self._model))
                self._database.execute(_REMOVE_CODE, (history_id, history_id))

    def add(self, vectors: Mapping[tuple[int, int], Sequence[float]]) -> None:
        """Keep vectors, by number and chat of their messages; but for those that were forgotten meanwhile."""
        made = [(*message, code_of(vector), _bytes(vector)) for message, vector in vectors.items()]
        add_code, add_vector = _ADD
        with self._database.write():
            for history_id, chat_id, code, vector in made:
                self._database.execute(add_code, (history_id, chat_id, code, history_id))
                self._database.execute(add_vector, (history_id, chat_id, self._model, vector, history_id))
        if self._code_bytes:
            self._added.extend((history_id, chat_id, code) for history_id, chat_id, code, _ in made)

    def find(self, chat_id: int, vector: Sequence[float], *, limit: int, after: int = 0) -> list[Found]:
        """The chat's messages with the nearest vectors, nearest first. May be called in a thread of its own."""
        code = code_of(vector)
        with self._searching:
            self._catch_up(len(code))
            near = self._codes[chat_id].nearest(code, limit=COMPARED, after=after) if chat_id in self._codes else []
            if not near:
                return []
            asked = {"near": json.dumps(near), "vector": _bytes(vector), "model": self._model, "limit": limit}
            rows = self._reading.execute(_NEAREST, asked).fetchall()
        return [Found(history_id, 1.0 - distance) for history_id, distance in rows]

    def close(self) -> None:
        """Close the connection that searches use, once the last of them is done."""
        with self._searching:
            self._reading.close()

    def _catch_up(self, code_bytes: int) -> None:
        """Have all codes of this length in memory. One that is gone from the table does no harm: its vector is, too."""
        if code_bytes != self._code_bytes:
            self._added.clear()
            self._code_bytes, self._codes = code_bytes, {}
            for known in self._reading.execute(_KNOWN, (code_bytes,)):
                self._put(*known)
        while self._added:
            self._put(*self._added.popleft())

    def _put(self, history_id: int, chat_id: int, code: bytes) -> None:
        if len(code) == self._code_bytes:
            self._codes.setdefault(chat_id, Codes()).put(history_id, code)


def _connected(path: Path) -> sqlite3.Connection:
    """A connection of its own for any thread, with the extension. Raises VectorsUnavailable."""
    try:
        import sqlite_vec
    except ImportError as error:
        raise VectorsUnavailable("sqlite-vec is not installed") from error
    connection = sqlite3.connect(path, timeout=2.0, check_same_thread=False)
    try:
        connection.enable_load_extension(True)
        sqlite_vec.load(connection)
        connection.enable_load_extension(False)
    except (AttributeError, sqlite3.Error) as error:
        connection.close()
        raise VectorsUnavailable(f"this Python cannot load extensions into SQLite: {error}") from error
    return connection


def _bytes(vector: Sequence[float]) -> bytes:
    """One byte a dimension. The length of a vector means nothing to its direction."""
    largest = max((abs(value) for value in vector if math.isfinite(value)), default=0.0) or 1.0
    return array.array("b", (round(value / largest * 127) for value in vector)).tobytes()
