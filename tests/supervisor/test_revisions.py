"""Revisions: a patch in, a commit out, the same one however often."""

import resource
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from supervisor.revisions import DirectoryInUse, Revisions, RevisionsUnusable, UnknownRevision
from supervisor.revisions.difftext import ChangeKind, FileChange
from supervisor.revisions.policy import RefusalCode, Refused
from tests.supervisor.revisions_support import FILES, GOOD, TX, WHEN, apply, new_file, repository, snapshot


@pytest.fixture
def revisions(tmp_path: Path) -> Revisions:
    return repository(tmp_path / "revisions.git")[0]


@pytest.fixture
def base(revisions: Revisions) -> str:
    sha = revisions.active()
    assert sha is not None
    return sha


def git(path: Path, *command: str) -> str:
    return subprocess.run(["git", "--git-dir", path, *command], check=True, capture_output=True, text=True).stdout


def test_a_patch_becomes_a_commit_with_trailers(revisions: Revisions, base: str, tmp_path: Path) -> None:
    """One parent, a fixed author, the time that was given, and the transaction's own reference."""
    applied = revisions.apply(base, GOOD, tx_id=TX, title="Be\nfine", why="Because.\n\nTx-Id: 0\nBase: 0", when=WHEN)
    assert revisions.files(applied.sha)["worker/agent.py"] == b"def answer(text):\n    return 'fine'\n"
    assert applied.changes == (FileChange("worker/agent.py", ChangeKind.MODIFIED, 1, 1),)
    repo = tmp_path / "revisions.git"
    assert git(repo, "rev-parse", f"refs/tx/{TX}", f"{applied.sha}^", f"{applied.sha}^{{tree}}").split() == [
        applied.sha,
        base,
        applied.tree,
    ]
    shown = git(repo, "log", "-1", "--format=%s|%an|%ct|%(trailers:only,unfold,separator=%x2C)", applied.sha).strip()
    assert shown == f"Be fine|autonous|{WHEN:.0f}|Tx-Id: {TX},Base: {base}"
    assert git(repo, "fsck", "--strict", "--no-dangling") == ""


def test_the_same_input_gives_the_same_revision(tmp_path: Path) -> None:
    """In the same repository again, and in another one elsewhere."""
    results = set()
    for name in ("a.git", "b.git"):
        revisions, sha = repository(tmp_path / name)
        results |= {apply(revisions, sha, GOOD) for _ in range(2)}
    assert len(results) == 1


def test_two_transactions_of_one_patch_differ_in_the_commit_only(revisions: Revisions, base: str) -> None:
    """The tree and the patch's identity are the same, the revision is not."""
    one, two = (apply(revisions, base, GOOD, tx_id=tx) for tx in ("a1", "b2"))
    assert (one.tree, one.patch_id) == (two.tree, two.patch_id)
    assert one.sha != two.sha


def test_the_identity_of_a_patch_is_what_it_does(revisions: Revisions, base: str) -> None:
    """Neither how it is written nor where its lines have moved to matters; indentation does."""
    wordy = b"Subject: fine\n\nSome words.\n---\n" + GOOD
    traditional = GOOD.partition(b"\n")[2]
    identities = {apply(revisions, base, patch).patch_id for patch in (GOOD, wordy, traditional, GOOD.rstrip())}
    assert len(identities) == 1
    far, farther = (
        revisions.commit_files({"worker/agent.py": b"# far\n" * lines}, message="Far", when=WHEN).sha
        for lines in (20, 29)
    )
    patch = b"""\
--- a/worker/agent.py
+++ b/worker/agent.py
@@ -3,3 +3,4 @@
 # far
 # far
+x = 1
 # far
"""
    moved = patch.replace(b"@@ -3,3 +3,4 @@", b"@@ -9,3 +9,4 @@")
    identity = apply(revisions, far, patch).patch_id
    assert apply(revisions, farther, moved).patch_id == identity
    assert apply(revisions, far, patch.replace(b"+x", b"+ x")).patch_id != identity


