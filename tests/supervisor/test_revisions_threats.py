"""Patches and surroundings that mean harm, through real git."""

import shutil
import subprocess
import time
from pathlib import Path

import pytest

from supervisor.revisions import Revisions
from supervisor.revisions.policy import MAX_PATCH_BYTES, Refused
from tests.supervisor.revisions_support import FILES, GOOD, apply, new_file, repository, snapshot


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "revisions.git"
    repository(path)
    return path


@pytest.fixture
def revisions(template: Path, tmp_path: Path) -> Revisions:
    return Revisions(shutil.copytree(template, tmp_path / "revisions.git"))


def refuse(revisions: Revisions, patch: bytes, folder: Path) -> Refused:
    """The refusal of a patch, of which nothing is written: neither in the repository nor beside it."""
    base = revisions.active()
    assert base is not None
    before = snapshot(folder)
    start = time.perf_counter()
    with pytest.raises(Refused) as refusal:
        apply(revisions, base, patch)
    assert time.perf_counter() - start < 5
    assert snapshot(folder) == before
    assert refusal.value.reason.isprintable()
    return refusal.value


RENAME = b"diff --git a/worker/agent.py b/{0}\nsimilarity index 100%\nrename from worker/agent.py\nrename to {0}\n"
DELETE = b"""\
diff --git a/{0} b/{0}
deleted file mode 100644
--- a/{0}
+++ /dev/null
@@ -1 +0,0 @@
-x
"""
SECOND_HUNK = b"""\
--- /dev/null
+++ b/supervisor/policy.py
@@ -0,0 +1 @@
+x = 1
"""
INNOCENT = b"diff --git a/worker/agent.py b/worker/agent.py\n"


def filled(template: bytes, path: str) -> bytes:
    return template.replace(b"{0}", path.encode())


@pytest.mark.parametrize(
    ("patch", "code"),
    [
        pytest.param(GOOD + SECOND_HUNK, "path_denied", id="a second file without a header of its own"),
        pytest.param(GOOD + new_file("setup.py"), "path_denied", id="a second file"),
        pytest.param(filled(RENAME, "supervisor/agent.py"), "path_denied", id="renamed out of the area"),
        pytest.param(filled(RENAME, "worker/conftest.py"), "path_denied", id="renamed to an order"),
        pytest.param(filled(RENAME, "agent.py").replace(b"rename", b"copy"), "path_denied", id="copied out"),
        pytest.param(
            b"diff --git a/tests/worker/conftest.py b/worker/a.py\nrename from tests/worker/conftest.py\n"
            b"rename to worker/a.py\n",
            "path_denied",
            id="renamed from a denied name",
        ),
        pytest.param(
            b"diff --git a/tests/worker/conftest.py b/tests/worker/conftest.py\ndeleted file mode 100644\n",
            "path_denied",
            id="a denied file deleted",
        ),
        pytest.param(filled(DELETE, "supervisor/policy.py"), "apply_failed", id="a delete of what is not there"),
        pytest.param(
            INNOCENT + b"new file mode 100644\n" + SECOND_HUNK.replace(b"supervisor/policy.py", b"setup.py"),
            "apply_failed",
            id="+++ names another file than diff --git",
        ),
        pytest.param(
            INNOCENT + b"rename from worker/agent.py\nrename to setup.py\n", "path_denied", id="rename to another"
        ),
    ],
)
def test_the_resulting_tree_is_judged_not_the_words(
    revisions: Revisions, tmp_path: Path, patch: bytes, code: str
) -> None:
    """A patch whose header names an allowed file and whose rest touches another (threat 1)."""
    assert refuse(revisions, patch, tmp_path).code == code


