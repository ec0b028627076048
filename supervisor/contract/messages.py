"""The messages of protocol 1 and the routes that carry them.

| route                           | request      | answer                                     |
|---------------------------------|--------------|--------------------------------------------|
| POST /v1/announce               | Announcement | Welcome; 409 Problem on a wrong sha        |
| GET  /v1/role                   | -            | stream of RoleGrant, one JSON object a line |
| POST /v1/beat                   | Beat         | RoleGrant                                  |
| POST /v1/claim                  | Claim        | Claimed                                    |
| POST /v1/updates                | Submission   | Submitted                                  |
| GET  /v1/updates/{tx_id}/progress | -          | stream of Progress, one JSON object a line |
| POST /v1/press                  | Press        | Pressed                                    |
| POST /v1/command                | Command      | Told                                       |
| GET  /v1/kept                   | -            | Kept                                       |
| POST /v1/kept/taken             | Taken        | Kept, what is left                         |
| POST /v1/toolbox/trouble        | ToolboxTrouble | ToolboxNoted                             |
| POST /v1/toolboxes              | ToolboxOrder | ToolboxOpened; 409 Problem                 |
| DELETE /v1/toolboxes/{toolbox_id} | -          | ToolboxNoted                               |
| GET  /v1/grants                 | -            | Grants                                     |
| POST /v1/grants                 | GrantOrder   | Grant; 409 Problem                         |
| POST /v1/grants/{number}/revoke | Revocation   | Grant; 409 Problem                         |
| GET  /v1/status, /v1/history    | -            | the JSON of ``supervisor status|history --json`` |

Every request carries ``Authorization: Bearer <credential>``, the credential that the supervisor made for that one
container, and ``Autonous-Protocol: <number>``. An unknown credential is answered with 401, a message that does not
fit with 422, both with a Problem.
"""

from enum import StrEnum
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

PROTOCOL: Final = 1


class Message(BaseModel):
    """Base of every message: immutable, and tolerant of fields that a newer side added."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Role(StrEnum):
    """What the supervisor wants a worker to be."""

    STANDBY = "standby"  # healthy, connected, takes no work and writes nothing but its own events
    ACTIVE = "active"  # holds the lease of the given epoch: polls, claims, sends
    DRAIN = "drain"  # store what comes in, start no run, finish what is in hand, then release
    EXIT = "exit"  # finish as in drain and end the process with code 0


class WorkerState(StrEnum):
    """What a worker says it is doing."""

    STARTING = "starting"
    STANDBY = "standby"
    ACTIVE = "active"
    DRAINING = "draining"
    RELEASED = "released"  # drained: holds no lease, has nothing in hand, polls nothing
    EXITING = "exiting"


class RoleGrant(Message):
    """The role of one worker. ``epoch`` is the lease's epoch and set only with the active role."""

    role: Role
    epoch: int | None = None
    serial: int = Field(default=0, description="rises with every change; an older serial never replaces a newer one")
    deadline_seconds: float | None = Field(default=None, description="with drain and exit: when the fence falls")
    kept: bool | None = Field(
        default=None, description="with active: whether updates were kept for it; when absent, it has to ask"
    )


class Announcement(Message):
    """The first words of a worker: what it is. Checked against what the supervisor started."""

    protocol: int = PROTOCOL
    sha: str
    version: str
    pid: int
    schema_version: int = Field(description="number of the last migration applied to agent.db")
    provider: str
    source: str


class Welcome(Message):
    """The answer to an announcement."""

    protocol: int = PROTOCOL
    instance: int
    beat_seconds: float
    grant: RoleGrant
    owners: list[int] = Field(default_factory=list, description="numeric Telegram user ids that may use the bot")


class Beat(Message):
    """Sent every ``beat_seconds`` by the loop that does the work, and at once on every change of state."""

    state: WorkerState
    epoch: int | None = None
    healthy: bool = True
    detail: str = Field(default="", description="one line; why it is not healthy")
    in_hand: int = Field(default=0, description="runs being worked on now")
    polls_ok: int = Field(default=0, description="successful polls since the process started")
    poll_error: str = Field(default="", description="the last poll's error, empty after a good one")
    internal_errors: int = Field(default=0, description="unexpected errors since the process started")
    model_error: str = Field(default="", description="the last run's error of the model, empty after a good run")
    progressed_seconds_ago: float | None = Field(default=None, description="age of the last progress of work in hand")


