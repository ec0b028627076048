"""The tools on a tree of 100,000 files."""

import fnmatch
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.worker.tools.calling import call_apart, workplace
from worker.tools.workplace import Workplace

FILES: Final = 100_000
PER_DIRECTORY: Final = 100
LINES: Final = 25
#: What one file in a thousand has, and nothing else.
NEEDLE: Final = "def handle_rarely_seen(event):"
MOST_SECONDS: Final = 30.0
MOST_MEMORY: Final = 120 * 1024 * 1024
#: Prints the KiB that one call took, of the directory, the tool and the arguments that it is given.
MEASURED: Final = """
import json, pathlib, resource, sys
from tests.worker.tools.calling import call_apart, workplace
directory, tool, arguments = sys.argv[1:]
assert call_apart(tool, workplace(pathlib.Path(directory), timeout_seconds=30.0), **json.loads(arguments)).ok
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def make_tree(top: Path, files: int) -> None:
    """So many text files of about a kilobyte, in directories of a hundred; one in ten is left out by .gitignore."""
    body = "".join(f"    value_{number} = compute({number}, 'some text')\n" for number in range(LINES))
    (top / ".gitignore").write_text("ignored/\n*.o\n")
    for first in range(0, files, PER_DIRECTORY):
        directory = top / f"part{first // 10_000}" / f"d{first // PER_DIRECTORY % 100:02}"
        directory.mkdir(parents=True)
        for number in range(first, min(first + PER_DIRECTORY, files)):
            name = f"f{number}.o" if number % 10 == 9 else f"f{number}.py"
            text = f"{NEEDLE}\n{body}" if number % 1000 == 0 else f"def handle_{number}(event):\n{body}"
            with open(directory / name, "w") as file:  # noqa: PTH123 - 100,000 times
                file.write(text)


def plain_grep(top: Path, pattern: str) -> list[str]:
    """As one would write it."""
    wanted = re.compile(pattern)
    found = []
    for directory, _, names in os.walk(top):
        for name in names:
            path = Path(directory, name)
            with path.open(errors="replace") as file:
                found += [f"{path}:{number}:{line}" for number, line in enumerate(file, 1) if wanted.search(line)]
    return found


def plain_find(top: Path, pattern: str) -> list[str]:
    """As one would write it."""
    return [
        str(Path(directory, name))
        for directory, directories, names in os.walk(top)
        for name in (*directories, *names)
        if fnmatch.fnmatch(name, pattern)
    ]


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workplace]:
    top = tmp_path_factory.mktemp("large")
    make_tree(top, FILES)
    yield workplace(top, timeout_seconds=MOST_SECONDS)
    subprocess.run(["rm", "-rf", str(top)], check=True)


def test_find_and_grep_see_all_of_it(here: Workplace) -> None:
    """Rare names and rare lines are found, in time and in little memory; what git ignores is not."""
    found = call_apart("find", here, name_pattern="f*000.py")
    assert (found.ok, len(found.stdout.split())) == (True, FILES // 1000 - 1)  # f0.py has one zero
    assert call_apart("find", here, name_pattern="*.o").stdout == ""
    matches = call_apart("grep", here, pattern=r"def \w+_rarely_\w+\(")
    assert (matches.ok, len(matches.stdout.splitlines())) == (True, FILES // 1000)
    assert call_apart("grep", here, pattern=NEEDLE, literal=True).stdout == matches.stdout
    assert call_apart("grep", here, pattern="nowhere at all").stdout == ""


@pytest.mark.parametrize(("tool", "arguments"), [("find", {"name_pattern": "f*0.py"}), ("grep", {"pattern": "rarely"})])
def test_a_call_takes_little_memory(tool: str, arguments: dict[str, str], here: Workplace) -> None:
    """Asked of a process that has made no other calls: a fork begins with all that its parent has."""
    command = [sys.executable, "-c", MEASURED, str(here.workspace), tool, json.dumps(arguments)]
    peak = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert int(peak) * 1024 < MOST_MEMORY


@pytest.mark.parametrize("tool", ["find", "ls"])
def test_pages_come_to_the_end(tool: str, here: Workplace) -> None:
    """Page after page through one part of the tree gives each entry once."""
    arguments: dict[str, object] = {"path": "part3", **({"recursive": True} if tool == "ls" else {})}
    seen: list[str] = []
    cursor = None
    while True:
        result = call_apart(tool, here, **arguments, **({"cursor": cursor} if cursor else {}))
        assert result.ok
        seen += result.stdout.split()
        if (cursor := result.next_page_cursor) is None:
            break
    files = 10_000 if tool == "ls" else 9_000
    assert len(seen) == len(set(seen)) == files + 100


def test_single_files_are_worked_on_as_ever(here: Workplace) -> None:
    """``ls``, ``read``, ``write``, ``edit`` and ``bash`` do not mind what is around."""
    assert len(call_apart("ls", here, path="part0/d00").stdout.split()) == PER_DIRECTORY
    assert call_apart("read", here, path="part0/d00/f0.py").stdout.startswith(NEEDLE)
    assert call_apart("write", here, path="part0/d00/new.py", content=NEEDLE).ok
    assert call_apart("edit", here, path="part0/d00/new.py", old_text="rarely", new_text="hardly").ok
    listed = call_apart("bash", here, command="find . -name '*.py' | wc -l")
    assert int(listed.stdout) == FILES * 9 // 10 + 1
    (here.workspace / "part0/d00/new.py").unlink()
