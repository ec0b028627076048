"""What a patch may do, judged on values."""

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor.revisions import policy
from supervisor.revisions.policy import Entry, RefusalCode, Refused

PLAIN = Entry("100644", "a" * 40)
OTHER = Entry("100644", "b" * 40)
BASE = {"worker/agent.py": PLAIN, "tests/worker/test_agent.py": PLAIN}


def refusal_of_added(path: str) -> Refused:
    with pytest.raises(Refused) as refusal:
        policy.check_tree(BASE, {**BASE, path: PLAIN})
    return refusal.value


@pytest.mark.parametrize(
    "path",
    [
        *("worker/a.py", "worker/deep/er/a-b_c+1.txt", "tests/worker/test_a.py", "worker/__init__.py"),
        *("worker/a..b", "worker/gitlike.py", "worker/pth.py", "worker/conftest/a.py", "worker/py.typed"),
    ],
)
def test_plain_names_in_the_areas_are_let_through(path: str) -> None:
    """Ordinary files, however deep, __init__ included."""
    assert policy.check_tree(BASE, {**BASE, path: PLAIN}) == (path,)
    assert policy.belongs(path)


@pytest.mark.parametrize(
    "path",
    [
        *("setup.py", "supervisor/policy.py", "tests/supervisor/test_a.py", "workers/a.py", "worker", "tests/worker"),
        *("Worker/a.py", "worker//a.py", "./worker/a.py", "/worker/a.py", "worker/", "worker/../a.py", "worker/./a"),
        *("worker/.gitattributes", "worker/.git/config", "worker/.GIT/config", "worker/git~1/config", "worker/.hidden"),
        *("worker/a.", "worker/a ", "worker/a b", "worker/a\\b", "worker/a:b", "worker/-f", "worker/ä.py"),
        *("worker/conftest.py", "tests/worker/sub/ConfTest.py", "worker/pytest.ini", "worker/pytest.toml"),
        *("worker/tox.ini", "worker/setup.py", "worker/setup.cfg", "worker/pyproject.toml", "worker/requirements.txt"),
        *("worker/Requirements/base.txt", "worker/sitecustomize.py", "worker/usercustomize/__init__.py"),
        *("worker/evil.pth", "worker/python311._pth", "worker/a.dist-info/entry_points.txt", "worker/a.so"),
        *("worker/__pycache__/a.py", "worker/a.pyc", "worker/uv.lock", "worker/pyvenv.cfg"),
    ],
)
def test_every_other_name_is_denied(path: str) -> None:
    """Outside the areas, hidden, ambiguous somewhere, or an order to Python, pip or pytest."""
    refusal = refusal_of_added(path)
    assert refusal.code is RefusalCode.PATH_DENIED
    assert path in refusal.reason


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("worker/a\nb.py", "U+000A"),
        ("worker/a\tb.py", "U+0009"),
        ("worker/a\u202eyp.py", "U+202E"),
        ("worker/.g\u200cit/config", "U+200C"),
        ("worker/\udcff.py", "U+DCFF"),
        ("worker/\u3164.py", "U+3164"),
        ("setup\x1b[2K.py", "U+001B"),
    ],
)
def test_hidden_characters_in_names_are_refused(path: str, name: str) -> None:
    """Control, bidi, zero-width and undecodable: the reason names the character and does not contain it."""
    refusal = refusal_of_added(path)
    assert refusal.code is RefusalCode.HIDDEN_CHAR
    assert name in refusal.reason
    assert refusal.reason.isprintable()


@pytest.mark.parametrize("mode", ["120000", "160000", "100755", "100664", "040000"])
def test_only_plain_files_are_taken(mode: str) -> None:
    """Links, submodules and executables, added or by a change of mode."""
    path = "worker/agent.py"
    for base, result in (({}, {path: Entry(mode, "a" * 40)}), (BASE, {**BASE, path: Entry(mode, PLAIN.oid)})):
        with pytest.raises(Refused, match=path) as refusal:
            policy.check_tree(base, result)
        assert refusal.value.code is RefusalCode.MODE_DENIED


def test_a_strange_mode_in_base_may_go_but_not_change() -> None:
    """A deletion leaves nothing to judge; turning a link into a file is a change of mode."""
    base = {"worker/link": Entry("120000", "a" * 40)}
    assert policy.check_tree(base, {}) == ("worker/link",)
    with pytest.raises(Refused, match="symbolic link"):
        policy.check_tree(base, {"worker/link": PLAIN})


