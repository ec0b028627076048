"""What ``--json`` prints, command by command. ``docs/json.md`` is made from this, and the tests hold both to it."""

from typing import Any, Final, Literal, NotRequired

from pydantic import ConfigDict, TypeAdapter, with_config
from typing_extensions import TypedDict

from supervisor.ledger import Update

_EXACT: Final = ConfigDict(extra="forbid")
_Health = Literal["starting", "healthy", "unhealthy"]


@with_config(_EXACT)
class _Standby(TypedDict):
    sha: str
    tx_id: str
    container: str
    health: _Health
    since: float


@with_config(_EXACT)
class _Active(TypedDict):
    sha: str
    tx_id: str
    container: str
    health: _Health
    epoch: int
    since: float


@with_config(_EXACT)
class _Previous(TypedDict):
    sha: str
    tx_id: str
    image_id: str


@with_config(_EXACT)
class _Pending(TypedDict):
    tx_id: str
    status: str
    title: str
    sha: str | None


@with_config(_EXACT)
class _Renewal(TypedDict):
    state: Literal["waiting", "failed"]
    reason: str


@with_config(_EXACT)
class _Status(TypedDict):
    running: bool
    active: _Active | None
    standby: _Standby | None
    previous: _Previous | None
    pending: list[_Pending]
    paused: NotRequired[str]
    trouble: NotRequired[list[str]]
    renewal: NotRequired[_Renewal]


@with_config(_EXACT)
class _Tests(TypedDict):
    passed: int
    failed: int
    skipped: int


@with_config(_EXACT)
class _Entry(TypedDict):
    tx_id: str
    status: str
    title: str
    sha: str | None
    base_sha: str | None
    image_id: str | None
    image_tag: str | None
    size_bytes: int | None
    unique_bytes: int | None
    created_at: float
    build_seconds: float | None
    test_seconds: float | None
    tests: _Tests | None
    approved_by: str | None
    deployed_at: float | None
    promoted_at: float | None
    active: bool
    n_minus_1: bool
    reason: str


@with_config(_EXACT)
class _Submitted(TypedDict):
    tx_id: str
    status: str
    code: str
    reason: str


@with_config(_EXACT)
class _Conflict(TypedDict):
    path: str
    reason: str


@with_config(_EXACT)
class _Upgraded(TypedDict):
    tx_id: str | None
    status: str
    code: str
    reason: str
    conflicts: NotRequired[list[_Conflict]]


@with_config(_EXACT)
class _Decided(TypedDict):
    tx_id: str
    status: str
    reason: str


@with_config(_EXACT)
class _Event(TypedDict):
    id: int
    timestamp: float
    parent_id: int | None
    event_type: str
    payload: Any
    children: list["_Event"]


@with_config(_EXACT)
class _Reply(TypedDict):
    message_id: int
    text: str
    buttons: list[str]


@with_config(_EXACT)
class _Replies(TypedDict):
    replies: list[_Reply]


@with_config(_EXACT)
class _Finding(TypedDict):
    check: str
    level: Literal["ok", "warn", "fail"]
    what: str
    remedy: str


@with_config(_EXACT)
class _Findings(TypedDict):
    ok: bool
    findings: list[_Finding]


@with_config(_EXACT)
class _Image(TypedDict):
    image_id: str
    tag: str
    role: Literal["worker", "deps"]
    sha: str | None
    tx_id: str | None
    title: str
    size_bytes: int
    unique_bytes: int | None
    reasons: list[str]
    active: bool
    n_minus_1: bool


@with_config(_EXACT)
class _Collected(TypedDict):
    dry_run: bool
    images: list[_Image]
    snapshots: list[str]


@with_config(_EXACT)
class _Record(TypedDict):
    table: str
    row: dict[str, Any]


@with_config(_EXACT)
class _Restored(TypedDict):
    """What was carried across, by table, and where the state is that was replaced."""

    tx_id: str
    carried: dict[str, int]
    replaced: str
    lost: str


