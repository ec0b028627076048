"""The tools: searching a large tree beside what others do it with, and what a call costs over the bare command."""

import asyncio
import os
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from tests.bench.figures import Figure, seconds, times
from tests.load import test_tools_scale as scale
from tests.worker.tools.calling import call_apart, workplace
from worker.tools.base import ToolError
from worker.tools.local import LocalToolbox
from worker.tools.registry import TOOLS

_FILES: Final = 50_000
_RUNS: Final = 5
_CALLS: Final = 40
_REGEX: Final = r"def \w+_rarely_\w+\("


def measure(directory: Path, say: Callable[[str], None]) -> Iterator[Figure]:
    """All of it, in a tree made below ``directory``."""
    say(f"The tools on {_FILES:,} files...")
    top = directory / "tree"
    top.mkdir()
    scale.make_tree(top, _FILES)
    try:
        yield from _grep(top)
        yield from _find(top)
    finally:
        subprocess.run(["rm", "-rf", str(top)], check=True)
    yield from _bash(directory)


def _grep(top: Path) -> Iterator[Figure]:
    own = _timed(lambda: _tool("grep", top, pattern=_REGEX))
    yield Figure("tool `grep`", own, seconds, f"a regular expression in {_FILES:,} files; .gitignore is obeyed")
    beside = ["rg", "--no-require-git", "-n", _REGEX] if shutil.which("rg") else ["grep", "-rnIE", _REGEX, "."]
    yield from _beside("grep", own, top, beside, limit=3.0)
    yield from _beside_plain("grep", own, lambda: scale.plain_grep(top, _REGEX), limit=1.0)


def _find(top: Path) -> Iterator[Figure]:
    own = _timed(lambda: _tool("find", top, name_pattern="f*000.py"))
    yield Figure("tool `find`", own, seconds, f"by name, among {_FILES:,} files; .gitignore is obeyed")
    beside = ["fd", "--no-require-git", "-g", "f*000.py"] if shutil.which("fd") else ["find", ".", "-name", "f*000.py"]
    yield from _beside("find", own, top, beside, limit=5.0)
    yield from _beside_plain("find", own, lambda: scale.plain_find(top, "f*000.py"), limit=3.0)


def _beside(tool: str, own: Sequence[float], top: Path, command: list[str], limit: float) -> Iterator[Figure]:
    others = _timed(lambda: subprocess.run(command, cwd=top, capture_output=True, check=True))
    theirs = statistics.median(others)
    how = f"the whole call, its process too; `{' '.join(command)}` takes {seconds(theirs)}"
    yield Figure(f"tool `{tool}` over `{command[0]}`", tuple(t / theirs for t in own), times, how, limit=limit)


def _beside_plain(tool: str, own: Sequence[float], plain: Callable[[], object], limit: float) -> Iterator[Figure]:
    theirs = statistics.median(_timed(plain))
    how = f"os.walk and a loop, which takes {seconds(theirs)} and obeys no .gitignore"
    yield Figure(f"tool `{tool}` over plain Python", tuple(t / theirs for t in own), times, how, limit=limit)


def _bash(directory: Path) -> Iterator[Figure]:
    (directory / "workspace").mkdir()
    bare = _timed(lambda: subprocess.run(["bash", "-c", "true"], check=True), _CALLS)
    called = asyncio.run(_calls(directory / "workspace"))
    theirs = statistics.median(bare)
    yield Figure(
        "tool `bash true`, over a bare spawn",
        tuple(taken - theirs for taken in called),
        seconds,
        f"from the worker over the socket to the result, less {seconds(theirs)} for subprocess.run",
        limit=0.03,
    )


async def _calls(workspace: Path) -> tuple[float, ...]:
    toolbox = LocalToolbox(TOOLS, {**os.environ, "WORKSPACE_DIR": str(workspace)})
    taken = []
    try:
        await toolbox.call("time", {})  # which starts it
        for _ in range(_CALLS):
            begun = time.perf_counter()
            result = await toolbox.call("bash", {"command": "true"})
            taken.append(time.perf_counter() - begun)
            if not result.ok:
                raise ToolError("bench", result.stderr)
    finally:
        await toolbox.close()
    return tuple(taken)


def _tool(name: str, top: Path, **arguments: object) -> None:
    result = call_apart(name, workplace(top, timeout_seconds=120.0), **arguments)
    if not result.ok or not result.stdout:
        raise ToolError("bench", result.stderr)


def _timed(work: Callable[[], object], runs: int = _RUNS) -> tuple[float, ...]:
    work()  # what it reads is in memory from now on
    taken = []
    for _ in range(runs):
        begun = time.perf_counter()
        work()
        taken.append(time.perf_counter() - begun)
    return tuple(taken)
