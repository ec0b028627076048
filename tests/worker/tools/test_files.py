"""``read``, ``write`` and ``edit``: text in, text out, and every other byte as it was."""

import os
import stat
from pathlib import Path

import pytest

from tests.worker.tools.calling import call, refusal, without_privileges, workplace
from worker.tools.workplace import Workplace

BOM = b"\xef\xbb\xbf"


@pytest.fixture
def here(tmp_path: Path) -> Workplace:
    return workplace(tmp_path)


def put(here: Workplace, content: bytes) -> Path:
    path = here.workspace / "f"
    path.write_bytes(content)
    return path


def test_read_shows_lines_and_how_to_go_on(here: Workplace) -> None:
    """``offset`` skips lines, ``limit`` counts them; the cursor is where the next page begins."""
    put(here, b"".join(b"line %d\n" % number for number in range(10)))
    first = call("read", here, path="f", limit=4)
    assert first.stdout.split("\n")[:4] == ["line 0", "line 1", "line 2", "line 3"]
    assert (first.truncated_lines, first.truncated_bytes, first.next_page_cursor) == (True, False, "4")
    assert first.meta["more"] == "go on with offset=4"
    second = call("read", here, path="f", cursor="4", limit=6)
    assert second.stdout.split("\n")[0] == "line 4"
    assert (second.truncated_lines, second.next_page_cursor) == (False, None)
    assert call("read", here, path="f", offset=9).stdout == "line 9\n"


def test_read_past_the_end_is_an_error_that_counts(here: Workplace) -> None:
    """The model is told how many lines there are; an empty file is read from its beginning."""
    put(here, b"a\nb")
    assert refusal("read", here, path="f", offset=2) == "past_the_end"
    assert "2 lines" in call("read", here, path="f", offset=99).stderr
    put(here, b"")
    assert call("read", here, path="f").stdout == ""
    assert refusal("read", here, path="f", offset=1) == "past_the_end"
    assert refusal("read", here, path="f", cursor="-1") == "bad_cursor"


def test_read_keeps_to_lines_and_bytes(tmp_path: Path) -> None:
    """Huge files are cut at the limits, in whole lines; a line that is longer than all is cut and said to be."""
    here = workplace(tmp_path, max_lines=100, max_bytes=4096)
    put(here, b"short\n" * 200_000)
    result = call("read", here, path="f")
    assert (result.stdout.count("\n"), result.truncated_lines) == (100, True)
    assert call("read", here, path="f", offset=199_999).stdout == "short\n"
    put(here, b"x" * 99 + b"\n" + b"y" * 5_000_000 + b"\nend\n")
    result = call("read", here, path="f")
    assert (result.stdout, result.truncated_bytes, result.next_page_cursor) == ("x" * 99 + "\n", True, "1")
    result = call("read", here, path="f", offset=1)
    assert (len(result.stdout), result.next_page_cursor) == (4096, "2")
    assert "line 2 is longer" in str(result.meta["cut_line"])
    assert call("read", here, path="f", offset=2).stdout == "end\n"


def test_read_tells_what_is_special(here: Workplace) -> None:
    """A byte order mark and CRLF are told, not shown; bytes that are no UTF-8 and control codes are made visible."""
    put(here, BOM + b"a\r\nb\r\n")
    result = call("read", here, path="f")
    assert (result.stdout, result.meta["bom"], result.meta["line_ends"]) == ("a\nb\n", True, "crlf")
    put(here, b"caf\xe9 \x1b[31mred\x07\n")
    result = call("read", here, path="f")
    assert result.stdout == "caf\ufffd ␛[31mred␇\n"
    assert "UTF-8" in str(result.meta["encoding"])
    put(here, b"\x7fELF\0\0")
    assert refusal("read", here, path="f") == "binary"
    assert refusal("read", here, path=".") == "is_a_directory"


def test_write_makes_files_and_their_directories(here: Workplace) -> None:
    """New files get the usual mode; an empty one is one; a text that no file can hold is put as near as can be."""
    old = os.umask(0o027)
    try:
        assert call("write", here, path="a/b/f", content="text").stdout == "created a/b/f, 4 bytes"
    finally:
        os.umask(old)
    path = here.workspace / "a/b/f"
    assert (path.read_text(), stat.S_IMODE(path.stat().st_mode)) == ("text", 0o640)
    assert call("write", here, path="e", content="").ok
    assert (here.workspace / "e").read_bytes() == b""
    assert refusal("write", here, path="a", content="x") == "is_a_directory"
    assert refusal("write", here, path=".", content="x") == "is_a_directory"


def test_write_keeps_mode_mark_line_ends_and_links(here: Workplace) -> None:
    """A file that is replaced stays the kind of file that it was."""
    path = put(here, BOM + b"a\r\nb\r\n")
    path.chmod(0o751)
    (here.workspace / "link").symlink_to("f")
    result = call("write", here, path="link", content="c\nd\n")
    assert path.read_bytes() == BOM + b"c\r\nd\r\n"
    assert (result.meta["bom"], result.meta["line_ends"]) == (True, "crlf")
    assert stat.S_IMODE(path.stat().st_mode) == 0o751
    assert (here.workspace / "link").is_symlink()
    assert call("write", here, path="f", content="e\n", append=True).stdout == "appended to f, 12 bytes"
    assert path.read_bytes() == BOM + b"c\r\nd\r\ne\r\n"
    (here.workspace / "dangling").symlink_to("new")
    assert call("write", here, path="dangling", content="x").ok
    assert (here.workspace / "new").read_text() == "x"


