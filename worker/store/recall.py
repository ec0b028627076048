"""An index of all messages by their words: SQLite's FTS5, filled by the worker itself, never by a trigger.

It is made of the history and can be made anew from it. A revision that knows nothing of it goes on writing history;
whatever is not indexed yet is found by its number. An index that takes words differently is a table of its own: the
revision before goes on with the former one, which stays for it and loses what is to be forgotten.
"""

import logging
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Final

from peewee import DatabaseError

from worker.store.database import Database
from worker.store.terms import indexed, terms

#: Of a long message so many characters are indexed: of the text, and of its words, which are more where they are pairs.
INDEXED_CHARS: Final = 20_000
#: Of words, in one transaction: it holds up the event loop, and whoever else writes, for some milliseconds.
BATCH_CHARS: Final = 20_000
#: Words that together stand in more messages than this are too common to tell one from another. It bounds the time
#: of a question as well, as each of these messages is ranked.
MOST_RANKED: Final = 4000
#: Of few messages, so many are no sign that a word is common.
FEW: Final = 20
COMMON_SHARE: Final = 0.2
ROLES: Final = "('user', 'assistant')"

#: Of the revisions before, to which marks were no part of a word: that tore the words of many scripts to pieces.
_HAS_FORMER: Final = "SELECT 1 FROM sqlite_master WHERE name = 'recall_words'"
#: Which marks are in a word was decided before, in ``terms``; Co, which is left out, never comes.
_TOKENIZER: Final = "tokenize = \"porter unicode61 remove_diacritics 2 categories 'L* N* Mn Mc'\""
_HAS_FTS5: Final = "SELECT 1 FROM pragma_module_list WHERE name = 'fts5'"
_CREATE: Final = (
    f"CREATE VIRTUAL TABLE IF NOT EXISTS recall_whole_words USING fts5(words, chat_id UNINDEXED, {_TOKENIZER})",
    # Of this connection alone: how often each word occurs, and the question's words as the index would write them.
    "CREATE VIRTUAL TABLE IF NOT EXISTS temp.recall_terms USING fts5vocab('main', 'recall_whole_words', 'row')",
    f"CREATE VIRTUAL TABLE IF NOT EXISTS temp.recall_question USING fts5(words, {_TOKENIZER})",
    "CREATE VIRTUAL TABLE IF NOT EXISTS temp.recall_stems USING fts5vocab('temp', 'recall_question', 'instance')",
)
_UNINDEXED: Final = f"""
SELECT id, chat_id, text FROM history
WHERE id > (SELECT COALESCE(MAX(rowid), 0) FROM recall_whole_words) AND role IN {ROLES}
    AND id NOT IN (SELECT history_id FROM recall_forgotten)
ORDER BY id LIMIT ?
"""  # noqa: S608 - words of ours
_ADD: Final = "INSERT INTO recall_whole_words (rowid, words, chat_id) VALUES (?, ?, ?)"
_FORGOTTEN_ELSEWHERE: Final = """
SELECT history_id FROM recall_forgotten WHERE history_id IN (SELECT id FROM recall_whole_words_docsize)
"""
_FIND: Final = """
SELECT rowid, bm25(recall_whole_words) FROM recall_whole_words
WHERE recall_whole_words MATCH ? AND chat_id = ? AND rowid > ?
ORDER BY rank LIMIT ?
"""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Found:
    """A message that fits a question. ``score`` is higher for a better fit, and comparable within one answer."""

    history_id: int
    score: float


@dataclass(frozen=True, slots=True)
class Remembered:
    """A message of the history. ``said_at`` is in seconds since the Unix epoch."""

    history_id: int
    role: str
    text: str
    said_at: float


