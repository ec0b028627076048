"""The numbered migrations of ``agent.db``.

The revision before this one must live with a database that this one migrated, and may be writing to it meanwhile.
So a migration only adds: tables, columns with a default, indexes. No constraint that the older code can violate,
nothing that needs a function which it lacks, and no write lock held for long.
"""

from typing import Final

MIGRATIONS: Final[dict[int, tuple[str, ...]]] = {
    1: (
        """CREATE TABLE events (
            id INTEGER PRIMARY KEY,
            timestamp REAL NOT NULL,
            parent_id INTEGER,
            event_type TEXT NOT NULL,
            payload TEXT NOT NULL)""",
        "CREATE INDEX events_parent_id ON events (parent_id)",
        "CREATE INDEX events_event_type ON events (event_type)",
        """CREATE TRIGGER events_no_update BEFORE UPDATE ON events
            BEGIN SELECT RAISE(ABORT, 'events are append-only'); END""",
        """CREATE TRIGGER events_no_delete BEFORE DELETE ON events
            BEGIN SELECT RAISE(ABORT, 'events are append-only'); END""",
        """CREATE TABLE inbox (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            source TEXT NOT NULL,
            update_id INTEGER NOT NULL,
            kind TEXT NOT NULL,
            chat_id INTEGER NOT NULL,
            user_id INTEGER,
            text TEXT NOT NULL,
            message_date REAL,
            status TEXT NOT NULL,
            attempts INTEGER NOT NULL DEFAULT 0,
            locked_at REAL,
            not_before REAL,
            error TEXT NOT NULL DEFAULT '',
            created_at REAL NOT NULL,
            updated_at REAL NOT NULL,
            UNIQUE (source, update_id))""",
        "CREATE INDEX inbox_status_chat_id ON inbox (status, chat_id)",
        """CREATE TABLE history (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            chat_id INTEGER NOT NULL,
            role TEXT NOT NULL,
            text TEXT NOT NULL,
            created_at REAL NOT NULL)""",
        "CREATE INDEX history_chat_id ON history (chat_id, id)",
        """CREATE TABLE outbox (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            chat_id INTEGER NOT NULL,
            inbox_id INTEGER REFERENCES inbox (id),
            event_id INTEGER,
            kind TEXT NOT NULL,
            text TEXT NOT NULL,
            status TEXT NOT NULL,
            parts_sent INTEGER NOT NULL DEFAULT 0,
            message_id INTEGER,
            error TEXT NOT NULL DEFAULT '',
            created_at REAL NOT NULL,
            updated_at REAL NOT NULL)""",
        "CREATE INDEX outbox_status_chat_id ON outbox (status, chat_id)",
        "CREATE TABLE lease (id INTEGER PRIMARY KEY, epoch INTEGER NOT NULL, updated_at REAL NOT NULL)",
        "INSERT INTO lease (id, epoch, updated_at) VALUES (1, 0, 0)",
    ),
    2: (
        """CREATE TABLE chats (
            chat_id INTEGER PRIMARY KEY,
            context_after INTEGER NOT NULL DEFAULT 0,
            updated_at REAL NOT NULL)""",
        """CREATE TABLE runs (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            inbox_id INTEGER NOT NULL,
            chat_id INTEGER NOT NULL,
            status TEXT NOT NULL,
            event_id INTEGER,
            turn_event_id INTEGER,
            seconds REAL NOT NULL DEFAULT 0,
            fingerprint TEXT NOT NULL DEFAULT '',
            repeats INTEGER NOT NULL DEFAULT 0,
            created_at REAL NOT NULL,
            updated_at REAL NOT NULL)""",
        "CREATE INDEX runs_inbox_id ON runs (inbox_id)",
        """CREATE TABLE turns (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            run_id INTEGER NOT NULL,
            event_id INTEGER NOT NULL,
            kept INTEGER NOT NULL,
            text TEXT NOT NULL,
            input_tokens INTEGER NOT NULL,
            output_tokens INTEGER NOT NULL,
            created_at REAL NOT NULL)""",
        "CREATE INDEX turns_run_id ON turns (run_id)",
        "CREATE INDEX turns_created_at ON turns (created_at)",
        """CREATE TABLE tool_calls (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            run_id INTEGER NOT NULL,
            turn_id INTEGER NOT NULL,
            call_id TEXT NOT NULL,
            name TEXT NOT NULL,
            arguments TEXT NOT NULL,
            problem TEXT NOT NULL DEFAULT '',
            status TEXT NOT NULL,
            event_id INTEGER,
            result TEXT NOT NULL DEFAULT '',
            updated_at REAL NOT NULL)""",
        "CREATE INDEX tool_calls_run_id ON tool_calls (run_id)",
    ),
    3: (
        "ALTER TABLE inbox ADD COLUMN preview_message_id INTEGER",
        "ALTER TABLE inbox ADD COLUMN replays INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE outbox ADD COLUMN replaces_message_id INTEGER",
    ),
    4: ("ALTER TABLE chats ADD COLUMN anew_after INTEGER NOT NULL DEFAULT 0",),
    5: (
        """CREATE TABLE relays (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            chat_id INTEGER NOT NULL,
            user_id INTEGER NOT NULL,
            name TEXT NOT NULL,
            argument TEXT NOT NULL,
            created_at REAL NOT NULL,
            answered_at REAL)""",
        "CREATE INDEX relays_answered_at ON relays (answered_at)",
    ),
}
