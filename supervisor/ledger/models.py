"""The tables as peewee models. They are bound to no database: every query is given the ledger's own."""

import json
from dataclasses import fields
from enum import StrEnum
from typing import Any, Final

from peewee import (
    SQL,
    BigIntegerField,
    BlobField,
    BooleanField,
    DoubleField,
    IntegerField,
    Model,
    TextField,
)

from supervisor.ledger.values import Access, Action, Blame, CardKind, CardState, EndingState, Origin
from supervisor.states import Status


def compact(value: object) -> str:
    """JSON without spaces. Raises TypeError or ValueError for what JSON does not know."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    # A lone surrogate (half a character, from an odd file name) cannot be stored as text; as a JSON escape it can.
    return text.encode("utf-8", "backslashreplace").decode()


class JsonField(TextField):
    """Compact JSON in a text column."""

    def db_value(self, value: object) -> str | None:
        """As it is stored."""
        return None if value is None else compact(value)

    def python_value(self, value: str | None) -> Any:
        """As it is used."""
        return None if value is None else json.loads(value)


class EnumField(TextField):
    """A word of one vocabulary in a text column."""

    def __init__(self, words: type[StrEnum], **options: Any) -> None:
        self._words = words
        super().__init__(**options)

    def db_value(self, value: str | None) -> str | None:
        """As it is stored; ValueError when it is no word of the vocabulary."""
        return None if value is None else self._words(value).value

    def python_value(self, value: str | None) -> StrEnum | None:
        """As it is used."""
        return None if value is None else self._words(value)


def _table_name(model: type[Model]) -> str:
    return model.__name__.removesuffix("Record").lower() + "s"


class Table(Model):
    """Base of the tables."""

    class Meta:
        """Options that every table inherits."""

        table_function = _table_name


def columns(record: type[Table], row: type) -> SQL:
    """What fills the fields of a dataclass ``row``, for queries of that table alone.

    As text, since to render every column for every query costs several times what SQLite needs to run it.
    """
    named = (getattr(record, field.name).column_name for field in fields(row))
    return SQL(", ".join(f'"t1"."{name}"' for name in named))


class EventRecord(Table):
    """The append-only log."""

    id = BigIntegerField(primary_key=True)
    timestamp = DoubleField()
    parent_id = BigIntegerField(null=True)
    event_type = TextField()
    payload = TextField()


class Artifact(Table):
    """Updates."""

    tx_id = TextField(primary_key=True)
    base_tx_id = TextField(null=True)
    status = EnumField(Status)
    base_sha = TextField(null=True)
    sha = TextField(null=True)
    tree = TextField(null=True)
    patch_id = TextField(null=True)
    patch = BlobField()
    origin = EnumField(Origin)
    title = TextField()
    why = TextField()
    model = TextField()
    tokens = BigIntegerField()
    chat_id = BigIntegerField(null=True)
    forced = BooleanField()
    dependencies = JsonField(null=True)
    lock = TextField(null=True)
    deps_image_id = TextField(null=True)
    image_id = TextField(null=True)
    image_tag = TextField(null=True)
    digest = TextField(null=True)
    changes = JsonField()
    card = JsonField()
    size_bytes = BigIntegerField(null=True)
    unique_bytes = BigIntegerField(null=True)
    build_started_at = DoubleField(null=True)
    build_finished_at = DoubleField(null=True)
    test_started_at = DoubleField(null=True)
    test_finished_at = DoubleField(null=True)
    test_summary = JsonField(null=True)
    self_check_started_at = DoubleField(null=True)
    self_check_finished_at = DoubleField(null=True)
    self_check_summary = JsonField(null=True)
    approval_by = TextField(null=True)
    approval_at = DoubleField(null=True)
    approval_digest = TextField(null=True)
    deploy_started_at = DoubleField(null=True)
    deploy_finished_at = DoubleField(null=True)
    promoted_at = DoubleField(null=True)
    snapshot = TextField(null=True)
    code = TextField(null=True)
    blame = EnumField(Blame, null=True)
    last_error = TextField(null=True)
    event_id = BigIntegerField()
    created_at = DoubleField()
    updated_at = DoubleField()
    repairs = TextField(null=True)
    supersedes = TextField(null=True)


class WorkerRecord(Table):
    """Workers, living and ended."""

    worker_id = TextField(primary_key=True)
    instance = IntegerField()
    tx_id = TextField(null=True)
    sha = TextField()
    image_id = TextField()
    credential_sha256 = TextField(unique=True)
    event_id = BigIntegerField()
    spawned_at = DoubleField()
    ready_at = DoubleField(null=True)
    exited_at = DoubleField(null=True)
    exit_code = IntegerField(null=True)
    oom = BooleanField()
    reason = TextField(null=True)
    uptime_seconds = DoubleField(null=True)
    crashed = BooleanField()


class LeaseRecord(Table):
    """Every lease that was granted, one row an epoch."""

    epoch = IntegerField(primary_key=True)
    worker_id = TextField()
    granted_at = DoubleField()


class Owner(Table):
    """Who may use the bot."""

    user_id = BigIntegerField(primary_key=True)
    chat_id = BigIntegerField()
    claimed_at = DoubleField()


class Fact(Table):
    """Small things to remember, by name."""

    key = TextField(primary_key=True)
    value = TextField()
    updated_at = DoubleField()


class GrantRecord(Table):
    """Directories of the host that were opened to the tools for a time."""

    number = IntegerField(primary_key=True)
    path = TextField()
    mode = EnumField(Access)
    why = TextField()
    user_id = BigIntegerField()
    chat_id = BigIntegerField()
    place = TextField()
    event_id = BigIntegerField()
    created_at = DoubleField()
    ends_at = DoubleField()
    ended_at = DoubleField(null=True)


class CardRecord(Table):
    """Messages with buttons that the supervisor has written, or is about to."""

    id = IntegerField(primary_key=True)
    tx_id = TextField()
    kind = EnumField(CardKind)
    state = EnumField(CardState)
    chat_id = BigIntegerField()
    message_id = BigIntegerField(null=True)
    document_id = BigIntegerField(null=True)
    digest = TextField(null=True)
    shown = TextField()
    urgent = BooleanField()
    expires_at = DoubleField(null=True)
    created_at = DoubleField()
    updated_at = DoubleField()


class Nonce(Table):
    """What each button of a card is worth, by the SHA-256 of its nonce."""

    nonce_sha256 = TextField(primary_key=True)
    card_id = IntegerField()
    action = EnumField(Action)
    spent_at = DoubleField(null=True)
    spent_by = BigIntegerField(null=True)


class Ending(Table):
    """Final words that were sent, or begun to be."""

    id = TextField(primary_key=True)
    state = EnumField(EndingState)
    told_at = DoubleField()


class KeptRecord(Table):
    """Updates of the bot that came while no worker ran, as the Bot API wrote them."""

    id = IntegerField(primary_key=True)
    source = TextField()
    update_id = BigIntegerField()
    body = TextField(column_name="raw")
    commanded = BooleanField()
    answered = BooleanField()
    kept_at = DoubleField()

    class Meta:
        """Options."""

        table_name = "kept_updates"


class Notice(Table):
    """What the owner is to be told once."""

    key = TextField(primary_key=True)
    text = TextField()
    made_at = DoubleField()
    told_at = DoubleField(null=True)


class ProbationRecord(Table):
    """How much of its probation an update has left, and since when that runs; null while it stands still."""

    tx_id = TextField(primary_key=True)
    seconds_left = DoubleField()
    counts_since = DoubleField(null=True)


class AttemptRecord(Table):
    """How often a step of an update was cut by what is outside of it."""

    id = TextField(primary_key=True)
    count = IntegerField()


MODELS: Final[tuple[type[Table], ...]] = (
    EventRecord,
    Artifact,
    WorkerRecord,
    LeaseRecord,
    Owner,
    Fact,
    CardRecord,
    Nonce,
    Ending,
    GrantRecord,
    KeptRecord,
    Notice,
    ProbationRecord,
    AttemptRecord,
)
