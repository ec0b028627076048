"""A three-way merge of whole trees, and the revision that is made of it."""

import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from supervisor.revisions import ChangeKind, MergeConflict, Refused, Revisions

BASE = {"worker/a.py": b"1\n2\n3\n4\n5\n6\n7\n", "worker/b.py": b"b\n", "worker/c.py": b"c\n"}


@pytest.fixture
def revisions(tmp_path: Path) -> Revisions:
    made = Revisions(tmp_path / "revisions.git")
    made.create()
    return made


def merged(revisions: Revisions, ours: Mapping[str, bytes], theirs: Mapping[str, bytes]) -> dict[str, bytes]:
    """What comes of two sides of BASE."""
    base = revisions.commit_files(BASE, message="base", when=1)
    our = revisions.commit_files(ours, message="ours", when=2, parent=base.sha)
    return revisions.merged(base.sha, our.sha, theirs)


def conflicts(revisions: Revisions, ours: Mapping[str, bytes], theirs: Mapping[str, bytes]) -> dict[str, str]:
    with pytest.raises(MergeConflict) as caught:
        merged(revisions, ours, theirs)
    return {conflict.path: conflict.reason for conflict in caught.value.conflicts}


def without(path: str) -> dict[str, bytes]:
    return {name: content for name, content in BASE.items() if name != path}


def test_changes_in_other_files_are_both_taken(revisions: Revisions) -> None:
    """Changed, added and deleted ones, whichever side it was."""
    ours = {**without("worker/b.py"), "worker/ours.py": b"o\n"}
    theirs = {**BASE, "worker/c.py": b"C\n", "tests/worker/conftest.py": b"t\n"}
    assert merged(revisions, ours, theirs) == {
        "worker/a.py": BASE["worker/a.py"],
        "worker/c.py": b"C\n",
        "worker/ours.py": b"o\n",
        "tests/worker/conftest.py": b"t\n",
    }


def test_changes_in_other_lines_of_a_file_are_both_taken(revisions: Revisions) -> None:
    """Merged line by line."""
    ours = {**BASE, "worker/a.py": b"one\n2\n3\n4\n5\n6\n7\n"}
    theirs = {**BASE, "worker/a.py": b"1\n2\n3\n4\n5\n6\nseven\n"}
    assert merged(revisions, ours, theirs)["worker/a.py"] == b"one\n2\n3\n4\n5\n6\nseven\n"


def test_the_same_change_on_both_sides_is_none(revisions: Revisions) -> None:
    """Also the same new file and the same deletion."""
    both = {**without("worker/c.py"), "worker/b.py": b"B\n", "worker/new.py": b"n\n"}
    assert merged(revisions, both, both) == both


def test_conflicts_are_told_by_file(revisions: Revisions) -> None:
    """Each with what the two sides did; all of them, not the first alone."""
    ours = {**without("worker/c.py"), "worker/a.py": b"ours\n", "worker/new.py": b"ours\n"}
    theirs = {**without("worker/b.py"), "worker/a.py": b"theirs\n", "worker/new.py": b"theirs\n", "worker/c.py": b"C\n"}
    ours["worker/b.py"] = b"B\n"
    assert conflicts(revisions, ours, theirs) == {
        "worker/a.py": "both changed the same lines",
        "worker/b.py": "the checkout deleted it, the agent changed it",
        "worker/c.py": "the agent deleted it, the checkout changed it",
        "worker/new.py": "both added it, with other contents",
    }


def test_a_file_where_the_other_side_has_a_folder(revisions: Revisions) -> None:
    """No tree can hold both."""
    told = conflicts(revisions, {**BASE, "worker/x": b"file\n"}, {**BASE, "worker/x/y.py": b"in a folder\n"})
    assert told == {"worker/x": "a file on one side, a folder on the other"}


def test_a_merge_writes_nothing(revisions: Revisions, tmp_path: Path) -> None:
    """Neither a clean one nor one with conflicts."""

    def objects() -> int:
        return sum(1 for _ in (tmp_path / "revisions.git" / "objects").rglob("*") if _.is_file())

    base = revisions.commit_files(BASE, message="base", when=1)
    before = objects()
    revisions.merged(base.sha, base.sha, {**BASE, "worker/a.py": b"new\n"})
    with pytest.raises(Refused):
        revisions.merged(base.sha, base.sha, {"elsewhere.py": b"x\n"})
    assert objects() == before


def test_the_revision_of_a_merge_names_base_and_import(revisions: Revisions, tmp_path: Path) -> None:
    """Its parents are the active revision and the import, which is found again by it."""
    first = revisions.commit_files(BASE, message="first", when=1)
    ours = revisions.commit_files({**BASE, "worker/ours.py": b"o\n"}, message="ours", when=2, parent=first.sha)
    brought = {**BASE, "worker/c.py": b"C\n"}
    second = revisions.commit_files(brought, message="second", when=3, parent=first.sha)
    files = revisions.merged(first.sha, ours.sha, brought)
    made = revisions.take_over(ours.sha, files, second.sha, tx_id="ab12", title="t", why="", when=4)
    assert revisions.files(made.sha) == files == {**brought, "worker/ours.py": b"o\n"}
    assert [(change.path, change.kind) for change in made.changes] == [("worker/c.py", ChangeKind.MODIFIED)]
    assert revisions.imported(made.sha) == second.sha
    assert (revisions.imported(first.sha), revisions.imported(ours.sha)) == (first.sha, ours.sha)
    git = ["git", f"--git-dir={tmp_path / 'revisions.git'}"]
    shown = subprocess.run(
        [*git, "rev-parse", "refs/tx/ab12", f"{made.sha}^1", f"{made.sha}^2"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout.split() == [made.sha, ours.sha, second.sha]


def test_configuration_of_the_machine_does_not_reach_a_merge(
    revisions: Revisions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No merge driver, no attributes: what a user's git would do to a conflict is not done here."""
    config = tmp_path / "config"
    config.write_text('[merge]\n\tconflictstyle = diff3\n\tdefault = theirs\n[merge "theirs"]\n\tdriver = touch ran\n')
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    monkeypatch.chdir(tmp_path)
    told = conflicts(revisions, {**BASE, "worker/b.py": b"ours\n"}, {**BASE, "worker/b.py": b"theirs\n"})
    assert list(told) == ["worker/b.py"]
    assert not (tmp_path / "ran").exists()
