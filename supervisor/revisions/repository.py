"""Every revision of the worker's source, in a bare repository: the only place that runs git.

Git gets an argv and an environment of ours and nothing else: no hooks, no filters, no attributes, no system, user or
inherited configuration. There is no work tree. A patch is applied in quarantine, to an index and an object store of
its own; only what policy has let through is moved into the repository.
"""

import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from supervisor.revisions import difftext, gitargv, merging, policy
from supervisor.revisions.difftext import FileChange, FileDiff
from supervisor.revisions.errors import DirectoryInUse, MergeConflict, RevisionsUnusable
from supervisor.revisions.gitcommands import Git
from supervisor.revisions.requirements import requested

_ACTIVE: Final = "refs/heads/active"
_QUARANTINES: Final = "quarantine"
_TX_ID: Final = re.compile(r"[0-9a-f]+(?:-[0-9a-f]+)*")


@dataclass(frozen=True, slots=True)
class Commit:
    """One revision: the commit and its tree, as full object names."""

    sha: str
    tree: str


@dataclass(frozen=True, slots=True)
class Applied:
    """A patch that was let through and is now a revision."""

    sha: str
    tree: str
    patch_id: str
    changes: tuple[FileChange, ...]


class Revisions:
    """The revisions in one bare repository.

    Safe to share between threads; holds nothing open between calls. Every method raises ``RevisionsUnusable`` when
    git fails for a reason that no argument explains.
    """

    def __init__(self, path: Path) -> None:
        self._path = path.absolute()

    def create(self) -> None:
        """Create the repository where it is missing, and clear away what killed processes have left.

        Call it before anything else uses the repository: a lock that stands there now belongs to nobody.
        """
        with _translated(self._path):
            import git

            self._path.mkdir(parents=True, exist_ok=True)
            Git(git.Git(self._path), self._path, {}).run(*gitargv.INIT)
            for lock in (*self._path.glob("*.lock"), *(self._path / "refs").rglob("*.lock")):
                lock.unlink()
            shutil.rmtree(self._path / _QUARANTINES, ignore_errors=True)

    def commit_files(
        self, files: Mapping[str, bytes], *, message: str, when: float, parent: str | None = None
    ) -> Commit:
        """Make a revision of exactly these files, which the trusted side brings; the same input, the same sha.

        ``when`` is in seconds since the epoch; ``refs/imports/<sha>`` keeps the revision. Raises ``Refused`` for what
        no revision may hold, see ``policy.check_import``; ``policy.belongs`` tells which files of a checkout to bring.
        """
        policy.check_import(files)
        with self._quarantine() as quarantine, self._opened(quarantine) as git:
            if parent is not None:
                git.require(parent)
            tree = git.store(files, quarantine.folder)
            sha = git.commit(tree, message=message, when=when, parents=(parent,) if parent else ())
            quarantine.admit()
            git.run("update-ref", f"refs/imports/{sha}", sha)
        return Commit(sha, tree)

    def apply(
        self, base_sha: str, patch: bytes, *, tx_id: str, title: str, why: str, when: float, dependencies: bool = False
    ) -> Applied:
        """Make a revision of a patch on top of ``base_sha``, as ``refs/tx/<tx_id>``, or raise ``Refused``.

        Deterministic, ``when`` (seconds since the epoch) included, and writes nothing when refused: doing it again
        after a crash ends in the same revision. ``dependencies`` lets it ask for packages.
        """
        if not _TX_ID.fullmatch(tx_id):
            raise ValueError(f"not a transaction id: {policy.shown(tx_id)}")
        policy.check_patch(patch)
        with self._quarantine() as quarantine, self._opened(quarantine) as git:
            base = git.entries(git.require(base_sha))
            git.run("read-tree", base_sha)
            git.apply(patch, quarantine.folder)
            tree = git.run("write-tree").decode().strip()
            diffs = _judge(git, base, git.entries(tree), base_sha, tree, dependencies=dependencies)
            message = _message(title, why, tx_id=tx_id, base_sha=base_sha)
            sha = git.commit(tree, message=message, when=when, parents=(base_sha,))
            quarantine.admit()
            git.run("update-ref", f"refs/tx/{tx_id}", sha)
        return Applied(sha, tree, difftext.patch_id(diffs), tuple(diff.change for diff in diffs))

    def merged(
        self, base_sha: str, ours_sha: str, theirs: Mapping[str, bytes], *, sides: merging.Sides = merging.CHECKOUT
    ) -> dict[str, bytes]:
        """The files that come of what a revision and the trusted side, with the files ``theirs``, made of ``base_sha``.

        Writes nothing. ``sides`` is what conflicts call the two. Raises MergeConflict, and ``Refused`` for what no
        revision may hold.
        """
        policy.check_import(theirs)
        base, ours = self.files(base_sha), self.files(ours_sha)
        with self._opened() as git, tempfile.TemporaryDirectory() as folder:
            files, conflicts = merging.merge(
                base, ours, theirs, lambda *texts: git.merge_text(texts, Path(folder)), sides
            )
        if conflicts:
            raise MergeConflict(conflicts)
        policy.check_import(files)
        return files

    def carried_over(self, base_sha: str, sha: str, onto: str) -> bytes:
        """The patch that does to ``onto`` what ``sha`` did to its base; empty when it is all there already.

        Writes nothing. Raises MergeConflict, and ``Refused`` for what no revision may hold.
        """
        files = self.merged(base_sha, onto, self.files(sha), sides=merging.UPDATE)
        with self._quarantine() as quarantine, self._opened(quarantine) as git:
            return git.diff(git.require(onto), git.store(files, quarantine.folder))

    def take_over(
        self, base_sha: str, files: Mapping[str, bytes], imported: str, *, tx_id: str, title: str, why: str, when: float
    ) -> Applied:
        """Make a revision of merged ``files`` on top of ``base_sha``, as ``refs/tx/<tx_id>``.

        ``imported`` is the import that was merged, the revision's second parent.
        """
        policy.check_import(files)
        with self._quarantine() as quarantine, self._opened(quarantine) as git:
            tree = git.store(files, quarantine.folder)
            diffs = difftext.parse(git.diff(git.require(base_sha), tree))
            message = _message(title, why, tx_id=tx_id, base_sha=base_sha)
            parents = dict.fromkeys((base_sha, git.require(imported)))
            sha = git.commit(tree, message=message, when=when, parents=tuple(parents))
            quarantine.admit()
            git.run("update-ref", f"refs/tx/{tx_id}", sha)
        return Applied(sha, tree, difftext.patch_id(diffs), tuple(diff.change for diff in diffs))

    def imported(self, sha: str) -> str:
        """The import that a revision made by ``take_over`` merged; of any other, the revision itself."""
        with self._opened() as git:
            line = git.run("rev-list", "--parents", "--max-count=1", git.require(sha)).decode().split()
        return line[2] if len(line) > 2 else sha  # noqa: PLR2004 - itself, its base, and the import

    def files(self, sha: str, under: str = "") -> dict[str, bytes]:
        """The files of a revision by path, all or those in the folder ``under``."""
        folder = f"{under.rstrip('/')}/" if under else ""
        with self._opened() as git:
            entries = git.entries(git.require(sha))
            chosen = {path: entry.oid for path, entry in entries.items() if path.startswith(folder)}
            blobs = git.blobs(set(chosen.values()))
        return {path: blobs[oid] for path, oid in chosen.items()}

    def changes(self, base_sha: str, sha: str) -> tuple[FileChange, ...]:
        """What differs between two revisions, by file."""
        with self._opened() as git:
            diff = git.diff(git.require(base_sha), git.require(sha))
        return tuple(file.change for file in difftext.parse(diff))

    def diff(self, base_sha: str, sha: str) -> str:
        """What differs between two revisions, as a patch that ``git apply`` takes."""
        with self._opened() as git:
            return git.diff(git.require(base_sha), git.require(sha)).decode()

    def export(self, sha: str, directory: Path) -> None:
        """Write the files of a revision into a new or empty directory.

        Raises ``DirectoryInUse`` for any other, and ``OSError`` when it cannot be written.
        """
        files = self.files(sha)
        if directory.is_symlink() or (directory.exists() and not _is_empty_directory(directory)):
            raise DirectoryInUse(f"{directory} is not an empty directory")
        directory.mkdir(parents=True, exist_ok=True)
        for path, content in files.items():
            target = directory / path
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("xb") as file:
                file.write(content)

    def set_active(self, sha: str) -> None:
        """Point ``refs/heads/active`` at a revision."""
        with self._opened() as git:
            git.run("update-ref", _ACTIVE, git.require(sha))

    def active(self) -> str | None:
        """The revision that ``refs/heads/active`` points at, if any."""
        with self._opened() as git:
            return git.run("for-each-ref", "--format=%(objectname)", _ACTIVE).decode().strip() or None

    def has(self, sha: str) -> bool:
        """Whether the repository has this commit, named in full."""
        with self._opened() as git:
            return git.has(sha)

    @contextmanager
    def _opened(self, quarantine: "_Quarantine | None" = None) -> Iterator[Git]:
        with _translated(self._path):
            import git

            with git.Repo(self._path, expand_vars=False) as repo:
                yield Git(repo.git, self._path, quarantine.environment if quarantine else {})

    @contextmanager
    def _quarantine(self) -> Iterator["_Quarantine"]:
        with _translated(self._path):
            # Inside the repository, so that moving an object out of quarantine is a rename.
            parent = self._path / _QUARANTINES
            parent.mkdir(exist_ok=True)
            with tempfile.TemporaryDirectory(dir=parent, ignore_cleanup_errors=True) as folder:
                yield _Quarantine(Path(folder), self._path / "objects")


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    """What goes wrong with git or the disk, as an error of ours."""
    try:
        import git
    except ImportError as error:  # GitPython looks for the program when it is imported
        raise RevisionsUnusable("git is not installed, or cannot be run") from error
    try:
        yield
    except (git.InvalidGitRepositoryError, git.NoSuchPathError) as error:
        raise RevisionsUnusable(f"{path}: there is no repository of revisions here") from error
    except git.CommandError as error:
        raise RevisionsUnusable(f"{path}: git cannot be run") from error
    except OSError as error:
        raise RevisionsUnusable(f"{path}: {error.strerror or error}") from error