@pytest.mark.fault(21)
def test_a_patch_that_does_not_fit_is_told_by_file_and_hunk(revisions: Revisions, base: str) -> None:
    """Git's own words, on one line."""
    with pytest.raises(Refused) as refusal:
        apply(revisions, base, GOOD.replace(b"def answer(text)", b"def reply(text)"))
    assert refusal.value.code is RefusalCode.APPLY_FAILED
    assert "worker/agent.py:1" in refusal.value.reason
    assert "\n" not in refusal.value.reason
    with pytest.raises(Refused, match=r"worker/none\.py: does not exist in index"):
        apply(revisions, base, GOOD.replace(b"agent.py", b"none.py"))
    with pytest.raises(Refused, match="corrupt patch at line 5"):
        apply(revisions, base, GOOD.replace(b" def", b"def"))


def test_a_cut_last_line_feed_is_forgiven(revisions: Revisions, base: str) -> None:
    """A shell takes it off; a file without one at its end is still written as such."""
    assert apply(revisions, base, GOOD.removesuffix(b"\n")) == apply(revisions, base, GOOD)
    open_end = new_file("worker/new.py", "x = 1").removesuffix(b"\n")
    assert revisions.files(apply(revisions, base, open_end).sha)["worker/new.py"] == b"x = 1"


def test_deletions_and_new_files_are_changes(revisions: Revisions, base: str) -> None:
    """With their kinds and line counts; what changes says equals what apply said."""
    deletion = b"diff --git a/worker/agent.py b/worker/agent.py\ndeleted file mode 100644\n"
    deletion += b"--- a/worker/agent.py\n+++ /dev/null\n@@ -1,2 +0,0 @@\n-def answer(text):\n-    return 'ok'\n"
    empty = b"diff --git a/worker/empty.py b/worker/empty.py\nnew file mode 100644\n"
    applied = apply(revisions, base, deletion + empty + new_file("worker/z.py", "1\n\n-- a\n++ b\n"))
    assert applied.changes == (
        FileChange("worker/agent.py", ChangeKind.DELETED, 0, 2),
        FileChange("worker/empty.py", ChangeKind.ADDED, 0, 0),
        FileChange("worker/z.py", ChangeKind.ADDED, 4, 0),
    )
    assert revisions.changes(base, applied.sha) == applied.changes
    assert revisions.changes(base, base) == ()


def test_a_rename_is_a_deletion_and_a_new_file(revisions: Revisions, base: str) -> None:
    """So that a moved file is shown in full."""
    moved = b"diff --git a/worker/agent.py b/worker/moved.py\nrename from worker/agent.py\nrename to worker/moved.py\n"
    applied = apply(revisions, base, moved)
    assert applied.changes == (
        FileChange("worker/agent.py", ChangeKind.DELETED, 0, 2),
        FileChange("worker/moved.py", ChangeKind.ADDED, 2, 0),
    )
    assert "rename" not in revisions.diff(base, applied.sha)


def test_files_of_a_folder(revisions: Revisions, base: str) -> None:
    """All files, or those below one folder, by their full path."""
    assert revisions.files(base) == FILES
    tests = {path: content for path, content in FILES.items() if path.startswith("tests/")}
    assert revisions.files(base, "tests/worker") == revisions.files(base, "tests/worker/") == tests
    assert revisions.files(base, "work") == {}


def test_an_export_is_the_revision_and_overwrites_nothing(revisions: Revisions, base: str, tmp_path: Path) -> None:
    """Into a new or an empty directory; not into one in use, a link or a file."""
    target = tmp_path / "new" / "out"
    revisions.export(base, target)
    assert snapshot(target) == FILES
    empty = tmp_path / "empty"
    empty.mkdir()
    (tmp_path / "link").symlink_to(empty)
    (tmp_path / "file").touch()
    for unfit in (target, tmp_path / "link", tmp_path / "file"):
        with pytest.raises(DirectoryInUse):
            revisions.export(base, unfit)
    revisions.export(base, empty)
    assert snapshot(empty) == FILES


