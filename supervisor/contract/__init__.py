"""What a worker and its supervisor say to each other: pure data, no I/O.

HTTP and JSON over a Unix socket that the supervisor serves and the worker dials. This package is baked into
every worker image from the trusted tree, and it is the only part of ``supervisor`` that a worker may import.

The protocol is additive only: after a rollback an old worker meets a new supervisor, so a field is never removed
or given another meaning, a new field has a default, and unknown fields and unknown routes are ignored by both.
"""

from supervisor.contract.events import EventType
from supervisor.contract.ids import EventIds, Side
from supervisor.contract.messages import (
    PROTOCOL,
    Announcement,
    Beat,
    Claim,
    Claimed,
    Command,
    Grant,
    GrantOrder,
    Grants,
    Kept,
    KeptUpdate,
    Press,
    Pressed,
    Problem,
    Progress,
    Revocation,
    Role,
    RoleGrant,
    Submission,
    Submitted,
    Taken,
    Told,
    ToolboxNoted,
    ToolboxOpened,
    ToolboxOrder,
    ToolboxTrouble,
    Welcome,
    WorkerState,
)
from supervisor.contract.redaction import Redactor

__all__ = [
    "PROTOCOL",
    "Announcement",
    "Beat",
    "Claim",
    "Claimed",
    "Command",
    "EventIds",
    "EventType",
    "Grant",
    "GrantOrder",
    "Grants",
    "Kept",
    "KeptUpdate",
    "Press",
    "Pressed",
    "Problem",
    "Progress",
    "Redactor",
    "Revocation",
    "Role",
    "RoleGrant",
    "Side",
    "Submission",
    "Submitted",
    "Taken",
    "Told",
    "ToolboxNoted",
    "ToolboxOpened",
    "ToolboxOrder",
    "ToolboxTrouble",
    "Welcome",
    "WorkerState",
]
