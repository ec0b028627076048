"""What can go wrong with the revisions. Every message is one line.

RevisionsError
├── RevisionsUnusable   git or the repository cannot be used; nobody's patch is to blame
├── UnknownRevision     no such commit
├── DirectoryInUse      the target of an export is not an empty directory
└── MergeConflict       two sides changed the same; tells where, file by file

What policy refuses is a ``policy.Refused``.
"""

from collections.abc import Sequence

from supervisor.revisions import policy
from supervisor.revisions.merging import Conflict


class RevisionsError(Exception):
    """Something about the revisions, told in one line."""


class RevisionsUnusable(RevisionsError):
    """Git is missing, or the repository cannot be opened, read or written."""


class UnknownRevision(RevisionsError):
    """The repository has no such commit."""

    def __init__(self, sha: str) -> None:
        super().__init__(f"no such revision: {policy.shown(sha)}")
        self.sha = sha


class DirectoryInUse(RevisionsError):
    """A revision is written into a new or empty directory only."""


class MergeConflict(RevisionsError):
    """Two sides changed the same; ``conflicts`` has an entry for each file."""

    def __init__(self, conflicts: Sequence[Conflict]) -> None:
        super().__init__("; ".join(f"{policy.shown(c.path)}: {c.reason}" for c in conflicts))
        self.conflicts = tuple(conflicts)