def test_active_follows_and_knows_only_revisions(revisions: Revisions, base: str, tmp_path: Path) -> None:
    """None in a new repository; a sha that is no commit is never pointed at."""
    other = Revisions(tmp_path / "other.git")
    other.create()
    assert other.active() is None
    applied = apply(revisions, base, GOOD)
    revisions.set_active(applied.sha)
    assert revisions.active() == applied.sha
    for unknown in ("f" * 40, applied.tree, applied.sha[:12], "HEAD", "--all", ""):
        assert not revisions.has(unknown)
        for use in (revisions.set_active, revisions.files, lambda sha: apply(revisions, sha, GOOD)):
            with pytest.raises(UnknownRevision):
                use(unknown)
    assert revisions.has(base)
    assert revisions.active() == applied.sha


def test_a_transaction_id_is_no_path(revisions: Revisions, base: str) -> None:
    """It becomes part of a reference's name, so it is held to its form."""
    for tx in ("../heads/active", "", "-", "a b", "A"):
        with pytest.raises(ValueError, match="not a transaction id"):
            apply(revisions, base, GOOD, tx_id=tx)


def test_an_import_may_follow_another(revisions: Revisions, base: str) -> None:
    """A revision of other files on top of its parent; without one it stands alone."""
    files = {"worker/agent.py": b"new\n"}
    child = revisions.commit_files(files, message="Import", when=WHEN, parent=base)
    alone = revisions.commit_files(files, message="Import", when=WHEN)
    assert child.tree == alone.tree
    assert child.sha != alone.sha
    assert revisions.files(child.sha) == files
    with pytest.raises(UnknownRevision):
        revisions.commit_files(files, message="Import", when=WHEN, parent="f" * 40)
    with pytest.raises(Refused, match=r"setup\.py"):
        revisions.commit_files({"setup.py": b""}, message="Import", when=WHEN)


def test_a_repository_that_cannot_be_used_is_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Missing, not a repository, a file in its place, damaged, or no git."""
    (tmp_path / "plain").mkdir()
    (tmp_path / "file").touch()
    for path in (tmp_path / "none", tmp_path / "plain"):
        for use in (Revisions(path).active, lambda path=path: apply(Revisions(path), "f" * 40, GOOD)):
            with pytest.raises(RevisionsUnusable, match=str(path)):
                use()
    with pytest.raises(RevisionsUnusable, match="file: File exists"):
        Revisions(tmp_path / "file").create()
    revisions, base = repository(tmp_path / "damaged.git")
    for loose in (tmp_path / "damaged.git" / "objects").glob("??/*"):
        if loose.parent.name + loose.name != base:
            loose.unlink()
    with pytest.raises(RevisionsUnusable, match=r"damaged\.git: git ls-tree"):
        revisions.files(base)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RevisionsUnusable, match="git cannot be run"):
        revisions.active()


def test_what_a_killed_process_leaves_is_cleared_at_the_start(revisions: Revisions, base: str, tmp_path: Path) -> None:
    """Locks and quarantines; creating again keeps everything else."""
    repo = tmp_path / "revisions.git"
    applied = apply(revisions, base, GOOD)
    (repo / "quarantine" / "left").mkdir(parents=True)
    for lock in (
        repo / "refs" / "heads" / "active.lock",
        repo / "refs" / "tx" / f"{TX}.lock",
        repo / "packed-refs.lock",
    ):
        lock.touch()
    with pytest.raises(RevisionsUnusable, match="update-ref"):
        revisions.set_active(applied.sha)
    revisions.create()
    revisions.set_active(applied.sha)
    assert apply(revisions, base, GOOD) == applied
    assert not list(repo.glob("quarantine/*"))
    assert revisions.files(base) == FILES


@pytest.mark.parametrize("kept", [0, 1, 2])
def test_an_apply_that_was_cut_short_is_done_again(revisions: Revisions, base: str, tmp_path: Path, kept: int) -> None:
    """With any part of its objects moved in and no reference written, the second time ends in the same revision."""
    objects = tmp_path / "revisions.git" / "objects"
    before = set(objects.glob("??/*"))
    applied = apply(revisions, base, GOOD)
    for written in sorted(set(objects.glob("??/*")) - before)[kept:]:
        written.unlink()
    (tmp_path / "revisions.git" / "refs" / "tx" / TX).unlink()
    assert apply(revisions, base, GOOD) == applied
    assert git(tmp_path / "revisions.git", "fsck", "--strict", "--no-dangling") == ""


@pytest.fixture
def small_files() -> Iterator[None]:
    """No process may write more than 64 KiB to a file, as on a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64 * 1024, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_failing_disk_is_not_the_patch_to_blame(
    revisions: Revisions, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """The patch fits, the result cannot be written: no refusal, and nothing is left behind."""
    noise = b"".join(sha256(b"%d" % number).hexdigest().encode() + b"\n" for number in range(4_000))
    big = revisions.commit_files({"worker/big.txt": noise}, message="Big", when=WHEN)
    patch = b"--- a/worker/big.txt\n+++ b/worker/big.txt\n@@ -1 +1,2 @@\n+x\n " + noise.splitlines()[0]
    before = snapshot(tmp_path)
    request.getfixturevalue("small_files")
    with pytest.raises(RevisionsUnusable, match="git apply"):
        apply(revisions, big.sha, patch)
    assert snapshot(tmp_path) == before


def test_threads_may_share_the_revisions(revisions: Revisions, base: str) -> None:
    """Each apply has its own index and object store."""
    transactions = [f"{number:x}" for number in range(1, 9)]

    def submit(tx: str) -> bytes:
        applied = apply(revisions, base, new_file("worker/new.py", f"x = '{tx}'\n"), tx_id=tx)
        return revisions.files(applied.sha)["worker/new.py"]

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(submit, transactions)) == [f"x = '{tx}'\n".encode() for tx in transactions]


