"""Properties of the tools that hold for whatever text, pattern and tree."""

import re
import subprocess
import tempfile
from pathlib import Path

from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from tests.worker.tools.calling import call, workplace
from worker.tools import changes, truncation
from worker.tools.search import LineSearch
from worker.tools.text import Conventions

ENDS = st.sampled_from(["\n", "\r\n"])
WORDS = st.text(st.sampled_from("ab \té\u2028x"), max_size=4)
LINES = st.lists(st.tuples(WORDS, ENDS), max_size=12)
FILES = st.tuples(LINES, WORDS).map(lambda made: "".join(word + end for word, end in made[0]) + made[1])


def spans(content: str, old: str) -> list[tuple[int, int]]:
    pattern = re.compile("\r?\n".join(map(re.escape, old.split("\n"))))
    return [match.span() for match in pattern.finditer(content)]


@given(content=FILES, old=st.text(st.sampled_from("ab x\n"), min_size=1, max_size=3), new=st.text("aby\n", max_size=5))
@settings(max_examples=400, deadline=None)
@example(content="a\nb\n", old="\n", new="")
@example(content="a\r\nb", old="a\nb", new="c\nd\n")
def test_an_edit_touches_only_its_lines(content: str, old: str, new: str) -> None:
    """All bytes before the first and behind the last place stay; between places, too; a line end stays of its kind."""
    found = spans(content, old)
    assume(found)
    made = changes.replaced(content, found, new)
    assert made.replace("\r\n", "\n") == re.sub(re.escape(old), lambda _: new, content.replace("\r\n", "\n"))
    kept = [
        content[end:start] for (_, end), (start, _) in zip([(0, 0), *found], [*found, (len(content), 0)], strict=True)
    ]
    position = 0
    for piece in kept:
        position = made.index(piece, position) + len(piece)
    assert made.startswith(kept[0])
    assert made.endswith(kept[-1])
    if "\r" not in content:
        assert "\r" not in made
    if "\n" not in content.replace("\r\n", "") and "\r\n" in content:
        assert "\n" not in made.replace("\r\n", "")


@given(
    content=st.text("ab x\n", max_size=60),
    old=st.text(st.sampled_from("ab x\n"), min_size=1, max_size=3),
    new=st.text("aby\n", max_size=5),
)
@settings(max_examples=200, deadline=None)
def test_the_diff_is_one_that_git_applies(content: str, old: str, new: str) -> None:
    """Applied to the old content it gives the new one."""
    found = spans(content, old)
    assume(found)
    made = changes.replaced(content, found, new)
    assume(made != content)
    diff = "".join(changes.diff(content, found, new, "f"))
    with tempfile.TemporaryDirectory() as directory:
        Path(directory, "f").write_text(content)
        command = ["git", "apply", "-p0", "--whitespace=nowarn", "--unidiff-zero", "-"]
        subprocess.run(command, cwd=directory, input=diff, text=True, check=True, capture_output=True)
        assert Path(directory, "f").read_text() == made


