"""Removing directories that containers could write: whatever lies in there, it must not stop the one who tidies up."""

import shutil
import subprocess
from pathlib import Path
from typing import Final

import structlog

_LOG = structlog.get_logger()
_SECONDS: Final = 120.0


def remove_tree(path: Path) -> None:
    """Remove a file or directory and all below it, without following links; never raises.

    By ``rm``, since trees can be made deeper than a recursive walk in Python stands. What cannot be removed stays and
    is logged.
    """
    command = [shutil.which("rm") or "/bin/rm", "-rf", "--one-file-system", "--", str(path)]
    try:
        done = subprocess.run(
            command, check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        _LOG.warning("could not remove a directory", path=str(path), error=str(error))
        return
    if done.returncode != 0:
        _LOG.warning("could not remove a directory", path=str(path), error=done.stderr.strip()[:300])