def test_nothing_is_left_or_lost_when_writing_fails(here: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    """No space, no permission: the old content is there, and no half-written file beside it."""
    path = put(here, b"old\n")

    def full(fd: int, data: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        assert refusal("write", here, path="f", content="new") == "enospc"
        assert refusal("edit", here, path="f", old_text="old", new_text="new") == "enospc"
    path.chmod(0o444)
    with without_privileges():
        assert refusal("write", here, path="f", content="new") == "permission_denied"
    assert path.read_bytes() == b"old\n"
    assert [entry.name for entry in here.workspace.iterdir()] == ["f"]


def test_readers_see_the_old_or_the_new(here: Workplace) -> None:
    """The file is replaced, never written into: who has it open goes on reading what it was."""
    path = put(here, b"old\n")
    with path.open("rb") as reader:
        assert call("edit", here, path="f", old_text="old", new_text="new").ok
        assert reader.read() == b"old\n"
    assert path.read_bytes() == b"new\n"


def test_edit_changes_what_it_was_given(here: Workplace) -> None:
    """One place, or all; the diff is shown; mode, mark, line ends and bytes that are no UTF-8 stay."""
    path = put(here, BOM + b"a\r\nb \xe9\r\nc\r\nb \r\n")
    path.chmod(0o600)
    result = call("edit", here, path="f", old_text="c\nb", new_text="x\ny\nz")
    assert path.read_bytes() == BOM + b"a\r\nb \xe9\r\nx\r\ny\r\nz \r\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert result.stdout == ("--- f\n+++ f\n@@ -1,4 +1,5 @@\n \ufeffa\n b \udce9\n-c\n-b \n+x\n+y\n+z \n")
    put(here, b"aXbXc\nX\n")
    assert call("edit", here, path="f", old_text="X", new_text="", all=True).meta["replaced"] == 3
    assert path.read_bytes() == b"abc\n\n"


def test_edit_in_mixed_line_ends_keeps_each(here: Workplace) -> None:
    """A text over several lines is found whatever ends them, and new lines end as those did."""
    path = put(here, b"a\nb\r\nc\nd\r\n")
    assert call("edit", here, path="f", old_text="b\nc", new_text="1\n2\n3").ok
    assert path.read_bytes() == b"a\n1\r\n2\r\n3\nd\r\n"
    assert call("edit", here, path="f", old_text="a\n1", new_text="0").ok
    assert path.read_bytes() == b"0\r\n2\r\n3\nd\r\n"


@pytest.mark.parametrize(
    ("content", "old", "new", "code", "told"),
    [
        (b"a b\n", "c", "d", "no_match", "read the file again"),
        (b"a\n  b  c\n", "b c", "d", "no_match", "on line 2 with other white space"),
        (b"x\nax\n", "x", "y", "not_unique", "(lines 1, 2, ...)"),
        (b"aaa\n", "aa", "b", "not_unique", "all=true"),
        (b"same\n", "same", "same", "no_change", "nothing to do"),
        (b"a\r\nb\r\n", "a\nb", "a\r\nb", "no_change", "nothing to do"),
        (b"x\0", "x", "y", "not_editable", "bash"),
        (b"x", "", "y", "bad_arguments", "`write`"),
        (b"", "x", "y", "no_match", ""),
    ],
)
def test_edit_refuses_what_is_not_clear(
    content: bytes, old: str, new: str, code: str, told: str, here: Workplace
) -> None:
    """Missing, more than once, the same: each with word of what to do, and nothing is written."""
    path = put(here, content)
    before = path.stat()
    result = call("edit", here, path="f", old_text=old, new_text=new)
    assert (result.meta["code"], told in result.stderr) == (code, True), result.stderr
    assert (path.read_bytes(), path.stat().st_ino) == (content, before.st_ino)
    assert refusal("edit", here, path="missing", old_text="a", new_text="b") == "not_found"


def test_the_diff_has_hunks_apart_and_together(here: Workplace) -> None:
    """Changes that are far from each other have hunks of their own; joined lines and a missing end are shown."""
    put(here, b"".join(b"%d\n" % number for number in range(1, 31)) + b"end")
    diff = call("edit", here, path="f", old_text="2\n", new_text="2", all=True).stdout
    assert diff.split("\n")[2:8] == ["@@ -1,6 +1,5 @@", " 1", "-2", "-3", "+23", " 4"]
    put(here, b"a\nb")
    diff = call("edit", here, path="f", old_text="b", new_text="c").stdout
    no_end = "\\ No newline at end of file\n"
    assert diff == f"--- f\n+++ f\n@@ -1,2 +1,2 @@\n a\n-b\n{no_end}+c\n{no_end}"
