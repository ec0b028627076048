"""Revisions of the worker's source: a bare repository, and the policy on what a patch may do to it.

The only place in the supervisor that runs git.
"""

from supervisor.revisions.difftext import ChangeKind, FileChange
from supervisor.revisions.errors import (
    DirectoryInUse,
    MergeConflict,
    RevisionsError,
    RevisionsUnusable,
    UnknownRevision,
)
from supervisor.revisions.merging import Conflict
from supervisor.revisions.policy import RefusalCode, Refused
from supervisor.revisions.repository import Applied, Commit, Revisions

__all__ = [
    "Applied",
    "ChangeKind",
    "Commit",
    "Conflict",
    "DirectoryInUse",
    "FileChange",
    "MergeConflict",
    "RefusalCode",
    "Refused",
    "Revisions",
    "RevisionsError",
    "RevisionsUnusable",
    "UnknownRevision",
]