class Claim(Message):
    """Somebody sent ``/start <code>`` to a bot that has no owner yet."""

    code: str
    user_id: int
    chat_id: int


class Claimed(Message):
    """Whether the code was right, and who owns the bot now."""

    accepted: bool
    owners: list[int] = Field(default_factory=list)


class Submission(Message):
    """A patch to be turned into an update."""

    patch: str
    title: str = ""
    why: str = ""
    model: str = ""
    tokens: int = 0
    chat_id: int | None = None
    repairs: str = Field(default="", description="tx_id of the failed update that this one is to repair")


class Submitted(Message):
    """How far a submission got. ``code`` and ``reason`` say why when it was refused."""

    tx_id: str
    status: str
    code: str = ""
    reason: str = ""


class Progress(Message):
    """One step of an update, as it happens."""

    tx_id: str
    status: str
    event: str
    text: str = ""
    final: bool = Field(default=False, description="nothing follows: it waits for a person, or is over")
    evidence: str = Field(default="", description="after a failed gate: names of tests, and the tail of the log")


class Press(Message):
    """Somebody pressed a button of a message that the supervisor wrote: its data begins with ``s:``."""

    data: str
    user_id: int
    chat_id: int
    message_id: int
    callback_id: str


class Pressed(Message):
    """What came of a press. The supervisor has changed its message by itself; the worker answers the callback."""

    text: str = Field(default="", description="shown to who pressed it")
    alert: bool = False


class Command(Message):
    """A direct command of an owner that the supervisor answers: no model has a say in it.

    ``name`` is approve, cancel, rollback, history, show, diff, revision or status; an unknown one is answered by a Told
    that says so.
    """

    name: str
    argument: str = ""
    user_id: int
    chat_id: int


class Told(Message):
    """The answer to a command: text for the chat; empty when the supervisor has written there itself."""

    text: str = ""


class KeptUpdate(Message):
    """An update of the Bot API that came while no worker ran."""

    id: int
    raw: str = Field(description="the JSON of the Bot API's Update")
    answered: bool = Field(default=False, description="the supervisor has answered it: to be stored, and no more")


class Kept(Message):
    """Everything that was kept for the next active worker, oldest first. To be stored before its first poll."""

    updates: list[KeptUpdate] = Field(default_factory=list)


class Taken(Message):
    """These are stored; the supervisor deletes them."""

    ids: list[int]


class ToolboxTrouble(Message):
    """The toolbox lives and does not answer: it is to be made anew. ``reason`` is one line."""

    reason: str


class ToolboxNoted(Message):
    """It will be done, or is done already."""


class ToolboxOrder(Message):
    """One tool call was granted the network; asked for by the active worker alone. Only a hash of the call is told."""

    call_sha256: str
    chat_id: int
    timeout_seconds: float = Field(description="how long the call may take; the toolbox goes soon after")


class ToolboxOpened(Message):
    """A toolbox with a network, for this one call. ``socket`` is where the worker finds it."""

    toolbox_id: str
    socket: str


class GrantOrder(Message):
    """An owner lets the tools into a directory of the host for a time."""

    path: str
    mode: str = Field(description="ro or rw")
    hours: float
    why: str = ""
    user_id: int
    chat_id: int


class Grant(Message):
    """A directory of the host that is open to the tools until ``ends_at``, in seconds since the Unix epoch."""

    number: int
    path: str
    mode: str
    ends_at: float
    why: str = ""
    user_id: int = 0
    in_force: bool = Field(
        default=True, description="false while a call in hand keeps the toolbox from being made anew"
    )


class Grants(Message):
    """What is granted now, and where more may be granted at all."""

    grants: list[Grant] = Field(default_factory=list)
    grantable_roots: list[str] = Field(default_factory=list)


class Revocation(Message):
    """An owner takes a grant back, at once."""

    user_id: int
    chat_id: int


class Problem(Message):
    """An answer that is not what was asked for."""

    code: str
    reason: str
