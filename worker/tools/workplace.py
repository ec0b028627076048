"""Where and within which limits tools work, as the toolbox's environment says it."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

DEFAULT_WORKSPACE: Final = "/workspace"


class WorkplaceError(Exception):
    """A value of the environment cannot be used; the message is one line that names it and what is allowed."""


def _nobody_listens(tail: str) -> None:
    """Progress that nobody asked for."""


@dataclass(frozen=True, slots=True)
class Workplace:
    """Relative paths start at ``workspace``; files are reached below ``roots`` alone.

    ``network`` says whether commands have one. ``progress`` is called with the end of what a call has put out so far.
    """

    workspace: Path
    roots: tuple[Path, ...]
    timeout_seconds: float = 30.0
    max_lines: int = 2000
    max_bytes: int = 51200
    denylist: tuple[str, ...] = ()
    network: bool = False
    min_free_bytes: int = 0
    progress: Callable[[str], None] = _nobody_listens


def from_environment(environment: Mapping[str, str] = os.environ) -> Workplace:
    """The workplace that the environment describes. Raises WorkplaceError; a missing directory is no error here."""
    workspace = cleaned(environment.get("WORKSPACE_DIR") or DEFAULT_WORKSPACE)
    named = [part.strip() for part in environment.get("AUTONOUS_TOOL_ALLOWED_ROOTS", "").split(",") if part.strip()]
    paths = dict.fromkeys(cleaned(part) for part in named) or {workspace: None}
    for name, path in (("WORKSPACE_DIR", workspace), *(("AUTONOUS_TOOL_ALLOWED_ROOTS", path) for path in paths)):
        if not path.is_absolute():
            raise WorkplaceError(f"{name}={path} cannot be used: only absolute paths are")
    denied = environment.get("AUTONOUS_TOOL_BASH_DENYLIST", "").split(",")
    return Workplace(
        workspace=workspace,
        roots=tuple(paths),
        timeout_seconds=_number(environment, "AUTONOUS_TOOL_TIMEOUT_SECONDS", 30, least=1),
        max_lines=int(_number(environment, "AUTONOUS_TOOL_MAX_OUTPUT_LINES", 2000, least=1)),
        max_bytes=int(_number(environment, "AUTONOUS_TOOL_MAX_OUTPUT_BYTES", 51200, least=1024)),
        denylist=tuple(part.strip() for part in denied if part.strip()),
        network=environment.get("AUTONOUS_TOOLBOX_NETWORK") == "1",
        min_free_bytes=int(_number(environment, "AUTONOUS_MIN_FREE_BYTES", 0, least=0)),
    )


def cleaned(path: str) -> Path:
    """A path without what is superfluous in it, also two slashes at its beginning, which POSIX lets stand."""
    normal = os.path.normpath(path)
    return Path(f"/{normal.lstrip('/')}" if normal.startswith("/") else normal)


def _number(environment: Mapping[str, str], name: str, default: float, *, least: int) -> float:
    text = environment.get(name) or str(default)
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if not least <= number < float("inf"):
        raise WorkplaceError(f"{name}={text!r} cannot be used: a number from {least} up is")
    return number
