"""Numbers for people."""

import time
from typing import Final

_KIB: Final = 1024
_MINUTE: Final = 60
_HOUR: Final = 3600
_DAY: Final = 86400


def size(count: int | None) -> str:
    """Bytes for people."""
    if count is None:
        return "-"
    if count < _KIB:
        return f"{count} B"
    if count < _KIB * _KIB:
        return f"{count / _KIB:.1f} KiB"
    return f"{count / _KIB / _KIB:.1f} MiB"


def age(since: float | None) -> str:
    """How long ago, in the one unit that matters."""
    if since is None:
        return "-"
    seconds = max(0, int(time.time() - since))
    for unit, name in ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "m")):
        if seconds >= unit:
            return f"{seconds // unit}{name} ago"
    return f"{seconds}s ago"
