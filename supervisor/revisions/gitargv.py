"""How every git is started: an argv and an environment of ours alone. Describes only; ``revisions`` executes."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from supervisor.revisions.policy import shown

_ENVIRONMENT: Final = {
    "HOME": "/nonexistent",
    "LC_ALL": "C",
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_LITERAL_PATHSPECS": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_TERMINAL_PROMPT": "0",
}

_EMPTY_TREE: Final = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"

# Given on every command line, where they overrule the repository's own file.
_SETTINGS: Final = (
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.attributesFile=/dev/null",
    f"attr.tree={_EMPTY_TREE}",  # newer gits read a bare repository's attributes from its HEAD
    "core.excludesFile=/dev/null",
    "core.autocrlf=false",
    "core.protectHFS=true",
    "core.protectNTFS=true",
    "core.fsync=committed,reference",  # a revision that the ledger names must outlive a power cut
    "apply.ignoreWhitespace=no",
    "diff.suppressBlankEmpty=false",
)

_MAX_COMPLAINT: Final = 300

INIT: Final = ("init", "--quiet", "--bare", "--template=", "--initial-branch=active")

#: Exactly or not at all: full context, no leave to go outside, white space as it stands.
APPLY: Final = ("apply", "--cached", "-p1", "--whitespace=nowarn")

#: Always text and never a rename. The order of files and the algorithm are part of a patch's identity.
DIFF: Final = (
    *("diff-tree", "-r", "-p", "--no-renames", "--no-ext-diff", "--no-textconv", "--text", "--no-color"),
    *("--full-index", "-U3", "--diff-algorithm=myers", "--src-prefix=a/", "--dst-prefix=b/", "-O/dev/null"),
)


def argv(repository: Path, environment: Mapping[str, str]) -> list[str]:
    """What comes before the command. ``env -i`` takes away the inherited environment, which GitPython would add."""
    variables = {"PATH": os.environ.get("PATH", os.defpath), **_ENVIRONMENT, **environment}
    settings = [word for setting in _SETTINGS for word in ("-c", setting)]
    assignments = [f"{name}={value}" for name, value in variables.items()]
    return ["env", "-i", *assignments, "git", *settings, f"--git-dir={repository}"]


def identity(when: float) -> dict[str, str]:
    """The environment that makes a commit the same whoever makes it; ``when`` is in seconds since the epoch."""
    fields = {"NAME": "autonous", "EMAIL": "autonous@localhost", "DATE": f"@{int(when)} +0000"}
    return {f"GIT_{role}_{field}": fields[field] for role in ("AUTHOR", "COMMITTER") for field in fields}


def short(complaint: str) -> str:
    """The first lines that git wrote to standard error, on one line without hidden characters."""
    lines = [re.sub(r"^(?:error|fatal): ", "", line) for line in complaint.splitlines() if line.strip()]
    text = shown("; ".join(lines[:3])) or "no message"
    return text if len(text) <= _MAX_COMPLAINT else f"{text[:_MAX_COMPLAINT]}…"
