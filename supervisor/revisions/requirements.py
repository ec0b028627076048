"""What a patch may write into the list of packages: names, with a version or without, and nothing that pip obeys."""

import re
from typing import Final

from supervisor.revisions.policy import REQUIREMENTS, RefusalCode, Refused, shown

_NAME: Final = r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?"
_VERSION: Final = r"[A-Za-z0-9](?:[A-Za-z0-9.!+_]*[A-Za-z0-9])?"
_LINE: Final = re.compile(f"{_NAME}(?:=={_VERSION})?")
_MOST: Final = 10  # packages in one patch: a person has to read them


def requested(before: bytes | None, after: bytes | None) -> tuple[str, ...]:
    """The lines that a patch adds or changes, sorted. Raises Refused.

    Comments stay as they are, packages stay in the list, and each is named once.
    """
    if before is None or after is None:
        raise _refused("the list itself stays")
    old, new = before.decode().splitlines(), after.decode().splitlines()
    lines = tuple(sorted(set(new) - set(old)))
    for line in lines:
        if not _LINE.fullmatch(line):
            raise _refused(f"{shown(line)[:80]!r} is not of the form name or name==version")
    listed = [name_of(line) for line in new if _LINE.fullmatch(line)]
    if twice := next((name for name in listed if listed.count(name) > 1), None):
        raise _refused(f"{twice} is named twice")
    if gone := sorted({name_of(line) for line in old if _LINE.fullmatch(line)} - set(listed)):
        raise _refused(f"{gone[0]} would go; a package leaves with a new checkout only")
    if not lines:
        raise _refused("no package is added or changed")
    if len(lines) > _MOST:
        raise _refused(f"{len(lines)} packages; at most {_MOST} are taken")
    return lines


def name_of(line: str) -> str:
    """The package's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", line.partition("==")[0]).lower()


def _refused(reason: str) -> Refused:
    return Refused(RefusalCode.DEPENDENCY_DENIED, f"{REQUIREMENTS}: {reason}")
