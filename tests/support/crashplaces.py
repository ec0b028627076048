"""The places at which the supervisor can be made to die, read from the source that has them.

A place is found where its name is written, so a new transaction or a new call to the engine is a new place by itself.
"""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import supervisor
from supervisor import specs
from supervisor.contract import EventType

_ROOT: Final = Path(supervisor.__file__).parent
GATEWAY: Final = _ROOT / "engine" / "gateway.py"
LEDGER: Final = tuple(sorted((_ROOT / "ledger").glob("*.py")))
WRITING: Final = ("_writing", "_writing_durably")
_SPECS: Final = ("ContainerSpec", "gate_spec", "replace")
#: Calls of the engine's client that change nothing there.
READS: Final = frozenset(
    {
        "version",
        "info",
        "inspect_image",
        "images",
        "history",
        "inspect_container",
        "containers",
        "logs",
        "stats",
        "networks",
    }
    | {"wait", "close", "append"}
)


def ledger_names() -> list[str]:
    """Of each transaction, with ``*`` for what is known only when it runs."""
    calls = [call for file in LEDGER for call in _calls(ast.parse(file.read_text())) if _called(call) in WRITING]
    return [f"ledger.{_pattern(call.args[0])}" for call in calls] + _arounds(_ROOT / "ledger" / "database.py")


def engine_names() -> list[str]:
    """Of each call that changes something."""
    return _arounds(GATEWAY)


def roles() -> set[str]:
    """Of all containers that are made: what stands for ``*`` in the names of a creation and a start."""
    found = set()
    for file in _ROOT.rglob("*.py"):
        for call in _calls(ast.parse(file.read_text())):
            if _called(call) in _SPECS:
                found |= {_constant(word.value) for word in call.keywords if word.arg == "role"}
    return found - {""}


def appended() -> set[str]:
    """The events that are written by themselves, in a transaction of their own."""
    found = set()
    for file in _ROOT.rglob("*.py"):
        for call in _calls(ast.parse(file.read_text())):
            if _called(call) == "append" and call.args and isinstance(event := call.args[0], ast.Attribute):
                found |= {EventType[event.attr].value} if event.attr in EventType.__members__ else set()
    return found


def noted() -> set[str]:
    """The events that a worker's own notes are named after."""
    calls = _calls(ast.parse((_ROOT / "ledger" / "workers.py").read_text()))
    events = [call.args[0] for call in calls if _called(call) == "_note"]
    return {EventType[event.attr].value for event in events if isinstance(event, ast.Attribute)}


def bare_commits() -> list[str]:
    """Where in the ledger's source a transaction begins that is no place to die at."""
    return [
        f"{file.name}:{call.lineno}"
        for file in LEDGER
        for call in _outside(ast.parse(file.read_text()))
        if _called(call) in {"atomic", "transaction", "commit"} and (file.name, call.lineno) not in _migration()
    ]


def bare_engine_calls() -> list[str]:
    """Where in the gateway the engine's client is asked for something else than a read, with no place to die at."""
    found = []
    for call in _outside(ast.parse(GATEWAY.read_text())):
        asked = call.func
        if isinstance(asked, ast.Attribute) and _is_client(asked.value) and asked.attr not in READS:
            found.append(f"{asked.attr}:{call.lineno}")
    return found


def _migration() -> set[tuple[str, int]]:
    """The one transaction whose place is at its caller's: it is not of an open ledger."""
    (file,) = (file for file in LEDGER if file.name == "migrations.py")
    (call,) = (call for call in _calls(ast.parse(file.read_text())) if _called(call) == "atomic")
    return {(file.name, call.lineno)}


def _is_client(node: ast.expr) -> bool:
    return (isinstance(node, ast.Attribute) and node.attr == "_api") or (
        isinstance(node, ast.Name) and node.id == "client"
    )


def _arounds(file: Path) -> list[str]:
    return [_pattern(call.args[0]) for call in _calls(ast.parse(file.read_text())) if _called(call) == "around"]


def _calls(node: ast.AST) -> Iterator[ast.Call]:
    return (inner for inner in ast.walk(node) if isinstance(inner, ast.Call))


def _outside(node: ast.AST) -> Iterator[ast.Call]:
    """The calls that are in no ``with around(…)``."""
    if isinstance(node, ast.With) and any(
        isinstance(item.context_expr, ast.Call) and _called(item.context_expr) == "around" for item in node.items
    ):
        return
    if isinstance(node, ast.Call):
        yield node
    for child in ast.iter_child_nodes(node):
        yield from _outside(child)


def _constant(node: ast.expr) -> str:
    """A text, or what a constant of the specs is; empty for what is handed on from somewhere else."""
    if isinstance(node, ast.Name):
        return str(getattr(specs, node.id, ""))
    return str(node.value) if isinstance(node, ast.Constant) else ""


def _called(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def _pattern(name: ast.expr) -> str:
    """A name as it is written, with ``*`` for each part of it that is an expression."""
    if isinstance(name, ast.Constant):
        return str(name.value)
    if isinstance(name, ast.JoinedStr):
        return "".join(_pattern(part) for part in name.values)
    return "*"