@pytest.mark.parametrize(
    ("patch", "code"),
    [
        pytest.param(new_file("worker/link", "/etc/passwd", mode="120000"), "mode_denied", id="symbolic link"),
        pytest.param(
            new_file("worker/sub", f"Subproject commit {'a' * 40}\n", "160000"), "mode_denied", id="submodule"
        ),
        pytest.param(new_file("worker/run.sh", mode="100755"), "mode_denied", id="executable"),
        pytest.param(INNOCENT + b"old mode 100644\nnew mode 100755\n", "mode_denied", id="change of mode"),
        pytest.param(
            INNOCENT + b"old mode 100644\nnew mode 100755\n" + GOOD.partition(b"\n")[2], "mode_denied", id="and content"
        ),
        pytest.param(new_file("worker/blob").replace(b"x = 1", b"x\0y"), "binary_denied", id="NUL"),
        pytest.param(new_file("worker/latin.py").replace(b"x = 1", b"caf\xe9"), "binary_denied", id="not UTF-8"),
        pytest.param(
            INNOCENT + b"index 1..2\nGIT binary patch\nliteral 200000000\nzc$_^<xyz\n\n", "binary_denied", id="packed"
        ),
        pytest.param(
            INNOCENT + b"Binary files a/worker/agent.py and b/worker/agent.py differ\n", "binary_denied", id="named"
        ),
    ],
)
def test_only_plain_text_files_are_taken(revisions: Revisions, tmp_path: Path, patch: bytes, code: str) -> None:
    """Links, submodules, modes and binaries (threat 2)."""
    assert refuse(revisions, patch, tmp_path).code == code


@pytest.mark.parametrize(
    "path",
    [
        *("../outside.py", "worker/../../outside.py", "/tmp/outside.py", "worker/./a.py", "worker//a.py"),
        *(".git/config", "worker/.git/hooks/pre-commit", "worker/.GIT/config", "worker/git~1/config", "worker/.git /x"),
        *("worker/..\\..\\outside.py", "worker\\a.py", "Worker/a.py", "worker/AGENT.py", "worker/agent.py."),
    ],
)
def test_no_path_leads_outside(revisions: Revisions, tmp_path: Path, path: str) -> None:
    """Dots, absolute paths, git's own folder by any spelling, other cases (threat 3)."""
    assert refuse(revisions, new_file(path), tmp_path).code in {"apply_failed", "path_denied"}
    assert not Path("/tmp/outside.py").exists()


def test_no_path_leads_through_a_link(revisions: Revisions, tmp_path: Path) -> None:
    """A link and a file below it in one patch (threat 3)."""
    link = new_file("worker/link", str(tmp_path), mode="120000")
    assert refuse(revisions, link + new_file("worker/link/a.py"), tmp_path).code in {"apply_failed", "mode_denied"}


def test_attributes_hide_nothing(revisions: Revisions, tmp_path: Path) -> None:
    """No patch may bring them; those that stand in the repository itself change neither diff nor files (threat 4)."""
    attributes = "* -diff -text export-ignore filter=x\n"
    for path in ("worker/.gitattributes", ".gitattributes", "tests/worker/.GitAttributes"):
        assert refuse(revisions, new_file(path, attributes), tmp_path).code in {"path_denied", "apply_failed"}
    (tmp_path / "revisions.git" / "info").mkdir(exist_ok=True)
    (tmp_path / "revisions.git" / "info" / "attributes").write_text(attributes)
    base = revisions.active()
    assert base is not None
    applied = apply(revisions, base, GOOD)
    assert "+    return 'fine'" in revisions.diff(base, applied.sha)
    revisions.export(applied.sha, tmp_path / "out")
    assert set(snapshot(tmp_path / "out")) == set(FILES)


HOOKS = (
    "reference-transaction",
    "post-index-change",
    "pre-applypatch",
    "post-commit",
    "pre-auto-gc",
    "fsmonitor-watchman",
)


