"""What the ledger takes and gives: immutable values. All times are seconds since the Unix epoch."""

import json
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any, Final

from supervisor.states import Status


class Origin(StrEnum):
    """Where an update came from."""

    GENESIS = "genesis"
    CLI = "cli"
    CHAT = "chat"
    UPSTREAM = "upstream"


class Blame(StrEnum):
    """Whose fault an update's end was. Only ``own`` counts against the revision."""

    OWN = "own"
    EXTERNAL = "external"
    PERSON = "person"


#: The code of an update that could not reach the Bot API.
NO_POLL: Final = "no_poll"


class CardKind(StrEnum):
    """What a card asks."""

    APPROVAL = "approval"
    CANCEL = "cancel"
    ROLLBACK = "rollback"


class CardState(StrEnum):
    """What became of a card."""

    QUEUED = "queued"
    SENDING = "sending"  # begun; nobody knows yet whether the chat has it
    OPEN = "open"  # its buttons count
    FOLLOWING = "following"  # no buttons any more, and still shows what becomes of the update
    CLOSED = "closed"  # another has taken its place, or it could not be sent


class EndingState(StrEnum):
    """What became of final words."""

    SENDING = "sending"  # begun; nobody knows whether the chat has them, and they are not sent again
    TOLD = "told"


class Action(StrEnum):
    """What a button does."""

    APPROVE = "approve"
    REJECT = "reject"
    CANCEL = "cancel"
    ROLLBACK = "rollback"
    KEEP = "keep"


class Access(StrEnum):
    """What a grant lets the tools do."""

    READ_ONLY = "ro"
    READ_WRITE = "rw"


@dataclass(frozen=True, kw_only=True, slots=True)
class NewGrant:
    """A directory of the host that an owner opens to the tools. ``place`` tells it from another one at its path."""

    path: str
    mode: Access
    why: str
    user_id: int
    chat_id: int
    place: str
    ends_at: float