@given(content=FILES.filter(len), old=WORDS.filter(len), new=WORDS)
@settings(max_examples=100, deadline=None)
def test_the_tool_writes_what_it_says(content: str, old: str, new: str) -> None:
    """The file after a call is the content with every place replaced, byte for byte; or it is as it was."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "f")
        path.write_bytes(content.encode())
        result = call("edit", workplace(Path(directory)), path="f", old_text=old, new_text=new, all=True)
        after = path.read_bytes().decode()
        assert after == (content.replace(old, new) if result.ok else content)
        assert result.ok == (old in content and old != new)


TEXTS = st.text(st.sampled_from("ab\né\N{GRINNING FACE}"), max_size=80)
LIMITS = st.integers(1, 12)


@given(text=TEXTS, max_lines=LIMITS, max_bytes=st.integers(4, 60))
@settings(max_examples=500, deadline=None)
def test_what_is_cut_fits_and_is_whole(text: str, max_lines: int, max_bytes: int) -> None:
    """Either end: within both limits, whole lines unless one alone is too long, and cut only when it must be."""
    lines = list(truncation.split(text))
    assert "".join(lines) == text
    for cut, is_end in (
        (truncation.head(lines, max_lines, max_bytes), text.startswith),
        (truncation.tail(text, max_lines, max_bytes), text.endswith),
    ):
        assert is_end(cut.text)
        assert truncation.size(cut.text) <= max_bytes
        assert cut.lines <= max_lines
        assert len(list(truncation.split(cut.text))) == cut.lines or not cut.text
        fits = len(lines) <= max_lines and truncation.size(text) <= max_bytes
        assert (cut.text == text) == fits == (not cut.by_lines and not cut.by_bytes)
        assert not (cut.by_lines and cut.by_bytes)


PATTERNS = st.lists(
    st.sampled_from(
        ["a", "b", "a*", r"\s", r"\s*", r"\W", "[^a]", "^", "$", "(?!b)", "a|b", r"\b", ".", "x?", r"\A", "(?<=a)"]
    ),
    min_size=1,
    max_size=4,
).map("".join)


@given(pattern=PATTERNS, lines=st.lists(st.text("ab x", max_size=4), max_size=8), last=st.booleans())
@settings(max_examples=1000, deadline=None)
def test_a_search_finds_just_the_lines_that_match(pattern: str, lines: list[str], last: bool) -> None:
    """Whichever way the search takes, it is the same as a search in each line."""
    try:
        compiled = re.compile(pattern, re.MULTILINE)
    except re.error:
        return
    content = "\n".join(lines) + ("\n" if last and lines else "")
    present = content.removesuffix("\n").split("\n") if content else []
    with tempfile.TemporaryFile() as file:
        file.write(content.encode())
        file.seek(0)
        found = [(match.number, match.line) for match in LineSearch(compiled).in_file(file.fileno())]
    assert found == [(number, line) for number, line in enumerate(present, 1) if compiled.search(line)]


@given(text=st.text(st.sampled_from("a\nb"), max_size=20), end=ENDS, bom=st.booleans())
def test_conventions_are_kept(text: str, end: str, bom: bool) -> None:
    """What is written in a file's way is read back as the same text."""
    data = Conventions(bom, end).encode(text)
    assert data.decode("utf-8-sig").replace("\r\n", "\n") == text
    if "\n" in text:
        assert Conventions.of(data) == Conventions(bom, end)


GLOB = st.lists(
    st.sampled_from(["a", "b", "*", "**", "/", "?", "[ab]", "[!a]", ".", "!", "\\*", "**/"]), min_size=1, max_size=5
)


@given(patterns=st.lists(GLOB.map("".join), min_size=1, max_size=4))
@settings(max_examples=150, deadline=None)
def test_gitignore_is_read_as_git_reads_it(patterns: list[str]) -> None:
    """Whatever the rules, ``find`` leaves out what git leaves out."""
    names = ["a", "b", "ab", "a.b", "c/a", "c/b/a", "c/ab", "d/a/b", "d/b.a", "e/f/a/b", "*", "d/*x"]
    names = [name for name in names if name not in ("a", "b")]
    with tempfile.TemporaryDirectory() as directory:
        top = Path(directory)
        for name in names:
            (top / name).parent.mkdir(parents=True, exist_ok=True)
            (top / name).write_text("")
        (top / ".gitignore").write_text("\n".join(patterns) + "\n")
        git = ["git", "-c", "core.excludesFile=/dev/null", "-C", directory]
        subprocess.run([*git, "init", "-q"], check=True)
        command = [*git, "ls-files", "--others", "--exclude-standard", "-z"]
        listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split("\0")[:-1]
        shown = call("find", workplace(top)).stdout.splitlines()
        assert sorted(name for name in shown if not name.endswith("/")) == sorted(listed), patterns