def plant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a script wherever a git of the ordinary kind would run it; returns the file that it would make."""
    canary, script, home = tmp_path / "canary", tmp_path / "script", tmp_path / "home"
    script.write_text(f"#!/bin/sh\necho \"$0 $@\" >> '{canary}'\ncat\n")
    script.chmod(0o755)
    hooks, repository_hooks = tmp_path / "hooks", tmp_path / "revisions.git" / "hooks"
    for folder in (hooks, repository_hooks):
        folder.mkdir()
        for hook in HOOKS:
            (folder / hook).symlink_to(script)
    attributes, own_attributes = tmp_path / "attributes", tmp_path / "revisions.git" / "info" / "attributes"
    for file in (attributes, own_attributes):
        file.parent.mkdir(exist_ok=True)
        file.write_text("* filter=canary diff=canary\n")
    configuration = (
        f"[core]\nhooksPath = {hooks}\nfsmonitor = {script}\nattributesFile = {attributes}\npager = {script}\n"
        f"editor = {script}\nsshCommand = {script}\nautocrlf = true\n[diff]\nexternal = {script}\nnoprefix = true\n"
        f'[filter "canary"]\nclean = {script}\nsmudge = {script}\nrequired = true\n'
        f'[diff "canary"]\ntextconv = {script}\ncommand = {script}\n[apply]\nwhitespace = fix\n[user]\nname = Mallory\n'
        f"[commit]\ngpgSign = true\n[gpg]\nprogram = {script}\n"
    )
    for file in (home / ".gitconfig", home / ".config" / "git" / "config", tmp_path / "system"):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(configuration)
    with (tmp_path / "revisions.git" / "config").open("a") as own:
        own.write(configuration)
    inherited = {
        "HOME": home,
        "XDG_CONFIG_HOME": home / ".config",
        "GIT_CONFIG_SYSTEM": tmp_path / "system",
        "GIT_CONFIG_GLOBAL": home / ".gitconfig",
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "core.hooksPath",
        "GIT_CONFIG_VALUE_0": hooks,
        "GIT_EXTERNAL_DIFF": script,
        "GIT_PAGER": script,
        "GIT_EDITOR": script,
        "GIT_ASKPASS": script,
        "GIT_SSH_COMMAND": script,
        "GIT_TEMPLATE_DIR": tmp_path,
        "GIT_AUTHOR_NAME": "Mallory",
        "GIT_DIFF_OPTS": "-U0",
    }
    for name, value in inherited.items():
        monkeypatch.setenv(name, str(value))
    return canary


def test_planted_programs_never_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hooks, filters, drivers and settings in every place that git knows change nothing (threat 5)."""
    elsewhere, base = repository(tmp_path / "clean.git")
    patch = GOOD.replace(b"'fine'", b"'fine'  ") + new_file("worker/new.py", "x = 1\t\n")
    clean = apply(elsewhere, base, patch)
    revisions, _ = repository(tmp_path / "revisions.git")
    canary = plant(tmp_path, monkeypatch)

    revisions.create()
    again = revisions.commit_files(FILES, message="Again", when=1.0)
    assert revisions.files(again.sha) == FILES
    assert apply(revisions, base, patch) == clean
    assert revisions.diff(base, clean.sha) == elsewhere.diff(base, clean.sha)
    revisions.set_active(clean.sha)
    revisions.export(clean.sha, tmp_path / "out")
    assert snapshot(tmp_path / "out") == revisions.files(clean.sha)
    assert not canary.exists()

    # An ordinary git in the same surroundings does run them, so the canary is alive.
    ordinary = ["git", "--git-dir", str(tmp_path / "revisions.git"), "update-ref", "refs/heads/x", base]
    subprocess.run(ordinary, check=True, capture_output=True, stdin=subprocess.DEVNULL)
    assert "reference-transaction" in canary.read_text()