def _judge(
    git: Git, base: policy.Tree, result: policy.Tree, base_sha: str, tree: str, *, dependencies: bool
) -> tuple[FileDiff, ...]:
    """Let policy see the resulting tree, then the text of what has changed in it."""
    changed = policy.check_tree(base, result, dependencies=dependencies)
    diffs = difftext.parse(git.diff(base_sha, tree))
    policy.check_added(sum(len(diff.added) for diff in diffs))
    added = {diff.path: diff.added for diff in diffs}
    blobs = git.blobs({side[path].oid for side in (base, result) for path in changed if path in side})
    for path in changed:
        before, after = (blobs[side[path].oid] if path in side else None for side in (base, result))
        policy.check_text(path, before, after, added[path])
        if path == policy.REQUIREMENTS:
            requested(before, after)
    return diffs


def _message(title: str, why: str, *, tx_id: str, base_sha: str) -> str:
    # The trailers are the last paragraph, so nothing in the text before can pass for them.
    subject = policy.shown(" ".join(title.split())) or "Update"
    body = "\n".join(policy.shown(line) for line in why.strip().splitlines())
    trailers = f"Tx-Id: {tx_id}\nBase: {base_sha}"
    return "\n\n".join(part for part in (subject, body, trailers) if part) + "\n"


class _Quarantine:
    """An index and an object store apart, which sees the repository's objects and writes none there."""

    def __init__(self, folder: Path, objects: Path) -> None:
        self.folder = folder
        self._own = folder / "objects"
        self._objects = objects
        (self._own / "info").mkdir(parents=True)
        (self._own / "info" / "alternates").write_bytes(os.fsencode(f"{objects.resolve()}\n"))

    @property
    def environment(self) -> dict[str, str]:
        return {"GIT_INDEX_FILE": str(self.folder / "index"), "GIT_OBJECT_DIRECTORY": str(self._own)}

    def admit(self) -> None:
        """Move the objects into the repository, each as a whole, as git does with a push."""
        for written in self._own.glob("??/*"):
            target = self._objects / written.parent.name / written.name
            target.parent.mkdir(exist_ok=True)
            written.replace(target)


def _is_empty_directory(directory: Path) -> bool:
    return directory.is_dir() and not any(directory.iterdir())
