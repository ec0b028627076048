"""Protocol 1 as it was agreed, in files that are never edited except to add a field.

After a rollback an old worker meets a new supervisor: what these files hold is what it says and understands. Each full
file sets every field; ``minimal`` holds what was required from the start, and no more.
"""

import enum
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import Field, ValidationError, create_model

from supervisor import contract
from supervisor.contract import PROTOCOL, Beat, Role, WorkerState
from supervisor.contract.messages import Message

GOLDEN = Path(__file__).parent / "golden" / f"protocol-{PROTOCOL}"
MESSAGES: dict[str, type[Message]] = {
    "announcement": contract.Announcement,
    "beat": contract.Beat,
    "claim": contract.Claim,
    "claimed": contract.Claimed,
    "command": contract.Command,
    "grant": contract.Grant,
    "grant_order": contract.GrantOrder,
    "grants": contract.Grants,
    "kept": contract.Kept,
    "kept_update": contract.KeptUpdate,
    "press": contract.Press,
    "pressed": contract.Pressed,
    "problem": contract.Problem,
    "progress": contract.Progress,
    "revocation": contract.Revocation,
    "role_grant": contract.RoleGrant,
    "submission": contract.Submission,
    "submitted": contract.Submitted,
    "taken": contract.Taken,
    "told": contract.Told,
    "toolbox_noted": contract.ToolboxNoted,
    "toolbox_opened": contract.ToolboxOpened,
    "toolbox_order": contract.ToolboxOrder,
    "toolbox_trouble": contract.ToolboxTrouble,
    "welcome": contract.Welcome,
}
#: What a reader makes of the fields that a minimal message leaves out.
DEFAULTS: dict[str, dict[str, Any]] = {
    "announcement": {"protocol": 1},
    "beat": {
        "epoch": None,
        "healthy": True,
        "detail": "",
        "in_hand": 0,
        "polls_ok": 0,
        "poll_error": "",
        "internal_errors": 0,
        "model_error": "",
        "progressed_seconds_ago": None,
    },
    "claim": {},
    "claimed": {"owners": []},
    "command": {"argument": ""},
    "grant": {"why": "", "user_id": 0, "in_force": True},
    "grant_order": {"why": ""},
    "grants": {"grants": [], "grantable_roots": []},
    "kept": {"updates": []},
    "kept_update": {"answered": False},
    "press": {},
    "pressed": {"text": "", "alert": False},
    "problem": {},
    "progress": {"text": "", "final": False, "evidence": ""},
    "revocation": {},
    "role_grant": {"epoch": None, "serial": 0, "deadline_seconds": None, "kept": None},
    "submission": {"title": "", "why": "", "model": "", "tokens": 0, "chat_id": None, "repairs": ""},
    "submitted": {"code": "", "reason": ""},
    "taken": {},
    "told": {"text": ""},
    "toolbox_noted": {},
    "toolbox_opened": {},
    "toolbox_order": {},
    "toolbox_trouble": {},
    "welcome": {
        "protocol": 1,
        "owners": [],
        "grant": {"role": "standby", "epoch": None, "serial": 0, "deadline_seconds": None, "kept": None},
    },
}


def golden(name: str) -> str:
    return (GOLDEN / f"{name}.json").read_text()


def breaks(kind: type[Message], text: str) -> Iterator[str]:
    """What of a golden file this type does not read and write exactly as it stands."""
    try:
        read = kind.model_validate_json(text)
    except ValidationError as error:
        yield f"it is not read any more: {error}"
        return
    # Fields that were added since are left out: the file is older than they are.
    if (written := read.model_dump_json(indent=2, exclude_unset=True) + "\n") != text:
        yield f"it is written otherwise: {written}"


@pytest.mark.parametrize("name", MESSAGES)
def test_each_message_is_read_and_written_as_it_always_was(name: str) -> None:
    """Today's types read the golden file and write the very same bytes."""
    assert list(breaks(MESSAGES[name], golden(name))) == []


@pytest.mark.parametrize("name", MESSAGES)
def test_a_message_with_only_what_was_required_from_the_start_is_understood(name: str) -> None:
    """No field became required since, and each that is left out means what it always did."""
    text = golden(f"minimal/{name}")
    read = MESSAGES[name].model_validate_json(text)
    assert read.model_dump(mode="json") == {**json.loads(text), **DEFAULTS[name]}


@pytest.mark.parametrize("name", MESSAGES)
def test_fields_that_a_newer_side_added_are_ignored(name: str) -> None:
    """At any depth, whatever their type."""

    def grown(value: Any) -> Any:
        if isinstance(value, dict):
            return {**{key: grown(item) for key, item in value.items()}, "added_later": {"deep": [1, None]}}
        return value

    kind = MESSAGES[name]
    assert kind.model_validate(grown(json.loads(golden(name)))) == kind.model_validate_json(golden(name))


@pytest.mark.parametrize("name", MESSAGES)
def test_the_golden_file_knows_every_field(name: str) -> None:
    """A field that is added to a message is added here too, and is watched from then on."""
    assert set(json.loads(golden(name))) == set(MESSAGES[name].model_fields)


def test_there_is_a_file_for_every_message() -> None:
    """Both directions: whatever the contract exports as a message has its files, and no file is forgotten."""
    exported = {
        value for value in vars(contract).values() if isinstance(value, type) and issubclass(value, Message)
    } - {Message}
    assert exported == set(MESSAGES.values())
    assert {path.stem for path in GOLDEN.glob("*.json")} == {*MESSAGES, "words"}
    assert {path.stem for path in (GOLDEN / "minimal").glob("*.json")} == set(MESSAGES)


@pytest.mark.parametrize("kind", [Role, WorkerState])
def test_the_words_are_those_of_the_protocol(kind: type[enum.StrEnum]) -> None:
    """A role that an old worker does not know would end its stream, so none is added, renamed or taken away."""
    assert [str(word) for word in kind] == json.loads(golden("words"))[kind.__name__]


def changed(**fields: Any) -> type[Message]:
    """A Beat with some fields defined otherwise, or without them where that is None."""
    kept: dict[str, Any] = {
        name: (field.annotation, field) for name, field in Beat.model_fields.items() if name not in fields
    }
    return create_model("Beat", __base__=Message, **kept, **{k: v for k, v in fields.items() if v is not None})


BREAKING = {
    "removed": changed(polls_ok=None),
    "removed, required": changed(state=None),
    "renamed": changed(polls_ok=None, polls_succeeded=(int, 0)),
    "another type": changed(in_hand=(bool, False)),
    "a new required field": changed(load=(float, Field())),
    "fewer words": changed(state=(enum.StrEnum("Few", {"STANDBY": "standby"}), Field())),
}


@pytest.mark.parametrize("change", BREAKING)
def test_a_breaking_change_of_a_message_is_found(change: str) -> None:
    """The comparison above sees a field that was removed, renamed, retyped or added as required."""
    assert list(breaks(BREAKING[change], golden("beat")))


def test_an_added_field_with_a_default_breaks_nothing() -> None:
    """Which is the one change that the protocol allows."""
    assert list(breaks(changed(load=(float, 0.0)), golden("beat"))) == []