def test_a_file_that_patches_may_not_touch_may_not_be_deleted_either() -> None:
    """The rules on names hold for every kind of change."""
    base = {"tests/worker/conftest.py": PLAIN}
    for result in ({}, {"tests/worker/conftest.py": OTHER}):
        with pytest.raises(Refused, match="conftest"):
            policy.check_tree(base, result)


def test_names_that_differ_in_case_only_are_refused() -> None:
    """Also when it is a folder on the way; replacing a file by another spelling of its name is fine."""
    assert "differ in case" in refusal_of_added("worker/AGENT.py").reason
    assert "differ in case" in refusal_of_added("worker/AGENT.PY/x.py").reason
    assert policy.check_tree(BASE, {"worker/Agent.py": PLAIN, "tests/worker/test_agent.py": PLAIN})


def test_a_file_may_become_a_folder() -> None:
    """And the reverse."""
    folder = {"worker/agent.py/a.py": PLAIN}
    assert policy.check_tree({"worker/agent.py": PLAIN}, folder) == ("worker/agent.py", "worker/agent.py/a.py")
    assert policy.check_tree(folder, {"worker/agent.py": PLAIN}) == ("worker/agent.py", "worker/agent.py/a.py")


def test_counts_have_caps() -> None:
    """As many files and added lines as allowed, and one more."""
    files = {f"worker/{number}.py": PLAIN for number in range(policy.MAX_FILES + 1)}
    with pytest.raises(Refused) as refusal:
        policy.check_tree({}, files)
    assert refusal.value.code is RefusalCode.TOO_LARGE
    del files["worker/0.py"]
    assert len(policy.check_tree({}, files)) == policy.MAX_FILES
    policy.check_added(policy.MAX_ADDED_LINES)
    with pytest.raises(Refused, match="2,001 added lines"):
        policy.check_added(policy.MAX_ADDED_LINES + 1)


@pytest.mark.fault(21)
def test_no_change_is_empty() -> None:
    """The same tree is no update."""
    with pytest.raises(Refused) as refusal:
        policy.check_tree(BASE, dict(BASE))
    assert refusal.value.code is RefusalCode.EMPTY


@pytest.mark.parametrize(
    ("patch", "code"),
    [
        (b"", RefusalCode.EMPTY),
        (b" \n\n", RefusalCode.EMPTY),
        (b"please make the bot nicer\n", RefusalCode.NOT_A_PATCH),
        (b"@@ -1 +1 @@\n-a\n+b\n", RefusalCode.NOT_A_PATCH),
        (b" diff --git a/x b/x\n", RefusalCode.NOT_A_PATCH),
        (b"\xff\0\n", RefusalCode.NOT_A_PATCH),
        (b"diff --git a/x b/x\nGIT binary patch\nliteral 3\n", RefusalCode.BINARY_DENIED),
        (b"diff --git a/x b/x\nBinary files a/x and b/x differ\n", RefusalCode.BINARY_DENIED),
        (b"diff --git a/x b/y\ncopy from x\ncopy to y\n" * 31, RefusalCode.TOO_LARGE),
        (b"diff --git a/x b/x\n" + b"x" * policy.MAX_PATCH_BYTES, RefusalCode.TOO_LARGE),
    ],
)
def test_some_patches_need_not_be_applied(patch: bytes, code: RefusalCode) -> None:
    """Too large, none at all, or costly to apply."""
    with pytest.raises(Refused) as refusal:
        policy.check_patch(patch)
    assert refusal.value.code is code


def test_words_of_a_patch_in_its_content_mean_nothing() -> None:
    """A file may be about patches."""
    content = b"+GIT binary patch\n" + b"+diff --git a/x b/x\n" * 40
    policy.check_patch(
        b"diff --git a/worker/a b/worker/a\n--- a/worker/a\n+++ b/worker/a\n@@ -0,0 +1,41 @@\n" + content
    )
    policy.check_patch(b"--- a/worker/a\n+++ b/worker/a\n@@ -0,0 +1 @@\n+x\n")


@pytest.mark.parametrize("content", [b"a\0b", b"caf\xe9\n", b"\xed\xa0\x80\n", b"\xff\xfea\0"])
def test_binary_content_is_denied(content: bytes) -> None:
    """A NUL, or bytes that are not UTF-8."""
    with pytest.raises(Refused, match="worker/a") as refusal:
        policy.check_text("worker/a", None, content, [content])
    assert refusal.value.code is RefusalCode.BINARY_DENIED


