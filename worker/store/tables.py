# ruff: noqa: D106 - a Meta class says nothing but the name of its table
"""The tables of ``agent.db`` as peewee sees them. Their definition in SQL is in the migrations.

Times are seconds since the Unix epoch.
"""

from peewee import AutoField, BigIntegerField, BooleanField, DoubleField, IntegerField, Model, TextField


class EventRow(Model):
    """One thing that happened. Append-only: a trigger refuses changes."""

    id = BigIntegerField(primary_key=True)
    timestamp = DoubleField()
    parent_id = BigIntegerField(null=True)
    event_type = TextField()
    payload = TextField()

    class Meta:
        table_name = "events"


class InboxRow(Model):
    """One update from a commander, whether it is served or not."""

    id = AutoField()
    source = TextField()
    update_id = BigIntegerField()
    kind = TextField()
    chat_id = BigIntegerField()
    user_id = BigIntegerField(null=True)
    text = TextField()
    message_date = DoubleField(null=True)
    status = TextField()
    attempts = IntegerField(default=0)
    locked_at = DoubleField(null=True)
    not_before = DoubleField(null=True)
    error = TextField(default="")
    preview_message_id = BigIntegerField(null=True)
    replays = IntegerField(default=0)
    created_at = DoubleField()
    updated_at = DoubleField()

    class Meta:
        table_name = "inbox"


class HistoryRow(Model):
    """One message of a conversation, as the model sees it."""

    id = AutoField()
    chat_id = BigIntegerField()
    role = TextField()
    text = TextField()
    created_at = DoubleField()

    class Meta:
        table_name = "history"


class ChatRow(Model):
    """What is remembered of a chat: its context begins after the history row ``context_after``.

    Messages up to the inbox row ``anew_after`` belong to what was before the last fresh start.
    """

    chat_id = BigIntegerField(primary_key=True)
    context_after = IntegerField(default=0)
    anew_after = IntegerField(default=0)
    updated_at = DoubleField()

    class Meta:
        table_name = "chats"


class RunRow(Model):
    """The work on one message, over all its attempts. The two event ids are of events that have no end yet."""

    id = AutoField()
    inbox_id = IntegerField()
    chat_id = BigIntegerField()
    status = TextField()
    event_id = BigIntegerField(null=True)
    turn_event_id = BigIntegerField(null=True)
    seconds = DoubleField(default=0.0)
    fingerprint = TextField(default="")
    repeats = IntegerField(default=0)
    created_at = DoubleField()
    updated_at = DoubleField()

    class Meta:
        table_name = "runs"


class TurnRow(Model):
    """One answer of the model. One that is not ``kept`` cost its tokens, and was not an answer."""

    id = AutoField()
    run_id = IntegerField()
    event_id = BigIntegerField()
    kept = BooleanField()
    text = TextField()
    spoken_by = TextField(default="")
    input_tokens = IntegerField()
    output_tokens = IntegerField()
    created_at = DoubleField()

    class Meta:
        table_name = "turns"


class ToolCallRow(Model):
    """One call that the model asked for, and its result."""

    id = AutoField()
    run_id = IntegerField()
    turn_id = IntegerField()
    call_id = TextField()
    name = TextField()
    arguments = TextField()
    problem = TextField(default="")
    status = TextField()
    event_id = BigIntegerField(null=True)
    result = TextField(default="")
    updated_at = DoubleField()

    class Meta:
        table_name = "tool_calls"


class SummaryRow(Model):
    """What stands for a chat's history up to ``history_id``, and for a run's turns up to ``turn_id``.

    It holds as long as the chat's context begins after ``context_after``.
    """

    id = AutoField()
    chat_id = BigIntegerField()
    context_after = IntegerField()
    history_id = IntegerField()
    run_id = IntegerField(null=True)
    turn_id = IntegerField(null=True)
    text = TextField()
    files = TextField()
    created_at = DoubleField()

    class Meta:
        table_name = "summaries"


class OutboxRow(Model):
    """One answer on its way to a chat."""

    id = AutoField()
    chat_id = BigIntegerField()
    inbox_id = IntegerField(null=True)
    event_id = BigIntegerField(null=True)
    kind = TextField()
    text = TextField()
    status = TextField()
    parts_sent = IntegerField(default=0)
    message_id = BigIntegerField(null=True)
    replaces_message_id = BigIntegerField(null=True)
    error = TextField(default="")
    created_at = DoubleField()
    updated_at = DoubleField()

    class Meta:
        table_name = "outbox"


class RelayRow(Model):
    """One command on its way to the supervisor."""

    id = AutoField()
    chat_id = BigIntegerField()
    user_id = BigIntegerField()
    name = TextField()
    argument = TextField()
    created_at = DoubleField()
    answered_at = DoubleField(null=True)

    class Meta:
        table_name = "relays"


class PressRow(Model):
    """One pressed button on its way to the supervisor."""

    id = AutoField()
    data = TextField()
    user_id = BigIntegerField()
    chat_id = BigIntegerField()
    message_id = BigIntegerField()
    callback_id = TextField()
    created_at = DoubleField()
    answered_at = DoubleField(null=True)

    class Meta:
        table_name = "presses"


class DevelopmentRow(Model):
    """One update that was submitted from a chat."""

    id = AutoField()
    tx_id = TextField()
    chat_id = BigIntegerField()
    task_id = IntegerField(null=True)
    attempt = IntegerField()
    repairs = TextField()
    title = TextField()
    patch_sha256 = TextField()
    status = TextField()
    evidence = TextField()
    watched = BooleanField()
    message_id = BigIntegerField(null=True)
    created_at = DoubleField()
    updated_at = DoubleField()

    class Meta:
        table_name = "developments"


class LeaseRow(Model):
    """The epoch of the worker that may write. One row."""

    id = IntegerField(primary_key=True)
    epoch = IntegerField()
    updated_at = DoubleField()

    class Meta:
        table_name = "lease"


class MigrationRow(Model):
    """One migration that was applied."""

    number = IntegerField(primary_key=True)
    applied_at = DoubleField()

    class Meta:
        table_name = "migrations"


TABLES = (
    EventRow,
    InboxRow,
    HistoryRow,
    ChatRow,
    RunRow,
    TurnRow,
    ToolCallRow,
    SummaryRow,
    OutboxRow,
    RelayRow,
    PressRow,
    DevelopmentRow,
    LeaseRow,
    MigrationRow,
)