class WordIndex:
    """Finds messages by words. ``clock`` gives seconds since the Unix epoch."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock
        self._ready: bool | None = None
        self._looked_over = False
        #: Words that are too common: to count them takes longest, and they do not get rarer.
        self._common: set[str] = set()

    @property
    def ready(self) -> bool:
        """Whether there is an index; without FTS5 that is told once, and nothing is ever found."""
        if self._ready is None:
            try:
                self._ready = self._created()
            except DatabaseError as error:  # somebody migrates, or the disk is full: that passes
                logger.warning("old messages cannot be recalled now: %s", error)
        return bool(self._ready)

    def _created(self) -> bool:
        if self._database.first(_HAS_FTS5) is None:
            logger.warning("old messages cannot be recalled, as this SQLite has no FTS5")
            return False
        for statement in _CREATE:
            self._database.execute(statement)
        return True

    def catch_up(self, limit: int) -> int:
        """Index the oldest messages that are not indexed, in one short transaction; how many they were.

        They are ``limit`` at most, and fewer when they are long. 0 says that all are indexed.
        """
        if not self.ready:
            return 0
        self._look_over()
        rows = self._unindexed(limit)
        if rows:
            with self._database.write():
                for row in rows:
                    self._database.execute(_ADD, row)
        return len(rows)

    def _unindexed(self, limit: int) -> list[tuple[int, str, int]]:
        rows: list[tuple[int, str, int]] = []
        chars = 0
        with closing(self._database.cursor(_UNINDEXED, (limit,))) as cursor:
            for history_id, chat_id, text in cursor:
                words = indexed(text[:INDEXED_CHARS])[:INDEXED_CHARS]
                chars += len(words)
                if rows and chars > BATCH_CHARS:
                    break
                rows.append((history_id, words, chat_id))
        return rows

    def find(self, chat_id: int, question: str, *, limit: int, after: int = 0) -> list[Found]:
        """The chat's messages that fit best, best first; of those whose number is higher than ``after``."""
        if not self.ready:
            return []
        telling = self._telling(terms(question))
        if not telling:
            return []
        match = "words : (" + " OR ".join(f'"{word}"' for word in telling) + ")"
        return [Found(row, -rank) for row, rank in self._rows(_FIND, (match, chat_id, after, limit))]

    def forget(self, chat_id: int, history_id: int) -> bool:
        """Take a message out of recall, and leave it in the history; False when the chat has none of that number."""
        known = "SELECT 1 FROM history WHERE id = ? AND chat_id = ?"
        if self._database.first(known, (history_id, chat_id)) is None:
            return False
        with self._database.write():
            for statement in (
                "DELETE FROM recall_codes WHERE history_id = ?",
                "DELETE FROM recall_vectors WHERE history_id = ?",
            ):
                self._database.execute(statement, (history_id,))
            if self.ready:
                self._leave_out(history_id)
            self._database.execute(
                "INSERT OR IGNORE INTO recall_forgotten (history_id, chat_id, created_at) VALUES (?, ?, ?)",
                (history_id, chat_id, self._clock()),
            )
        return True

    def messages(self, chat_id: int, ids: Sequence[int]) -> list[Remembered]:
        """These messages of a chat, in the order of ``ids``; without those that are gone or forgotten."""
        marks = ", ".join("?" * len(ids))
        sql = (
            f"SELECT id, role, text, created_at FROM history WHERE chat_id = ? AND id IN ({marks}) "  # noqa: S608
            "AND id NOT IN (SELECT history_id FROM recall_forgotten)"
        )
        found = {row[0]: Remembered(*row) for row in self._rows(sql, (chat_id, *ids))}
        return [found[history_id] for history_id in ids if history_id in found]

    def _look_over(self) -> None:
        """Leave out what an older revision was told to forget. It may have run between any two processes of ours."""
        if self._looked_over:
            return
        if forgotten := self._rows(_FORGOTTEN_ELSEWHERE, ()):
            with self._database.write():
                for (history_id,) in forgotten:
                    self._leave_out(history_id)
        self._looked_over = True

    def _leave_out(self, history_id: int) -> None:
        """Remove a message from this index, and from the former one, where there is one."""
        self._database.execute("DELETE FROM recall_whole_words WHERE rowid = ?", (history_id,))
        if self._database.first(_HAS_FORMER) is not None:
            self._database.execute("DELETE FROM recall_words WHERE rowid = ?", (history_id,))

    def _telling(self, words: Sequence[str]) -> list[str]:
        """The rarest of these words, as long as not too many messages hold one of them."""
        total = (self._database.first("SELECT COUNT(*) FROM recall_whole_words_docsize") or (0,))[0]
        counts = self._counts(words)
        telling: list[str] = []
        ranked = 0
        for word in sorted(counts, key=lambda word: counts[word]):
            too_common = counts[word] > max(total * COMMON_SHARE, FEW)
            if too_common or (telling and ranked + counts[word] > MOST_RANKED):
                break
            telling.append(word)
            ranked += counts[word]
        return telling

    def _counts(self, words: Sequence[str]) -> dict[str, int]:
        """In how many messages each word occurs, in any of its forms; without those that occur nowhere."""
        for number, word in enumerate(words, start=1):
            self._database.execute("INSERT INTO temp.recall_question (rowid, words) VALUES (?, ?)", (number, word))
        try:
            stems = self._rows("SELECT doc, term FROM temp.recall_stems", ())
        finally:
            self._database.execute("DELETE FROM temp.recall_question")
        counts: dict[str, int] = {}
        for number, stem in stems:
            if stem in self._common:
                continue
            row = self._database.first("SELECT doc FROM temp.recall_terms WHERE term = ?", (stem,))
            if row is not None and row[0] > MOST_RANKED:
                self._common.add(stem)
            if row is not None:
                counts[words[number - 1]] = row[0]
        return counts

    def _rows(self, sql: str, parameters: tuple[object, ...]) -> list[tuple[Any, ...]]:
        with closing(self._database.cursor(sql, parameters)) as cursor:
            rows: list[tuple[Any, ...]] = cursor.fetchall()
            return rows