@pytest.mark.parametrize(
    "line",
    ["a\rb", "a\r", "\x0c", "\x1b[31m", "if admin: \u202e", "\u2066x", "a\u200bb", "\ufeffx", "\u2028", "\u3164"],
)
def test_hidden_characters_in_added_lines_are_refused(line: str) -> None:
    """What a reader of the diff would not see; the lines that were there before are not judged."""
    content = f"{line}\n".encode()
    with pytest.raises(Refused) as refusal:
        policy.check_text("worker/a.py", None, content, [line.encode()])
    assert refusal.value.code is RefusalCode.HIDDEN_CHAR
    assert refusal.value.reason.isprintable()
    policy.check_text("worker/a.py", content, content + b"b\n", [b"b"])
    policy.check_text("worker/a.py", content, None, [])


def test_carriage_returns_stay_where_they_were_the_convention() -> None:
    """A file with CRLF keeps it; a new file, a file without it, and the middle of a line do not get it."""
    policy.check_text("worker/a", b"a\r\n", b"a\r\nb\r\n", [b"b\r"])
    for before, line in ((None, b"b\r"), (b"a\n", b"b\r"), (b"a\r\n", b"b\rc\r"), (b"a\r\n", b"b\r\r")):
        with pytest.raises(Refused, match=r"U\+000D"):
            policy.check_text("worker/a", before, line + b"\n", [line])


@settings(deadline=None)  # a busy machine is no failure
@given(st.text(st.characters(codec="utf-8", exclude_characters="\n")))
def test_text_passes_only_without_control_and_format_characters(line: str) -> None:
    """Whatever else it is made of."""
    try:
        policy.check_text("worker/a", None, line.encode(), [line.encode()])
    except Refused:
        return
    assert not any(unicodedata.category(char) in {"Cc", "Cf"} and char != "\t" for char in line)


@pytest.mark.parametrize("line", ["héllo\twörld", "日本語", "שלום", "مرحبا", "⚠️ 👍", "∑ ≤ β", "a\u0301"])
def test_writing_of_any_script_is_text(line: str) -> None:
    """Accents, right-to-left scripts and emoji are not hidden."""
    policy.check_text("worker/a", None, line.encode(), [line.encode()])


_parts = st.sampled_from(["worker", "tests", "Worker", "a.py", "A.py", "..", ".git", "conftest.py", "x", "", "é", "\n"])
_paths = st.lists(_parts, min_size=1, max_size=4).map("/".join)
_modes = st.sampled_from(["100644", "100644", "100644", "100755", "120000", "160000"])
_trees = st.dictionaries(_paths, st.builds(Entry, _modes, st.sampled_from(["a", "b"])), max_size=6)


@settings(deadline=None)
@given(_trees, _trees)
def test_no_tree_gets_a_change_outside_through(base: dict[str, Entry], result: dict[str, Entry]) -> None:
    """Whatever is let through is exactly the difference, plain files with plain names in the areas."""
    try:
        changed = policy.check_tree(base, result)
    except Refused:
        return
    assert set(changed) == {path for path in {*base, *result} if base.get(path) != result.get(path)}
    for path in changed:
        assert path.startswith(("worker/", "tests/worker/"))
        assert path.isascii()
        assert path.isprintable()
        assert not {"", "..", ".git", "conftest.py"} & set(path.split("/"))
        assert path not in result or result[path].mode == "100644"
    assert len({path.lower() for path in result}) == len(result)


def test_imports_are_held_to_what_a_revision_may_be() -> None:
    """The trusted side may bring a conftest and any amount, but no other place, no binary and no leftovers."""
    policy.check_import({"tests/worker/conftest.py": b"", **{f"worker/{n}.py": b"\r\n" for n in range(100)}})
    for path, content in (
        ("setup.py", b""),
        ("worker/.keep", b""),
        ("worker/__pycache__/a.pyc", b""),
        ("worker/a", b"\0"),
    ):
        with pytest.raises(Refused):
            policy.check_import({path: content})
    with pytest.raises(Refused, match="differ in case"):
        policy.check_import({"worker/a": b"", "worker/A": b""})


def test_shown_makes_any_text_one_visible_line() -> None:
    """Hidden characters are escaped, visible ones stay."""
    assert policy.shown("a\nb\u202ec\udcffé") == "a\\nb\\u202ec\\udcffé"
