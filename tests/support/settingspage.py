"""Every setting, for ``docs/settings.md``: names, defaults and what is allowed are those of the two models, and what
they mean is in the comments above the fields.
"""

import ast
import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from supervisor.settings import SECRET_NAMES, WORKER_NAMES
from supervisor.settings import Settings as Supervisors
from worker.control.tiers import TierPolicy
from worker.scripts import Step
from worker.settings import Settings as Workers

PAGE = Path(__file__).resolve().parents[2] / "docs" / "settings.md"
#: By their names' beginnings; the first that fits counts.
SUBJECTS: Mapping[str, tuple[str, ...]] = {
    "The bot": ("TELEGRAM_", "TG_", "AUTONOUS_TELEGRAM_", "AUTONOUS_COMMANDER", "AUTONOUS_MAX_CONCURRENT_CHATS"),
    "The model": ("OPENAI_", "ANTHROPIC_", "GEMINI_", "AUTONOUS_OPENAI_", "AUTONOUS_MODEL_", "AUTONOUS_EMB", "WORKER_"),
    "What a message and a day may cost, and what comes after a failure": ("AUTONOUS_CONTROL_", "AUTONOUS_BUDGET_"),
    "Tools": ("AUTONOUS_TOOL_", "AUTONOUS_GRANTABLE_"),
    "Updates": ("AUTONOUS_APPROVAL", "AUTONOUS_ALLOW_", "AUTONOUS_UPDATE_", "AUTONOUS_DRAIN_", "SUPERVISOR_"),
    "The installation": ("AUTONOUS_HOME", "AUTONOUS_PROJECT", "AUTONOUS_MIN_FREE_BYTES"),
    "The dummies": ("AUTONOUS_DUMMY_",),
}
#: What is no setting of a supervisor.
ALONE = "Of a worker alone"
_HEAD = """# Settings

<!-- made by scripts/settings from the models in supervisor/settings.py and worker/settings.py -->

Each is a variable of the environment, or a `NAME=value` line in `.env` at the root of the checkout; the environment
wins. An empty one counts as unset. A value that cannot be used stops the start with one line that names it and what is
allowed. A changed one takes effect at the next `make up`. `.env.example` has those that most people want.
"""
_WORDS: Mapping[str, str] = {
    ALONE: "A supervisor sets what its workers need of these by itself; they are for a worker that runs without one.",
}
#: Those that depend on the machine.
_MADE = {
    "AUTONOUS_HOME": "`autonous/` in the XDG state directory",
    "AUTONOUS_CONFIG_DIR": "`autonous/` in the XDG configuration directory",
}
#: Of what is allowed, by a word in the type, where the model does not say it.
_KINDS = {
    "Step": "comma separated: ok, err:class, sleep:milliseconds, msg:text, msgb64:base64 of a text; the last repeats",
    "Path": "a path",
    "str": "text",
    "int": "a whole number",
}


@dataclass(frozen=True)
class Setting:
    """A row."""

    name: str
    default: str
    allowed: str
    meaning: str


#: The toolbox reads it by itself.
_UNMODELLED = Setting(
    "AUTONOUS_TOOL_BASH_DENYLIST",
    "",
    "phrases, comma separated",
    "Commands with one of them, as whole words, are refused: a guard rail, not a wall.",
)


def settings() -> dict[str, Setting]:
    """All of them by name, the supervisor's first."""
    theirs = {name.upper(): field for name, field in Workers.model_fields.items()}
    meant = {name.upper(): words for name, words in _comments(Workers).items()}
    found = {_UNMODELLED.name: _UNMODELLED}
    own = _comments(Supervisors)
    for attribute, field in Supervisors.model_fields.items():
        if name := field.alias:
            default = _default(name, field) or (_default(name, theirs[name]) if name in theirs else "")
            found[name] = Setting(name, default, field.description or "", own.get(attribute, ""))
    for name, field in theirs.items():
        if name not in found:
            found[name] = Setting(name, _default(name, field), _kind(field), meant.get(name, ""))
    return found


def subject(name: str) -> str:
    """Under which heading it is."""
    if name not in WORKER_NAMES and name not in {field.alias for field in Supervisors.model_fields.values()}:
        return ALONE
    return next(title for title, beginnings in SUBJECTS.items() if name.startswith(beginnings))


def page() -> str:
    """The whole of docs/settings.md."""
    every = settings().values()
    parts = [_part(title, [one for one in every if subject(one.name) == title]) for title in (*SUBJECTS, ALONE)]
    return "\n".join([_HEAD, *parts])


def _part(title: str, rows: Iterable[Setting]) -> str:
    words = f"{_WORDS[title]}\n\n" if title in _WORDS else ""
    cells = [f"| `{one.name}` | {one.default} | {one.allowed} | {one.meaning} |" for one in rows]
    table = "\n".join(["| name | default | allowed | meaning |", "|---|---|---|---|", *cells])
    return f"## {title}\n\n{words}{table}\n"


def _comments(model: type[BaseModel]) -> dict[str, str]:
    """What the ``#:`` lines above each field say."""
    lines = inspect.getsource(model).splitlines()
    (body,) = ast.parse("\n".join(lines)).body
    assert isinstance(body, ast.ClassDef)
    found = {}
    for node in body.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            first = node.lineno - 1
            while lines[first - 1].lstrip().startswith("#: "):
                first -= 1
            found[node.target.id] = " ".join(
                line.strip().removeprefix("#: ") for line in lines[first : node.lineno - 1]
            )
    return found


def _default(name: str, field: FieldInfo) -> str:
    if name in _MADE:
        return _MADE[name]
    value = field.default
    if name in SECRET_NAMES or value is None or value in ("", (), frozenset()):
        return ""
    match value:
        case TierPolicy():
            return f"`{','.join(f'{tier}={decision}' for tier, decision in value.decisions.items())}`"
        case (Step(), *_):
            return f"`{','.join(step.action for step in value)}`"
        case bool():
            return str(value).lower() if "true" in (field.description or "") else str(int(value))
        case float():
            return f"{value:g}"
    return f"`{value}`" if isinstance(value, str | Path) else str(value)


def _kind(field: FieldInfo) -> str:
    shown = str(field.annotation)
    return next((words for kind, words in _KINDS.items() if kind in shown), "")
