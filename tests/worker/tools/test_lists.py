"""``ls``, ``find`` and ``grep``: what they show, leave out, and how they go on."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.worker.tools.calling import call, call_apart, refusal, workplace
from worker.tools.workplace import Workplace


@pytest.fixture
def here(tmp_path: Path) -> Workplace:
    return workplace(tmp_path)


def tree(top: Path, files: dict[str, str | bytes]) -> None:
    for name, content in files.items():
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())


def pages(tool: str, here: Workplace, **arguments: object) -> list[list[str]]:
    """The lines of all pages."""
    found: list[list[str]] = []
    cursor = None
    while True:
        result = call(tool, here, **arguments, **({"cursor": cursor} if cursor else {}))
        assert result.ok, result
        found.append(result.stdout.splitlines())
        cursor = result.next_page_cursor
        assert (cursor is None) == (not result.truncated_lines and not result.truncated_bytes)
        if cursor is None:
            return found


def test_ls_shows_names_in_order_with_signs(here: Workplace) -> None:
    """Hidden files too; directories with /, links with @; an empty directory is no error."""
    tree(here.workspace, {"b": "", ".h": "", "a/x": "", "é": "", "-dash": ""})
    (here.workspace / "l").symlink_to("a")
    (here.workspace / "new\nline").write_text("")
    assert call("ls", here).stdout.split("\n") == ["-dash", ".h", "a/", "b", "l@", "new␊line", "é", ""]
    (here.workspace / "empty").mkdir()
    assert call("ls", here, path="empty").stdout == ""
    assert refusal("ls", here, path="b") == "not_a_directory"


def test_ls_goes_down_but_not_into_git(here: Workplace) -> None:
    """``recursive`` shows what is in directories, too; links are not followed."""
    tree(here.workspace, {"a/b/c": "", "a.b": "", ".git/HEAD": ""})
    (here.workspace / "a/up").symlink_to("..")
    assert call("ls", here, recursive=True).stdout.split() == [".git/", "a/", "a/b/", "a/b/c", "a/up@", "a.b"]


@pytest.mark.parametrize(("tool", "more"), [("ls", {"recursive": True}), ("find", {})])
def test_pages_hold_everything_once(tool: str, more: dict[str, object], here: Workplace) -> None:
    """Whatever the size of a page, and wherever it ends, also with names that need care."""
    tree(here.workspace, {f"{d}/{e}/{f}": "" for d in ("a", "a b", "a%", "ä") for e in "xy" for f in ("1", "2:3")})
    (here.workspace / os.fsdecode(b"raw\xff")).mkdir()
    whole = pages(tool, here, **more)
    assert len(whole) == 1
    for limit in (1, 2, 3, 7, 28, 29, 30):
        paged = pages(tool, here, limit=limit, **more)
        assert [line for page in paged for line in page] == whole[0]
        assert all(len(page) <= limit for page in paged)


def test_a_page_ends_at_its_bytes(tmp_path: Path) -> None:
    """Long names: the limit of bytes ends the page, and says so."""
    tree(tmp_path, {f"{number}{'x' * 200}": "" for number in range(10)})
    here = workplace(tmp_path, max_bytes=1024)
    result = call("find", here)
    assert (result.truncated_bytes, result.truncated_lines, len(result.stdout.split())) == (True, False, 5)
    assert sum(map(len, pages("find", here))) == 10


def test_find_by_name_path_and_depth(here: Workplace) -> None:
    """A pattern without a slash is for names, with one for paths; braces and ``**`` work; a dash is no option."""
    tree(here.workspace, dict.fromkeys(["a.py", "s/b.py", "s/t/c.js", "s/t/-x", "s/.hid.py", "s/d.pyc"], ""))

    def found(pattern: str, **more: object) -> list[str]:
        return call("find", here, name_pattern=pattern, **more).stdout.split()

    assert found("*.py") == ["a.py", "s/.hid.py", "s/b.py"]
    assert found("*.{py,js}", path="s") == [".hid.py", "b.py", "t/c.js"]
    assert found("s/**/c.*") == ["s/t/c.js"]
    assert found("-x") == ["s/t/-x"]
    assert found("[ab].py") == ["a.py", "s/b.py"]
    assert found("t") == ["s/t/"]
    assert found("*", max_depth=1) == ["a.py", "s/"]
    assert found("nothing") == []
    assert refusal("find", here, name_pattern="[a") == "bad_pattern"


def test_gitignore_is_obeyed(here: Workplace) -> None:
    """Also nested and negated rules; a directory that is named itself is searched all the same."""
    files = ["a.log", "keep.log", "build/x", "s/.gitignore", "s/n.tmp", "s/y", ".git/config", "out/z", "s/out/z"]
    tree(here.workspace, dict.fromkeys(files, "text"))
    tree(here.workspace, {".gitignore": "*.log\n!keep.log\nbuild/\n/out\n", "s/.gitignore": "*.tmp\n"})
    assert call("find", here, name_pattern="[a-z]*").stdout.split() == ["keep.log", "s/", "s/out/", "s/out/z", "s/y"]
    assert call("grep", here, pattern="text").stdout.split() == ["keep.log:1:text", "s/out/z:1:text", "s/y:1:text"]
    assert call("find", here, path="build").stdout.split() == ["x"]
    assert call("grep", here, pattern="text", path="a.log").stdout == "a.log:1:text\n"
    # A rule of a file above holds in what is searched below it.
    tree(here.workspace, {"s/q.log": "text"})
    assert call("find", here, path="s", name_pattern="q*").stdout == ""


RULES = """
# a comment
\\#file
*.o
!keep.o
/top
dir/
a/**/z
**/deep/er
x/**
mid/dle
[a-c]?.t
[!a-c]?.u
q*r
sp\\ ace
trail\\\x20
\\!bang
[[:digit:]]n
foo**bar
"""


def test_gitignore_means_what_git_means(tmp_path: Path) -> None:
    """The same files are left out as by git itself."""
    names = ["#file", "m.o", "keep.o", "top", "n/top", "dir/f", "n/dir/f", "dir2", "a/z", "a/b/z", "a/b/c/z", "n/a/z"]
    names += ["deep/er", "n/deep/er", "x/1", "x/2/3", "n/x/1", "mid/dle", "n/mid/dle", "ab.t", "dd.t", "ab.u", "dd.u"]
    names += ["qr", "qxr", "n/qxxr", "sp ace", "trail ", "trail", "!bang", "1n", "an", "foobar", "fooxbar", "foo/x/bar"]
    names += ["n/m.o", "n/o/keep.o", "dir3/dir"]
    tree(tmp_path, dict.fromkeys(names, ""))
    tree(tmp_path, {".gitignore": RULES, "n/.gitignore": "!m.o\n/o\n", "dir3/.gitignore": "*\r\n!dir\r\n"})
    git = ["git", "-c", "core.excludesFile=/dev/null", "-C", str(tmp_path)]
    subprocess.run([*git, "init", "-q"], check=True)
    listed = subprocess.run(
        [*git, "ls-files", "--others", "--exclude-standard", "-z"], check=True, capture_output=True, text=True
    )
    result = call("find", workplace(tmp_path))
    assert [name for name in result.stdout.splitlines() if not name.endswith("/")] == sorted(
        listed.stdout.split("\0")[:-1], key=lambda name: name.split("/")
    )


def test_grep_shows_lines_with_their_numbers(here: Workplace) -> None:
    """Regular expressions, plain text, either case; CRLF and a last line without an end are lines like others."""
    tree(here.workspace, {"a": "one\nTwo\r\nthree", "b": b"\xff two\n", "-d": "-x -v\n", "bin": b"two\0", "empty": ""})

    def found(pattern: str, **more: object) -> list[str]:
        result = call("grep", here, pattern=pattern, **more)
        assert result.ok, result
        return result.stdout.splitlines()

    assert found("t[wh]") == ["a:3:three", "b:1:\ufffd two"]
    assert found("two", ignore_case=True) == ["a:2:Two", "b:1:\ufffd two"]
    assert found("o$", ignore_case=True) == ["a:2:Two", "b:1:\ufffd two"]
    assert found("^three$") == ["a:3:three"]
    for pattern in ("-x", "-v", "--", "-x -v"):
        assert found(pattern, literal=True) == ([] if pattern == "--" else ["-d:1:-x -v"])
    assert found("[", literal=True) == []
    assert found("t", glob="b*") == ["b:1:\ufffd two"]
    assert found("one", path="a") == ["a:1:one"]
    assert refusal("grep", here, pattern="[") == "bad_pattern"
    assert refusal("grep", here, pattern="") == "bad_pattern"
    assert refusal("grep", here, pattern="x", cursor="?") == "bad_cursor"


@pytest.mark.parametrize(
    "pattern", [r"a\s+b", r"(?!x)b", r"\Ab", r"a\Z", r"[^q]b", r"\Wb", r"a\s*+b", r"^\s*$", r"(?s)a.b", r"b(?<=\nb)"]
)
def test_lines_are_matched_one_by_one(pattern: str, here: Workplace) -> None:
    """No match reaches over the end of a line, whatever the pattern is made of."""
    lines = ["a", "b", "a b", "", "q b", "ab", "xb", "  "]
    tree(here.workspace, {"f": "\n".join(lines) + "\n"})
    expected = [f"f:{number}:{line}" for number, line in enumerate(lines, 1) if re.search(pattern, line)]
    assert call("grep", here, pattern=pattern).stdout.splitlines() == expected


def test_grep_shows_context_once(here: Workplace) -> None:
    """Lines around a match have a dash; matches that are near share theirs, others are told apart."""
    tree(here.workspace, {"f": "".join(f"{number}\n" for number in range(1, 21))})
    shown = call("grep", here, pattern="^(3|5|15)$", context=1).stdout.split()
    assert shown == ["f-2-2", "f:3:3", "f-4-4", "f:5:5", "f-6-6", "--", "f-14-14", "f:15:15", "f-16-16"]
    assert call("grep", here, pattern="^20$", context=2).stdout.split() == ["f-18-18", "f-19-19", "f:20:20"]
    assert call("grep", here, pattern="^[45]$", context=1).stdout.split() == ["f-3-3", "f:4:4", "f:5:5", "f-6-6"]


def test_grep_pages_hold_every_match_once(here: Workplace) -> None:
    """The cursor goes on after a line of a file, also in a file that was named itself."""
    tree(here.workspace, {f"{d}/{f}": "hit\nmiss\nhit: 1\n" for d in ("a:b", "a", "z") for f in ("1", "2")})
    whole = pages("grep", here, pattern="hit")[0]
    assert len(whole) == 12
    for limit in (1, 5, 11, 12):
        paged = pages("grep", here, pattern="hit", limit=limit)
        assert [line for page in paged for line in page] == whole
    one = pages("grep", here, pattern="hit", path="a/1", limit=1)
    assert one == [["1:1:hit"], ["1:3:hit: 1"]]


def test_grep_cuts_long_lines_and_shows_controls(here: Workplace) -> None:
    """500 characters of a line; an escape code is shown, not sent."""
    tree(here.workspace, {"f": f"{'x' * 700}\n\x1b[31mx\n"})
    first, second = call("grep", here, pattern="x").stdout.splitlines()
    assert first == f"f:1:{'x' * 500}… [200 more characters]"
    assert second == "f:2:␛[31mx"


def test_grep_searches_large_files_in_pieces(here: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Line numbers go on over the pieces, and a line that is cut by one is found."""
    monkeypatch.setattr("worker.tools.search.PIECE", 1 << 17)
    lines = [f"line {number} {'hit' if number % 5000 == 0 else ''}" for number in range(1, 40_001)]
    tree(here.workspace, {"f": "\n".join(lines)})
    found = call("grep", here, pattern="hit").stdout.splitlines()
    assert [int(line.split(":")[1]) for line in found] == list(range(5000, 40_001, 5000))


def test_a_pattern_that_never_ends_is_stopped(tmp_path: Path) -> None:
    """An explosive regular expression takes its time, not the toolbox."""
    tree(tmp_path, {"f": "a" * 64 + "!\n"})
    result = call_apart("grep", workplace(tmp_path, timeout_seconds=0.3), pattern="(a|a)*$")
    assert (result.ok, result.meta["code"], result.meta["error_class"]) == (False, "timeout", "timeout")


def test_deep_trees_are_gone_through(here: Workplace) -> None:
    """As deep as paths can be."""
    deep = here.workspace / "/".join(["d"] * 400)
    deep.mkdir(parents=True)
    (deep / "f").write_text("bottom\n")
    assert call("grep", here, pattern="bottom").stdout.endswith("d/f:1:bottom\n")
