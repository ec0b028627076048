"""What a patch makes the worker able to do that it could not before, found in the source. Nothing is run.

Evidence for a person, and no wall: code that wants to hide what it does can. What is certain is where it says so.
"""

import ast
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

_MOST: Final = 100  # of each kind; the diff has them all
_LONGEST_NAME: Final = 80

#: By the beginning of a dotted name, what using it means. The longest that fits counts.
_MEANINGS: Final[Mapping[str, str]] = {
    "subprocess": "subprocess",
    "multiprocessing": "subprocess",
    "pty": "subprocess",
    "os.system": "subprocess",
    "os.popen": "subprocess",
    "os.fork": "subprocess",
    "os.forkpty": "subprocess",
    "os.posix_spawn": "subprocess",
    "os.exec": "subprocess",
    "os.spawn": "subprocess",
    "os.kill": "subprocess",
    "asyncio.create_subprocess_exec": "subprocess",
    "asyncio.create_subprocess_shell": "subprocess",
    "socket": "network",
    "ssl": "network",
    "http": "network",
    "urllib.request": "network",
    "urllib3": "network",
    "httpx": "network",
    "requests": "network",
    "aiohttp": "network",
    "websockets": "network",
    "ftplib": "network",
    "smtplib": "network",
    "asyncio.open_connection": "network",
    "asyncio.open_unix_connection": "network",
    "asyncio.start_server": "network",
    "asyncio.start_unix_server": "network",
    "os.environ": "environment",
    "os.getenv": "environment",
    "os.putenv": "environment",
    "os.unsetenv": "environment",
    "eval": "code made at run time",
    "exec": "code made at run time",
    "compile": "code made at run time",
    "__import__": "code made at run time",
    "importlib": "code made at run time",
    "runpy": "code made at run time",
    "pickle": "code made at run time",
    "marshal": "code made at run time",
    "ctypes": "code made at run time",
}
#: Names that go on in one word: ``os.execv``, ``os.spawnle``.
_STEMS: Final = ("os.exec", "os.spawn", "os.posix_spawn", "os.getenv", "os.environ")

#: Parts of the worker of which a person should know that they change.
_SENSITIVE: Final[Mapping[str, str]] = {
    "worker/agent/owners.py": "who may use the bot",
    "worker/commander/": "what comes from the chat, and who it is from",
    "worker/store/migrations.py": "the tables of its database",
    "worker/tools/": "what its tools may do",
    "worker/control/": "its limits and retries",
    "worker/link.py": "its way to the supervisor",
    "worker/duty.py": "how it takes and gives up its work",
    "worker/settings.py": "its settings",
}


@dataclass(frozen=True, slots=True)
class Use:
    """One place in the candidate's source. ``kind`` is ``import`` or one of the meanings above."""

    kind: str
    path: str
    line: int
    what: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line} {self.what}"


@dataclass(frozen=True)
class Risk:
    """What was found. ``touched`` are words about the parts of the worker that change."""

    uses: tuple[Use, ...] = ()
    touched: tuple[str, ...] = ()
    unreadable: tuple[str, ...] = ()

    def summary(self) -> dict[str, Any]:
        """For the card: lists of lines by kind."""
        kinds: dict[str, list[str]] = {}
        for use in self.uses:
            kinds.setdefault(use.kind, []).append(str(use))
        return {
            "imports": kinds.pop("import", [])[:_MOST],
            "uses": {kind: lines[:_MOST] for kind, lines in sorted(kinds.items())},
            "touched": list(self.touched),
            "unreadable": list(self.unreadable),
        }


def assess(base: Mapping[str, bytes], candidate: Mapping[str, bytes]) -> Risk:
    """Compare two trees, each given as its files by path. Tests are not looked at: they run without anything."""
    changed = sorted(
        path for path in base.keys() | candidate.keys() if base.get(path) != candidate.get(path) and _runs(path)
    )
    uses: list[Use] = []
    unreadable = []
    for path in changed:
        try:
            after = list(_uses(path, candidate.get(path, b"")))
        except (SyntaxError, ValueError, RecursionError):
            unreadable.append(path)
            continue
        uses += _new(_before(path, base.get(path, b"")), after)
    touched = {why: None for part, why in _SENSITIVE.items() for path in changed if path.startswith(part)}
    return Risk(tuple(uses), tuple(touched), tuple(unreadable))


def _runs(path: str) -> bool:
    return path.startswith("worker/") and path.endswith(".py")


def _before(path: str, content: bytes) -> Counter[tuple[str, str]]:
    try:
        return Counter((use.kind, use.what) for use in _uses(path, content))
    except (SyntaxError, ValueError, RecursionError):
        return Counter()  # then all of the candidate's is new


def _new(before: Counter[tuple[str, str]], after: list[Use]) -> Iterator[Use]:
    """What is there more often than before; of several in one file the last ones."""
    more = Counter((use.kind, use.what) for use in after) - before
    for use in reversed(after):
        if more[use.kind, use.what]:
            more[use.kind, use.what] -= 1
            yield use


def _uses(path: str, content: bytes) -> Iterator[Use]:
    tree = ast.parse(content)
    names = _names(tree)
    inner = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    for node in ast.walk(tree):
        if id(node) in inner:
            continue  # the whole of the dotted name is named, and no part of it again
        for kind, what in _of(node, names):
            yield Use(kind, path, getattr(node, "lineno", 0), what[:_LONGEST_NAME])


def _of(node: ast.AST, names: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    match node:
        case ast.Import(names=imported):
            yield from (("import", alias.name) for alias in imported if not _own(alias.name))
        case ast.ImportFrom(module=module, names=imported, level=0) if module and not _own(module):
            yield "import", module
            for alias in imported:
                if meaning := _meaning(f"{module}.{alias.name}"):
                    yield meaning, f"{module}.{alias.name}"
        case ast.Attribute() | ast.Name(ctx=ast.Load()):
            if (dotted := _dotted(node, names)) and (meaning := _meaning(dotted)):
                yield meaning, dotted
        case ast.Call(func=ast.Name(id="getattr"), args=[subject, *_]):
            if (dotted := _dotted(subject, names)) and _guarded(dotted):
                yield "code made at run time", f"getattr({dotted}, ...)"


def _own(module: str) -> bool:
    return module.split(".", maxsplit=1)[0] in ("worker", "supervisor", "__future__", "typing")


def _names(tree: ast.AST) -> dict[str, str]:
    """What each imported name stands for."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                found[alias.asname or alias.name.split(".")[0]] = (
                    alias.name if alias.asname else alias.name.split(".")[0]
                )
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                found[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    return found


def _dotted(node: ast.AST, names: Mapping[str, str]) -> str:
    """The dotted name that an expression spells, with imports resolved; empty for any other expression."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return ""
    return ".".join([names.get(node.id, node.id), *reversed(parts)])


def _meaning(dotted: str) -> str:
    for length in range(dotted.count(".") + 1, 0, -1):
        if meaning := _MEANINGS.get(".".join(dotted.split(".")[:length])):
            return meaning if "." in dotted or dotted in _BUILT_IN else ""
    return next((_MEANINGS[stem] for stem in _STEMS if dotted.startswith(stem)), "")


def _guarded(dotted: str) -> bool:
    """Whether looking something up in it by name may be a way around this list."""
    return dotted in ("os", "builtins", "__builtins__") or bool(_MEANINGS.get(dotted.split(".", maxsplit=1)[0]))


_BUILT_IN: Final = frozenset({"eval", "exec", "compile", "__import__"})