@with_config(_EXACT)
class _Forgotten(TypedDict):
    chat_id: int
    rows: dict[str, int]
    events: int
    snapshots: int
    pruned_events: int
    local_bot_messages: int


@with_config(_EXACT)
class _Pruned(TypedDict):
    older_than_days: int
    dry_run: bool
    supervisor: int
    worker: int
    file: str | None


@with_config(_EXACT)
class _Diff(TypedDict):
    tx_id: str
    base_sha: str
    sha: str
    patch: str


@with_config(_EXACT)
class _Source(TypedDict):
    sha: str
    directory: str


@with_config(_EXACT)
class _Log(TypedDict):
    log: str
    text: str


@with_config(_EXACT)
class _Cost(TypedDict):
    day: NotRequired[str]
    run: NotRequired[str]
    chat: NotRequired[str]
    revision: NotRequired[str]
    calls: int
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    cost_usd: float
    unpriced: int


#: By the words of the command line. Times are seconds since the epoch, sizes bytes.
SHAPES: Final[dict[str, TypeAdapter[Any]]] = {
    "status": TypeAdapter(_Status),
    "history": TypeAdapter(list[_Entry]),
    "show TX": TypeAdapter(Update),
    "diff TX": TypeAdapter(_Diff),
    "source DIR": TypeAdapter(_Source),
    "logs, logs TX": TypeAdapter(list[_Log]),
    "submit FILE": TypeAdapter(_Submitted),
    "upgrade": TypeAdapter(_Upgraded),
    "approve TX, cancel TX, rollback TX": TypeAdapter(_Decided),
    "events": TypeAdapter(list[_Event]),
    "cost": TypeAdapter(list[_Cost]),
    "say TEXT": TypeAdapter(_Replies),
    "images": TypeAdapter(list[_Image]),
    "gc": TypeAdapter(_Collected),
    "doctor": TypeAdapter(_Findings),
    "export --chat ID": TypeAdapter(_Record),
    "forget --chat ID": TypeAdapter(_Forgotten),
    "restore TX": TypeAdapter(_Restored),
    "prune --older-than DAYS": TypeAdapter(_Pruned),
}


_HEAD: Final = """# What `--json` prints

<!-- made by scripts/schemas from supervisor/cli/shapes.py -->

Command by command, in TypeScript's notation; `?` marks what is there only at times. Times are seconds since the Unix
epoch, sizes are bytes, a `tx_id` is always whole. `export` prints one such value a line,
without being asked. Later versions may add fields, and take none away.
"""


def page() -> str:
    """``docs/json.md``."""
    parts = [_HEAD]
    for command, adapter in SHAPES.items():
        schema = adapter.json_schema(mode="serialization")
        parts.append(f"## `supervisor {command}`\n\n```ts\n{_written(schema, schema.get('$defs', {}))}\n```\n")
    return "\n".join(parts)


def _written(schema: dict[str, Any], defined: dict[str, Any], indent: str = "", within: str = "") -> str:
    """A JSON schema as a type; one that holds itself is written as what its name says."""
    if reference := schema.get("$ref"):
        name = reference.rpartition("/")[2]
        own = name.strip("_")
        return own if within == name else _written(defined[name], defined, indent, name)
    if choices := schema.get("anyOf"):
        return " | ".join(_written(choice, defined, indent, within) for choice in choices)
    if words := schema.get("enum"):
        return " | ".join(f'"{word}"' for word in words)
    kind = str(schema.get("type", "any"))
    if kind == "array":
        item = _written(schema.get("items", {}), defined, indent, within)
        return f"({item})[]" if " | " in item and not item.startswith("{") else f"{item}[]"
    fields = schema.get("properties")
    if kind != "object" or fields is None:
        return {"integer": "number", "object": "{[name: string]: any}"}.get(kind, kind)
    deeper = f"{indent}  "
    lines = [
        f"{deeper}{name}{'' if name in schema.get('required', ()) else '?'}: "
        f"{_written(field, defined, deeper, within)}\n"
        for name, field in fields.items()
    ]
    return f"{{\n{''.join(lines)}{indent}}}"