def test_an_inherited_repository_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What points an ordinary git at another place points ours nowhere (threat 5)."""
    other, _ = repository(tmp_path / "other.git")
    revisions, base = repository(tmp_path / "revisions.git")
    before = snapshot(tmp_path / "other.git")
    inherited = {"DIR": "", "COMMON_DIR": "", "OBJECT_DIRECTORY": "objects", "INDEX_FILE": "index", "WORK_TREE": ""}
    for name, place in inherited.items():
        monkeypatch.setenv(f"GIT_{name}", str(tmp_path / "other.git" / place))
    monkeypatch.setenv("GIT_NAMESPACE", "x")
    applied = apply(revisions, base, GOOD)
    revisions.set_active(applied.sha)
    for name in (*inherited, "NAMESPACE"):
        monkeypatch.delenv(f"GIT_{name}")
    assert revisions.active() == applied.sha
    assert other.active() == base
    assert snapshot(tmp_path / "other.git") == before


@pytest.mark.parametrize(
    "patch",
    [
        pytest.param(new_file("worker/a.py", "if ok: \u202e# x\n"), id="bidi in a line"),
        pytest.param(new_file("worker/a.py", "a\u200bb = 1\n"), id="zero width in a line"),
        pytest.param(new_file("worker/a.py", "x = '\x1b[2K'\n"), id="escape in a line"),
        pytest.param(new_file("worker/a.py", "x = 1\r\n"), id="carriage return in a new file"),
        pytest.param(GOOD.replace(b"fine'\n", b"fine'\r\n"), id="carriage return in a file without"),
        pytest.param(new_file("worker/a\u202eyp.exe"), id="bidi in a name"),
        pytest.param(
            new_file('"worker/a\\nb.py"').replace(b'a/"', b'"a/').replace(b'b/"', b'"b/'), id="newline in a name"
        ),
        pytest.param(
            new_file('"worker/\\377.py"').replace(b'a/"', b'"a/').replace(b'b/"', b'"b/'), id="name not UTF-8"
        ),
    ],
)
def test_hidden_characters_are_refused(revisions: Revisions, tmp_path: Path, patch: bytes) -> None:
    """In names and in added lines (threat 6)."""
    assert refuse(revisions, patch, tmp_path).code == "hidden_char"


def test_a_file_with_crlf_keeps_it(revisions: Revisions) -> None:
    """The patch of such a file adds lines that end as the others do."""
    base = revisions.active()
    assert base is not None
    patch = b"--- a/worker/windows.py\n+++ b/worker/windows.py\n@@ -1,2 +1,3 @@\n a = 1\r\n+c = 3\r\n b = 2\r\n"
    assert revisions.files(apply(revisions, base, patch).sha)["worker/windows.py"] == b"a = 1\r\nc = 3\r\nb = 2\r\n"


def test_a_huge_patch_is_refused_before_it_is_read(revisions: Revisions, tmp_path: Path) -> None:
    """300,000 lines, in far less than a second (threat 7)."""
    patch = new_file("worker/huge.py", "x = 1\n" * 300_000)
    start = time.perf_counter()
    assert refuse(revisions, patch, tmp_path).code == "too_large"
    assert time.perf_counter() - start < 0.5


@pytest.mark.parametrize(
    "patch",
    [
        pytest.param(new_file("worker/long.py", "\n" * 130_000), id="as many lines as fit"),
        pytest.param(new_file("worker/long.py", "\n" * 2_001), id="one line too many"),
        pytest.param(b"".join(new_file(f"worker/n{number}.py") for number in range(31)), id="one file too many"),
        pytest.param(
            b"".join(new_file(f"worker/n{number}.py").partition(b"mode 100644\n")[2] for number in range(31)),
            id="one file too many, without headers",
        ),
        pytest.param(
            b"".join(
                b"diff --git a/worker/agent.py b/worker/c%d\ncopy from worker/agent.py\ncopy to worker/c%d\n"
                % (number, number)
                for number in range(2_000)
            ),
            id="copies of a file, two lines each",
        ),
        pytest.param(new_file("worker/wide.py", "x" * MAX_PATCH_BYTES), id="one long line"),
    ],
)
def test_caps_hold_for_what_is_small_on_paper(revisions: Revisions, tmp_path: Path, patch: bytes) -> None:
    """Lines, files and bytes (threat 7)."""
    assert refuse(revisions, patch, tmp_path).code == "too_large"


@pytest.mark.parametrize(
    "path",
    [
        *(
            "pyproject.toml",
            "setup.py",
            "requirements.txt",
            "worker/pyproject.toml",
            "worker/setup.py",
            "worker/setup.cfg",
        ),
        *("worker/requirements.txt", "worker/evil.pth", "worker/sitecustomize.py", "worker/usercustomize.py"),
        *("tests/worker/conftest.py", "worker/sub/conftest.py", "tests/worker/pytest.ini", "tests/worker/tox.ini"),
        *("tests/conftest.py", "worker/x.dist-info/entry_points.txt", "worker/CONFTEST.PY"),
    ],
)
def test_files_that_give_orders_are_denied(revisions: Revisions, tmp_path: Path, path: str) -> None:
    """Whatever a build, Python or pytest would obey (threat 8)."""
    refusal = refuse(revisions, new_file(path), tmp_path)
    # The base has a conftest.py, onto which no new file applies.
    assert refusal.code == ("apply_failed" if path in FILES else "path_denied")
    assert path in refusal.reason


@pytest.mark.parametrize(
    ("patch", "code"),
    [
        (b"", "empty"),
        (b"make it nicer, please\n", "not_a_patch"),
        (INNOCENT + b"old mode 100644\nnew mode 100644\n", "apply_failed"),
        (GOOD.replace(b"fine", b"ok"), "empty"),
        (INNOCENT, "apply_failed"),
        (b"--- a\n+++ b\n", "apply_failed"),
        (b"diff --git a/worker/agent.py b/worker/agent.py\n@@ -1 +1 @@\n-x\n", "apply_failed"),
    ],
)
def test_what_changes_nothing_is_no_update(revisions: Revisions, tmp_path: Path, patch: bytes, code: str) -> None:
    """Nothing, words, headers only, the same content."""
    assert refuse(revisions, patch, tmp_path).code == code
