"""A revision that changes the worker's tables: beside one that goes on writing, under a rollback, and refused."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.e2e.test_no_message_lost import assert_each_answered_once, hold, installation
from tests.support.checkouts import CHECKOUT, checkout_with, patch_of, replaced
from tests.support.conversation import Conversation
from tests.support.echo import PREFIX
from tests.support.installation import Install, Installation, wait_for
from tests.support.predecessors import with_torn_words, without_context

__all__ = ["hold", "installation"]

MIGRATIONS = "worker/store/migrations.py"
TABLES = "worker/store/tables.py"
NUMBER = 999


def with_a_migration(checkout: Path, *statements: str) -> dict[str, str]:
    """The worker's source with one more step."""
    text = (checkout / MIGRATIONS).read_text()
    assert text.endswith("    ),\n}\n")
    listed = "".join(f"        {statement!r},\n" for statement in statements)
    return {MIGRATIONS: text.removesuffix("}\n") + f"    {NUMBER}: (\n{listed}    ),\n" + "}\n"}


def columns(installation: Installation, table: str) -> set[str]:
    with closing(sqlite3.connect(installation.paths.agent_db)) as database:
        return {row[1] for row in database.execute(f"PRAGMA table_info({table})")}


@pytest.mark.fault(39)
def test_a_migration_that_n_minus_1_cannot_live_with(installation: Installation, checkout: Path) -> None:
    """Base takes its exam on what the candidate migrated: refused before anyone is asked, and the table is named."""
    changed = with_a_migration(
        checkout,
        "ALTER TABLE inbox ADD COLUMN mood TEXT",
        "CREATE TRIGGER inbox_mood BEFORE INSERT ON inbox WHEN NEW.mood IS NULL"
        " BEGIN SELECT RAISE(ABORT, 'no mood'); END",
    )
    kept = "    replays = IntegerField(default=0)\n"
    changed |= replaced(checkout, TABLES, kept, f'{kept}    mood = TextField(default="calm")\n')
    answer = installation.submit(patch_of(checkout, changed))
    assert answer["status"] == "self_check_failed"
    assert "base, on the state that the candidate migrated" in answer["reason"]
    assert answer["reason"].endswith("its migration changed inbox")
    assert "mood" not in columns(installation, "inbox")


@pytest.mark.fault(
    40,
    what="blue goes on writing; each message is answered once",
    user="nothing",
    within="a transaction",
)
def test_blue_writes_while_green_migrates(installation: Installation, checkout: Path) -> None:
    """Messages come in all the while: each is answered once and in order, by whoever has the lease."""
    added = "ALTER TABLE inbox ADD COLUMN mood TEXT NOT NULL DEFAULT 'calm'"
    tx = installation.stage(patch_of(checkout, with_a_migration(checkout, added)))
    conversation = Conversation(installation)
    conversation.during(lambda: installation.run("approve", tx, "--wait").expect(0))
    assert_each_answered_once(conversation)
    assert "mood" in columns(installation, "inbox")


@pytest.mark.fault(
    39,
    what="N-1 lives with what N migrated, which its exam has proven before",
    user="answers as before",
    within="the switch",
)
def test_a_rollback_over_a_migration(installation: Installation) -> None:
    """The database stays as it was migrated, and the revision before lives with it."""
    tx = installation.status()["active"]["tx_id"]
    conversation = Conversation(installation)
    conversation.during(lambda: installation.run("rollback", tx, "--wait").expect(0))
    assert_each_answered_once(conversation)
    assert "mood" in columns(installation, "inbox")
    assert installation.say("still there?") == f"{PREFIX}still there?"


#: What a worker writes into for each message that it answers.
WRITTEN = ("inbox", "history", "runs", "turns", "outbox", "events")
OF_CONTEXT = {"summaries", "recall_forgotten", "recall_codes", "recall_vectors"}


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkout from before the context kept anything."""
    made = tmp_path_factory.mktemp("first") / "checkout"
    return checkout_with(made, without_context(CHECKOUT))


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The one after it, which finds words as they were found first."""
    made = tmp_path_factory.mktemp("second") / "checkout"
    return checkout_with(made, with_torn_words(CHECKOUT))


