"""The few git commands that are needed, on one opened repository."""

import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from supervisor.revisions import gitargv, policy
from supervisor.revisions.errors import RevisionsUnusable, UnknownRevision
from supervisor.revisions.policy import RefusalCode, Refused

if TYPE_CHECKING:
    import git

_SHA: Final = re.compile(r"[0-9a-f]{40}")
_MAX_CONFLICTS: Final = 127  # git merge-file ends with their number, and beyond with an error


class Git:
    """One opened repository, and the few git commands that are needed."""

    def __init__(self, runner: "git.Git", path: Path, environment: Mapping[str, str]) -> None:
        self._runner = runner
        self._path = path
        self._environment = environment

    def run(self, *command: str, stdin: bytes = b"", identity: Mapping[str, str] | None = None) -> bytes:
        """Standard output of a command that has to succeed."""
        status, output, complaint = self._try(command, stdin, identity or {})
        if status != 0:
            raise RevisionsUnusable(f"{self._path}: git {command[0]}: {gitargv.short(complaint)}")
        return output

    def has(self, sha: str) -> bool:
        """Whether there is this commit, named in full."""
        return bool(_SHA.fullmatch(sha)) and self._try(("cat-file", "-e", f"{sha}^{{commit}}"))[0] == 0

    def require(self, sha: str) -> str:
        """The sha itself. Raises UnknownRevision."""
        if not self.has(sha):
            raise UnknownRevision(sha)
        return sha

    def entries(self, treeish: str) -> policy.Tree:
        """The files of a tree."""
        listing = self.run("ls-tree", "-r", "-z", "--full-tree", treeish)
        entries = {}
        for line in listing.split(b"\0")[:-1]:
            description, _, path = line.partition(b"\t")
            mode, _, oid = description.decode().split(" ")
            entries[os.fsdecode(path)] = policy.Entry(mode, oid)
        return entries

    def blobs(self, oids: set[str]) -> dict[str, bytes]:
        """The contents of files, by object name."""
        stream = self.run("cat-file", "--batch", "--buffer", stdin="".join(f"{oid}\n" for oid in oids).encode())
        blobs = {}
        at = 0
        while at < len(stream):
            end = stream.index(b"\n", at)
            oid, _, size = stream[at:end].decode().split(" ")
            at = end + 1 + int(size)
            blobs[oid] = stream[end + 1 : at]
            at += 1
        return blobs

    def diff(self, base: str, result: str) -> bytes:
        """What differs between two trees."""
        return self.run(*gitargv.DIFF, base, result)

    def apply(self, patch: bytes, folder: Path) -> None:
        """Apply a patch to the index, exactly; ``Refused`` says which file or hunk does not fit."""
        file = folder / "patch"
        # A last line that lost its line feed on the way (``$(...)`` takes it off) is still a whole line.
        file.write_bytes(patch if patch.endswith(b"\n") else patch + b"\n")
        status, _, complaint = self._try((*gitargv.APPLY, str(file)))
        if status == 0:
            return
        # A check writes nothing. When it passes, it was the writing that failed, and the patch is not to blame; nor is
        # it when git was killed (a negative status).
        if self._try((*gitargv.APPLY, "--check", str(file)))[0] <= 0:
            raise RevisionsUnusable(f"{self._path}: git apply: {gitargv.short(complaint)}")
        raise Refused(RefusalCode.APPLY_FAILED, f"the patch does not apply: {gitargv.short(complaint)}")

    def merge_text(self, sides: Sequence[bytes], folder: Path) -> bytes | None:
        """Merge the text of a file, given base, ours and theirs; None when both changed the same lines."""
        names = [folder / name for name in ("base", "ours", "theirs")]
        for name, content in zip(names, sides, strict=True):
            name.write_bytes(content)
        base, ours, theirs = map(str, names)
        status, text, complaint = self._try(("merge-file", "--stdout", "--quiet", ours, base, theirs))
        if not 0 <= status <= _MAX_CONFLICTS:
            raise RevisionsUnusable(f"{self._path}: git merge-file: {gitargv.short(complaint)}")
        return text if status == 0 else None

    def store(self, files: Mapping[str, bytes], folder: Path) -> str:
        """Write blobs and a tree of these files; returns the tree."""
        names = []
        for number, content in enumerate(files.values()):
            name = folder / f"blob-{number}"
            name.write_bytes(content)
            names.append(f"{name}\n")
        oids = self.run("hash-object", "-w", "--no-filters", "--stdin-paths", stdin="".join(names).encode())
        lines = [f"{policy.REGULAR} {oid}\t{path}\0" for oid, path in zip(oids.decode().split(), files, strict=True)]
        self.run("update-index", "-z", "--index-info", stdin="".join(lines).encode())
        return self.run("write-tree").decode().strip()

    def commit(self, tree: str, *, message: str, when: float, parents: Sequence[str]) -> str:
        """Make a commit; its sha."""
        named = [word for parent in parents for word in ("-p", parent)]
        stdin = message.encode(errors="replace")
        return self.run("commit-tree", *named, tree, stdin=stdin, identity=gitargv.identity(when)).decode().strip()

    def _try(
        self, command: Sequence[str], stdin: bytes = b"", identity: Mapping[str, str] | None = None
    ) -> tuple[int, bytes, str]:
        argv = [*gitargv.argv(self._path, {**self._environment, **(identity or {})}), *command]
        with tempfile.TemporaryFile() as file:
            file.write(stdin)
            file.seek(0)
            return self._runner.execute(
                argv,
                istream=file,
                with_extended_output=True,
                with_exceptions=False,
                stdout_as_string=False,
                strip_newline_in_stdout=False,
            )
