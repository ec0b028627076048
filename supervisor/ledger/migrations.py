"""The numbered steps that lead to the present tables.

A step is never changed once it was released; a change of the tables is a new step. The steps that a file has seen
stand in its table ``schema_migrations``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final


@dataclass(frozen=True, slots=True)
class Migration:
    """One step: its number, its name and the statements that make it."""

    number: int
    name: str
    statements: tuple[str, ...]


_REFUSE = "BEGIN SELECT RAISE(ABORT, 'events are append-only'); END"
_TAKEN = "EXISTS (SELECT 1 FROM events WHERE id = NEW.id)"

MIGRATIONS: Final = (
    Migration(
        1,
        "events, updates, workers, leases, owners, facts",
        (
            """
            CREATE TABLE events (
                id INTEGER PRIMARY KEY NOT NULL,
                timestamp DOUBLE PRECISION NOT NULL,
                parent_id BIGINT,
                event_type TEXT NOT NULL,
                payload TEXT NOT NULL
            )
            """,
            "CREATE INDEX events_parent_id ON events (parent_id)",
            "CREATE INDEX events_event_type ON events (event_type, id)",
            f"CREATE TRIGGER events_no_update BEFORE UPDATE ON events {_REFUSE}",
            f"CREATE TRIGGER events_no_delete BEFORE DELETE ON events {_REFUSE}",
            # INSERT OR REPLACE removes the old row without asking the trigger on DELETE.
            f"CREATE TRIGGER events_no_replace BEFORE INSERT ON events WHEN {_TAKEN} {_REFUSE}",
            """
            CREATE TABLE artifacts (
                tx_id TEXT PRIMARY KEY NOT NULL,
                base_tx_id TEXT,
                status TEXT NOT NULL,
                base_sha TEXT,
                sha TEXT,
                tree TEXT,
                patch_id TEXT,
                origin TEXT NOT NULL,
                title TEXT NOT NULL,
                why TEXT NOT NULL,
                model TEXT NOT NULL,
                tokens BIGINT NOT NULL,
                chat_id BIGINT,
                forced BOOLEAN NOT NULL,
                deps_image_id TEXT,
                image_id TEXT,
                image_tag TEXT,
                digest TEXT,
                changes TEXT NOT NULL,
                card TEXT NOT NULL,
                size_bytes BIGINT,
                unique_bytes BIGINT,
                build_started_at DOUBLE PRECISION,
                build_finished_at DOUBLE PRECISION,
                test_started_at DOUBLE PRECISION,
                test_finished_at DOUBLE PRECISION,
                test_summary TEXT,
                self_check_started_at DOUBLE PRECISION,
                self_check_finished_at DOUBLE PRECISION,
                self_check_summary TEXT,
                approval_by TEXT,
                approval_at DOUBLE PRECISION,
                approval_digest TEXT,
                deploy_started_at DOUBLE PRECISION,
                deploy_finished_at DOUBLE PRECISION,
                promoted_at DOUBLE PRECISION,
                snapshot TEXT,
                code TEXT,
                blame TEXT,
                last_error TEXT,
                event_id BIGINT NOT NULL UNIQUE REFERENCES events (id),
                created_at DOUBLE PRECISION NOT NULL,
                updated_at DOUBLE PRECISION NOT NULL,
                patch BLOB NOT NULL -- last, so that reading the other columns never walks over it
            )
            """,
            "CREATE INDEX artifacts_status ON artifacts (status, event_id)",
            "CREATE INDEX artifacts_patch_id ON artifacts (patch_id)",
            """
            CREATE TABLE workers (
                worker_id TEXT PRIMARY KEY NOT NULL,
                instance INTEGER NOT NULL UNIQUE,
                tx_id TEXT,
                sha TEXT NOT NULL,
                image_id TEXT NOT NULL,
                credential_sha256 TEXT NOT NULL UNIQUE,
                event_id BIGINT NOT NULL UNIQUE REFERENCES events (id),
                spawned_at DOUBLE PRECISION NOT NULL,
                ready_at DOUBLE PRECISION,
                exited_at DOUBLE PRECISION,
                exit_code INTEGER,
                oom BOOLEAN NOT NULL,
                reason TEXT,
                uptime_seconds DOUBLE PRECISION,
                crashed BOOLEAN NOT NULL
            )
            """,
            "CREATE INDEX workers_exited_at ON workers (exited_at)",
            """
            CREATE TABLE leases (
                epoch INTEGER PRIMARY KEY NOT NULL,
                worker_id TEXT NOT NULL REFERENCES workers (worker_id),
                granted_at DOUBLE PRECISION NOT NULL
            )
            """,
            """
            CREATE TABLE owners (
                user_id BIGINT PRIMARY KEY NOT NULL,
                chat_id BIGINT NOT NULL,
                claimed_at DOUBLE PRECISION NOT NULL
            )
            """,
            """
            CREATE TABLE facts (
                key TEXT PRIMARY KEY NOT NULL,
                value TEXT NOT NULL,
                updated_at DOUBLE PRECISION NOT NULL
            )
            """,
        ),
    ),
    Migration(
        2,
        "cards, nonces, endings; what an update repairs or supersedes",
        (
            "ALTER TABLE artifacts ADD COLUMN repairs TEXT",
            "ALTER TABLE artifacts ADD COLUMN supersedes TEXT",
            "CREATE INDEX artifacts_supersedes ON artifacts (supersedes)",
            # Those of before are left as they were told.
            "UPDATE artifacts SET code = 'superseded' WHERE status = 'superseded' AND code IS NULL",
            """
            CREATE TABLE cards (
                id INTEGER PRIMARY KEY NOT NULL,
                tx_id TEXT NOT NULL REFERENCES artifacts (tx_id),
                kind TEXT NOT NULL,
                state TEXT NOT NULL,
                chat_id BIGINT NOT NULL,
                message_id BIGINT,
                document_id BIGINT,
                digest TEXT,
                shown TEXT NOT NULL,
                urgent BOOLEAN NOT NULL,
                expires_at DOUBLE PRECISION,
                created_at DOUBLE PRECISION NOT NULL,
                updated_at DOUBLE PRECISION NOT NULL
            )
            """,
            "CREATE INDEX cards_tx_id ON cards (tx_id, id)",
            "CREATE INDEX cards_state ON cards (state)",
            """
            CREATE TABLE nonces (
                nonce_sha256 TEXT PRIMARY KEY NOT NULL,
                card_id INTEGER NOT NULL REFERENCES cards (id),
                action TEXT NOT NULL,
                spent_at DOUBLE PRECISION,
                spent_by BIGINT
            )
            """,
            "CREATE INDEX nonces_card_id ON nonces (card_id)",
            """
            CREATE TABLE endings (
                id TEXT PRIMARY KEY NOT NULL, -- the update's id and the status that it came to
                state TEXT NOT NULL,
                told_at DOUBLE PRECISION NOT NULL
            )
            """,
            "INSERT INTO endings (id, state, told_at) SELECT tx_id || ' ' || status, 'told', updated_at FROM artifacts",
        ),
    ),
    Migration(
        3,
        "grants",
        (
            """
            CREATE TABLE grants (
                number INTEGER PRIMARY KEY NOT NULL,
                path TEXT NOT NULL,
                mode TEXT NOT NULL,
                why TEXT NOT NULL,
                user_id BIGINT NOT NULL,
                chat_id BIGINT NOT NULL,
                place TEXT NOT NULL,
                event_id BIGINT NOT NULL UNIQUE REFERENCES events (id),
                created_at DOUBLE PRECISION NOT NULL,
                ends_at DOUBLE PRECISION NOT NULL,
                ended_at DOUBLE PRECISION
            )
            """,
            "CREATE INDEX grants_ended_at ON grants (ended_at)",
        ),
    ),
    Migration(
        4,
        "updates of the bot that were kept, notices, probations, attempts",
        (
            # AUTOINCREMENT: an id that was told to a worker never means another update.
            """
            CREATE TABLE kept_updates (
                id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
                source TEXT NOT NULL,
                update_id BIGINT NOT NULL,
                raw TEXT NOT NULL,
                commanded BOOLEAN NOT NULL,
                answered BOOLEAN NOT NULL,
                kept_at DOUBLE PRECISION NOT NULL,
                UNIQUE (source, update_id)
            )
            """,
            """
            CREATE TABLE notices (
                key TEXT PRIMARY KEY NOT NULL,
                text TEXT NOT NULL,
                made_at DOUBLE PRECISION NOT NULL,
                told_at DOUBLE PRECISION
            )
            """,
            """
            CREATE TABLE probations (
                tx_id TEXT PRIMARY KEY NOT NULL REFERENCES artifacts (tx_id),
                seconds_left DOUBLE PRECISION NOT NULL,
                counts_since DOUBLE PRECISION
            )
            """,
            """
            CREATE TABLE attempts (
                id TEXT PRIMARY KEY NOT NULL, -- the update's id and its status
                count INTEGER NOT NULL
            )
            """,
        ),
    ),
    Migration(
        5,
        "packages that an update asks for",
        (
            "ALTER TABLE artifacts ADD COLUMN dependencies TEXT",
            "ALTER TABLE artifacts ADD COLUMN lock TEXT",
        ),
    ),
)

LATEST: Final = MIGRATIONS[-1].number


def applied(database: Any) -> int:
    """The number of the last step that the file has seen, 0 for an empty one.

    Raises ValueError when the file is a database of something else.
    """
    tables = database.get_tables()
    if not tables:
        return 0
    if "schema_migrations" not in tables:
        raise ValueError("it is a database of something else")
    number: int | None = database.execute_sql("SELECT MAX(number) FROM schema_migrations").fetchone()[0]
    return number or 0


def migrate(database: Any, clock: Callable[[], float], steps: tuple[Migration, ...] = MIGRATIONS) -> None:
    """Take the file to the last of the steps, all in one transaction; two processes may do it at once.

    With nothing to do it still takes the write lock for a moment: a file that cannot be written is told here.
    """
    with database.atomic():
        database.execute_sql(
            "CREATE TABLE IF NOT EXISTS schema_migrations"
            " (number INTEGER PRIMARY KEY NOT NULL, name TEXT NOT NULL, applied_at DOUBLE PRECISION NOT NULL)"
        )
        done = applied(database)
        for step in steps:
            if step.number <= done:
                continue
            for statement in step.statements:
                database.execute_sql(statement)
            database.execute_sql(
                "INSERT INTO schema_migrations (number, name, applied_at) VALUES (?, ?, ?)",
                (step.number, step.name, clock()),
            )