@pytest.fixture(scope="module")
def grown(install: Install, first: Path) -> Installation:
    """Up with the first, and spoken to."""
    made = install(first, AUTONOUS_MODEL_PROVIDER="dummy")
    made.up()
    assert made.say("the anchor weighs 4711 kg")
    return made


def update(old: Path, new: Path) -> bytes:
    """The patch from one checkout's worker to another's."""
    changed = {str(file.relative_to(new)): file.read_text() for file in new.glob("worker/**/*.py")}
    return patch_of(old, {path: text for path, text in changed.items() if text != (old / path).read_text()})


def tables(installation: Installation) -> set[str]:
    with closing(sqlite3.connect(installation.paths.agent_db)) as database:
        return {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def rows(installation: Installation) -> dict[str, int]:
    with closing(sqlite3.connect(installation.paths.agent_db)) as database:
        return {table: database.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0] for table in WRITTEN}


def there_back_and_there(installation: Installation, patch: bytes, said: str) -> None:
    """Promoted, taken back by hand, and promoted once more; the revision before is told something in between.

    It answers and writes all that it wrote before the update.
    """
    before = installation.active_sha()
    tx = installation.stage(patch)
    exam = installation.show(tx)["self_check_summary"]
    assert exam["base_after"]
    assert all(part["passed"] for part in exam["candidate"] + exam["base_after"])
    assert "waived" not in exam
    installation.run("approve", tx, "--wait").expect(0)
    assert installation.say("hello")
    installation.run("rollback", tx, "--wait").expect(0)
    assert installation.active_sha() == before
    written = rows(installation)
    assert installation.say(said)
    assert [table for table, count in rows(installation).items() if count <= written[table]] == []
    installation.run("approve", installation.stage(patch, "--force"), "--wait").expect(0)
    assert installation.active_sha() != before


@pytest.mark.exhaustive
@pytest.mark.fault(39)
def test_the_revision_before_what_the_context_keeps(grown: Installation, first: Path, second: Path) -> None:
    """It lives with summaries, names of models and recall, which it knows nothing of; all of its words are found.

    It is this checkout without their migrations, and with no query that needs them (``without_context``), installed
    as the first revision. The update brings exactly these migrations, and the code for them.
    """
    assert OF_CONTEXT & tables(grown) == set()
    assert "spoken_by" not in columns(grown, "turns")
    there_back_and_there(grown, update(first, second), "the second zebra is striped")
    assert tables(grown) >= OF_CONTEXT | {"recall_words"}
    assert "spoken_by" in columns(grown, "turns")
    assert "4711" in found(grown, "anchor")
    assert "striped" in found(grown, "zebra")


@pytest.mark.exhaustive
@pytest.mark.fault(39)
def test_the_revision_before_whole_words(grown: Installation, second: Path) -> None:
    """It goes on with its own index beside the one that is made anew, which finds what was said meanwhile.

    It is this checkout with the former table and tokeniser (``with_torn_words``); the one before is not asked.
    """
    there_back_and_there(grown, update(second, CHECKOUT), "मैंने कल एक दिन की छुट्टी ली")
    assert tables(grown) >= {"recall_words", "recall_whole_words"}
    assert "छुट्टी" in found(grown, "दिन")
    assert "Nothing" in grown.say("/recall दान")
    assert "4711" in found(grown, "anchor")


def found(installation: Installation, word: str) -> str:
    """What ``/recall`` shows, as soon as the index is as far."""
    return wait_for(lambda: _shown(installation.say(f"/recall {word}")), 10, f"the index to have {word}")


def _shown(answer: str) -> str:
    return "" if answer.startswith("Nothing") else answer
