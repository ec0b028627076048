"""Revisions of the worker from before a feature, made of this checkout, as a shallow clone has no others."""

import re
from pathlib import Path

from tests.support.checkouts import replaced

MIGRATIONS = "worker/store/migrations.py"
RECALL = "worker/store/recall.py"
RUNS = "worker/store/runs.py"
SUMMARIES = "worker/store/summaries.py"
TABLES = "worker/store/tables.py"

#: The steps that bring summaries and the models' names, and what is recalled.
OF_CONTEXT = (6, 8)
_WHOLE_WORDS = "categories 'L* N* Mn Mc'"


def without_context(checkout: Path) -> dict[str, str]:
    """Files of the worker as they are without what the context keeps.

    The steps ``OF_CONTEXT`` are cut out of the migrations, the column that they bring out of the table of turns and
    the queries to it, and no query to any of their tables is left that is ever made: summaries are neither looked up
    nor kept, and there is no index. All else is this checkout's.
    """
    there = 'a chat, in the order of ``ids``; without those that are gone or forgotten."""\n'
    looked_up = 'newest summary, unless its context was begun anew since."""\n'
    kept = 'Keep a new summary; the former ones stay in the table."""\n'
    runs = replaced(checkout, RUNS, "                    spoken_by=response.spoken_by,\n", "")[RUNS]
    recall = replaced(
        checkout, RECALL, "\"SELECT 1 FROM pragma_module_list WHERE name = 'fts5'\"", '"SELECT 1 WHERE 0"'
    )
    summaries = replaced(checkout, SUMMARIES, looked_up, f"{looked_up}        return None\n")[SUMMARIES]
    return {
        MIGRATIONS: _without_steps((checkout / MIGRATIONS).read_text()),
        TABLES: replaced(checkout, TABLES, '    spoken_by = TextField(default="")\n', "")[TABLES],
        RUNS: _once(runs, ", row.spoken_by)", ")"),
        SUMMARIES: _once(summaries, kept, f"{kept}        return\n"),
        RECALL: _once(recall[RECALL], there, f"{there}        return []\n"),
    }


def with_torn_words(checkout: Path) -> dict[str, str]:
    """The index of words in its former table, whose tokeniser takes vowel signs for no part of a word."""
    text = (checkout / RECALL).read_text().replace("recall_whole_words", "recall_words")
    return {RECALL: _once(text, _WHOLE_WORDS, "categories 'L* N* Co'")}


def _without_steps(text: str) -> str:
    for number in OF_CONTEXT:
        text, cut = re.subn(rf"^    {number}: \(\n.*?^    \),\n", "", text, flags=re.MULTILINE | re.DOTALL)
        assert cut == 1, f"{MIGRATIONS} has no step {number}"
    return text


def _once(text: str, old: str, new: str) -> str:
    assert text.count(old) == 1, f"not once: {old}"
    return text.replace(old, new)