def test_an_apply_takes_no_longer_than_a_person_notices(revisions: Revisions, base: str) -> None:
    """The best of five, as the machine may be busy."""
    times = []
    for number in range(5):
        start = time.perf_counter()
        apply(revisions, base, GOOD, tx_id=f"{number:x}")
        times.append(time.perf_counter() - start)
    assert min(times) < 0.15


_lines = st.sampled_from(
    ["a", "b", "", " c", "-- d", "++ e", "@@ -1 +1 @@", "diff --git a/x b/x", "\\ No newline", "é"]
)
_content = st.builds(
    lambda lines, end: ("\n".join(lines) + end).encode(), st.lists(_lines, max_size=12), st.sampled_from(["", "\n"])
)
_names = st.sampled_from(["worker/a.py", "worker/b.py", "worker/a.py/c.py", "worker/d/e.txt", "tests/worker/test_f.py"])
_trees = st.dictionaries(_names, _content, max_size=4).filter(
    lambda files: not {"worker/a.py", "worker/a.py/c.py"} <= files.keys()
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(before=_trees, after=_trees)
def test_a_diff_applied_gives_the_tree_that_it_was_made_from(before: dict[str, bytes], after: dict[str, bytes]) -> None:
    """For any two trees: same tree, same identity, counts that add up, however odd the lines look."""
    with TemporaryDirectory() as folder:
        revisions = Revisions(Path(folder) / "r.git")
        revisions.create()
        base = revisions.commit_files(before, message="Before", when=WHEN)
        result = revisions.commit_files(after, message="After", when=WHEN)
        patch = revisions.diff(base.sha, result.sha).encode()
        if base.tree == result.tree:
            assert patch == b""
            return
        applied = apply(revisions, base.sha, patch)
        assert applied.tree == result.tree
        assert revisions.files(applied.sha) == after
        assert applied.changes == revisions.changes(base.sha, result.sha)
        for change in applied.changes:
            old, new = (files.get(change.path, b"") for files in (before, after))
            lines = [len(text.split(b"\n")) - text.endswith(b"\n") - (not text) for text in (old, new)]
            assert change.added - change.deleted == lines[1] - lines[0]
            kinds = {(True, True): "modified", (True, False): "deleted", (False, True): "added"}
            assert change.kind == kinds[change.path in before, change.path in after]
