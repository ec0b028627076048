"""The faults that an update must survive, and the tests that inject them: ``docs/faults.md`` is made from their marks.

A test says which fault it injects by ``@pytest.mark.fault(number)``; one test of each fault also says what happens,
what its user sees, and within which time: figures are those of the code, by the names that the test's file has for
them.
"""

import ast
import importlib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TESTS = ROOT / "tests"
PAGE = ROOT / "docs" / "faults.md"
#: Where the engine is the real one.
_REAL = ("tests/e2e/", "tests/crash/", "tests/engine/")

TITLES = {
    1: "the supervisor killed before and after every ledger commit and every engine call of every state",
    2: "killed again and again in one state",
    3: "killed during a rollback",
    4: "killed between green's start and the switch",
    5: "killed between the switch and its commit",
    6: "killed between promotion and clean-up",
    7: "the whole machine stopped at a random time",
    8: "no space left in a build",
    9: "no space left in a SQLite commit",
    10: "the ledger read-only, or locked",
    11: "a ledger written by a newer supervisor",
    12: "a torn WAL",
    13: "the engine restarted in a build",
    14: "the engine restarted in probation",
    15: "a container created though the reply was lost",
    16: "a gap in the engine's event stream",
    17: "a container gone between list and inspect",
    18: "an orphan holds the name",
    19: "N-1's image removed from outside",
    20: "a tag moved to another image",
    21: "a patch that conflicts, is empty, or leaves its paths",
    22: "a build that hangs",
    23: "tests that hang, run out of memory, or flood the log",
    24: "green exits 0 at once",
    25: "green starts and never gets ready",
    26: "green fails one second before probation ends",
    27: "green flaps",
    28: "green is healthy but reports another sha",
    29: "green wedges: the process lives, the loop does not",
    30: "both colours fail",
    31: "the rollback target fails",
    32: "the clock jumps by an hour, both ways",
    33: "the machine restarts in probation",
    34: "drain runs past its deadline",
    35: "two rollbacks of one update at once",
    36: "rollback of an update that was superseded",
    37: "approve after cancel; approve twice",
    38: "the same bad patch again",
    39: "a migration, then a rollback",
    40: "blue writes while green migrates",
    41: "the supervisor upgraded in mid-update",
    42: "the supervisor's socket gone while a worker runs",
    43: "Telegram: 409, 429, 5xx, time-outs before and after the send",
    44: "the model: 429, 5xx, time-out, an empty reply, malformed tool arguments",
}

_HEAD = """# Faults, and what becomes of them

<!-- made by scripts/faults from the marks of the tests -->

What holds after each: at most one worker takes work; a runnable N-1 exists; no message is lost; no status is written
without its event; a repeated command changes nothing; whatever ledger and engine say of each other is settled; nothing
is promoted without its evidence. Each fault is injected by the tests that are named beside it; those in **bold** do it
on the real engine. `make chaos` does many of them at random, also to an engine of its own where it can have one (as
root; `ENGINE=0` spares it), `make crash` at every single place.

| # | fault | what happens | what you see | within | shown by |
|---|---|---|---|---|---|
"""


@dataclass(frozen=True)
class Shown:
    """A test that injects a fault; what becomes of it stands with one test of each."""

    number: int
    file: str
    test: str
    what: str = ""
    user: str = ""
    within: str = ""

    @property
    def link(self) -> str:
        """For the page."""
        name = f"[{self.test.removeprefix('test_').replace('_', ' ')}](../{self.file})"
        return f"**{name}**" if self.file.startswith(_REAL) else name


def collected(directory: Path = TESTS) -> list[Shown]:
    """Every mark in the tests, read and not run; by number, those with words first."""
    found = [one for file in sorted(directory.rglob("test_*.py")) for one in _in_file(file)]
    return sorted(found, key=lambda one: (one.number, not one.what))


def page() -> str:
    """The whole of docs/faults.md."""
    by_number: defaultdict[int, list[Shown]] = defaultdict(list)
    for one in collected():
        by_number[one.number].append(one)
    rows = [_row(number, by_number[number]) for number in TITLES if by_number[number]]
    return _HEAD + "\n".join(rows) + "\n"


def _row(number: int, tests: list[Shown]) -> str:
    said = tests[0]
    links = "; ".join(one.link for one in tests)
    return f"| {number} | {TITLES[number]} | {said.what} | {said.user} | {said.within} | {links} |"


def _in_file(file: Path) -> Iterator[Shown]:
    text = file.read_text()
    if "mark.fault(" not in text:
        return
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            for mark in filter(_is_mark, node.decorator_list):
                assert isinstance(mark, ast.Call)
                words = {word.arg: _said(word.value, tree) for word in mark.keywords if word.arg}
                for number in mark.args:
                    yield Shown(ast.literal_eval(number), str(file.relative_to(ROOT)), node.name, **words)


def _said(words: ast.expr, tree: ast.Module) -> str:
    """What a mark says, with the values of the names in it: what the file imports, or gives a value itself."""
    wanted = {node.id for node in ast.walk(words) if isinstance(node, ast.Name)}
    names: dict[str, object] = {}
    for statement in tree.body:
        if isinstance(statement, ast.ImportFrom) and statement.module:
            for name in statement.names:
                if (name.asname or name.name) in wanted:
                    names[name.asname or name.name] = getattr(importlib.import_module(statement.module), name.name)
        elif isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) in wanted:
            names[ast.unparse(statement.targets[0])] = ast.literal_eval(statement.value)
    return str(eval(compile(ast.Expression(words), "<mark>", "eval"), names))


def _is_mark(decorator: ast.expr) -> bool:
    return isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "pytest.mark.fault"