@dataclass(frozen=True, kw_only=True, slots=True)
class GrantRow:
    """A grant as it stands in the ledger; it is over when ``ended_at`` is set, or ``ends_at`` has come."""

    number: int
    path: str
    mode: Access
    why: str
    user_id: int
    chat_id: int
    place: str
    event_id: int
    created_at: float
    ends_at: float
    ended_at: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class NewUpdate:
    """A submission, as it enters the ledger. ``tx_id`` is made there unless it had to be known before."""

    tx_id: str | None = None
    origin: Origin
    patch: bytes = b""
    base_tx_id: str | None = None
    base_sha: str | None = None
    title: str = ""
    why: str = ""
    model: str = ""
    tokens: int = 0
    chat_id: int | None = None
    forced: bool = False
    repairs: str | None = None
    supersedes: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Update:
    """One row of ``artifacts``, without the patch: ``Ledger.patch`` fetches that."""

    tx_id: str
    base_tx_id: str | None
    status: Status
    base_sha: str | None
    sha: str | None
    tree: str | None
    patch_id: str | None
    origin: Origin
    title: str
    why: str
    model: str
    tokens: int
    chat_id: int | None
    forced: bool
    dependencies: dict[str, Any] | None  # the packages that it asks for: lock_sha256, and each of them
    deps_image_id: str | None
    image_id: str | None
    image_tag: str | None
    digest: str | None  # binds all that an approval is for
    changes: list[dict[str, Any]]  # one entry a file: path, kind, added, deleted
    card: dict[str, Any]
    size_bytes: int | None
    unique_bytes: int | None  # what this image added to those before it
    build_started_at: float | None
    build_finished_at: float | None
    test_started_at: float | None
    test_finished_at: float | None
    test_summary: dict[str, Any] | None
    self_check_started_at: float | None
    self_check_finished_at: float | None
    self_check_summary: dict[str, Any] | None
    approval_by: str | None
    approval_at: float | None
    approval_digest: str | None
    deploy_started_at: float | None
    deploy_finished_at: float | None
    promoted_at: float | None
    snapshot: str | None  # agent.db as it was before the deploy
    code: str | None  # why it was refused or failed, for programs
    blame: Blame | None  # None also while it is open, see blame_open
    last_error: str | None  # the same for people
    event_id: int  # its update.txn.created: the parent of all its other events
    created_at: float
    updated_at: float
    repairs: str | None = None  # the failed update that this one is another attempt at
    supersedes: str | None = None  # the update that this one is, on a newer base

    @property
    def gates_pending(self) -> bool:
        """Whether it was approved and still has to pass its gates, on the packages that it asked for."""
        approved = self.status in (Status.APPROVED, Status.DEPLOYING)
        return approved and self.dependencies is not None and self.self_check_finished_at is None

    @property
    def blame_open(self) -> bool:
        """Whether it could not poll, and is to blame unless the revision before turns out to be unable to as well."""
        return self.blame is None and self.code == NO_POLL

    @property
    def revision(self) -> "Revision":
        """What the patch became. Raises ValueError for an update that was never built."""
        if not (self.sha and self.tree and self.image_id and self.image_tag and self.deps_image_id):
            raise ValueError(f"update {self.tx_id} made no image")
        return Revision(
            tx_id=self.tx_id,
            base_sha=self.base_sha,
            sha=self.sha,
            tree=self.tree,
            patch_id=self.patch_id,
            deps_image_id=self.deps_image_id,
            image_id=self.image_id,
            image_tag=self.image_tag,
            event_id=self.event_id,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Revision:
    """A commit with its image: what can be run. ``base_sha`` is None for the first one alone."""

    tx_id: str
    base_sha: str | None
    sha: str
    tree: str
    patch_id: str | None
    deps_image_id: str
    image_id: str
    image_tag: str
    event_id: int


#: What a submission says, and what only the ledger writes. Everything else may be changed along the way.
FIXED_COLUMNS: Final = frozenset(
    {"tx_id", "status", "patch", "origin", "event_id", "created_at", "updated_at", "repairs", "supersedes"}
)
CHANGEABLE_COLUMNS: Final = frozenset({"lock", *(f.name for f in fields(Update))}) - FIXED_COLUMNS


@dataclass(frozen=True, kw_only=True, slots=True)
class NewWorker:
    """A worker that is about to be started."""

    worker_id: str
    sha: str
    image_id: str
    credential: str = field(repr=False)  # only its SHA-256 is kept
    tx_id: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerRow:
    """One container that was started as a worker. It lives while ``exited_at`` is None."""

    worker_id: str
    instance: int
    tx_id: str | None
    sha: str
    image_id: str
    event_id: int  # its worker.spawned: the parent of all its other events, also of those in its own database
    spawned_at: float
    ready_at: float | None
    exited_at: float | None
    exit_code: int | None
    oom: bool
    reason: str | None
    uptime_seconds: float | None
    crashed: bool  # it ended by its own fault
    credential_sha256: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to poll, claim and send. The one with the highest epoch is the only valid one."""

    epoch: int
    worker_id: str
    granted_at: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Card:
    """A message of the supervisor's about one update, with the buttons that decide on it."""

    id: int
    tx_id: str
    kind: CardKind
    state: CardState
    chat_id: int
    message_id: int | None
    document_id: int | None  # the message with the whole diff; 0 when nobody knows whether the chat has it
    digest: str | None  # of the update, as it was when the card was made
    shown: str  # the status that the message shows; empty before it was sent
    urgent: bool  # somebody asked for it: before all others of its chat
    expires_at: float | None
    created_at: float
    updated_at: float


@dataclass(frozen=True, slots=True)
class Button:
    """One button of a card, as it was found by its nonce."""

    nonce_sha256: str
    action: Action
    card: Card
    spent: bool


@dataclass(frozen=True, slots=True)
class Event:
    """One row of an ``events`` table. ``payload_json`` is what stands there, undecoded."""

    id: int
    timestamp: float
    parent_id: int | None
    event_type: str
    payload_json: str

    @property
    def payload(self) -> dict[str, Any]:
        """The decoded payload."""
        decoded: dict[str, Any] = json.loads(self.payload_json)
        return decoded
