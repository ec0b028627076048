# ruff: noqa: D106 - a Meta class says nothing but the name of its table
"""The tables of ``agent.db`` as peewee sees them. Their definition in SQL is in the migrations.

Times are seconds since the Unix epoch.
"""

from peewee import AutoField, BigIntegerField, DoubleField, IntegerField, Model, TextField


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
    error = TextField(default="")
    created_at = DoubleField()
    updated_at = DoubleField()

    class Meta:
        table_name = "outbox"


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


TABLES = (EventRow, InboxRow, HistoryRow, OutboxRow, LeaseRow, MigrationRow)
