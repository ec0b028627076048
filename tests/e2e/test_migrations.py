"""A revision that changes the worker's tables: beside one that goes on writing, under a rollback, and refused."""

from pathlib import Path

import pytest

from tests.e2e.test_no_message_lost import assert_each_answered_once, hold, installation
from tests.support.checkouts import patch_of, replaced
from tests.support.conversation import Conversation
from tests.support.echo import PREFIX
from tests.support.installation import Installation

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
    import sqlite3
    from contextlib import closing

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
