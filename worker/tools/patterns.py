"""The patterns that a model gives, with errors that it can mend."""

import re

from worker.tools import globs
from worker.tools.base import ErrorClass, ToolError


def glob(argument: str, pattern: str) -> re.Pattern[str] | None:
    """What matches the paths that a glob stands for; None when that is all. Raises ToolError."""
    if pattern in ("", "*", "**", "**/*"):
        return None
    try:
        return globs.matcher(pattern)
    except re.error as error:
        raise ToolError("bad_pattern", f"{argument}={pattern!r} is no glob: {error}", ErrorClass.VALIDATION) from error


def regex(pattern: str, *, literal: bool, ignore_case: bool) -> re.Pattern[str]:
    """What a pattern, or the very text when ``literal``, matches within a line. Raises ToolError."""
    flags = re.MULTILINE | (re.IGNORECASE if ignore_case else re.NOFLAG)
    try:
        return re.compile(re.escape(pattern) if literal else pattern, flags)
    except (re.error, RecursionError, OverflowError) as error:
        reason = f"pattern={pattern!r} is no regular expression: {error}; with literal=true it is taken as it stands"
        raise ToolError("bad_pattern", reason, ErrorClass.VALIDATION) from error
