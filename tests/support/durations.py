"""In which order the files of the tests are run: what takes long first, so that two processes end together."""

from pathlib import Path
from typing import Final

_TESTS: Final = Path(__file__).resolve().parents[1]
#: By how long their files take, roughly.
_DIRECTORIES: Final = ("crash", "e2e", "load", "engine", "supervisor", "chaos", "models", "worker")


def rank(path: Path) -> tuple[int, int]:
    """What the tests of a file are sorted by; the order within a file stays."""
    relative = path.relative_to(_TESTS) if path.is_relative_to(_TESTS) else path
    name = str(relative)
    longest = _LONGEST.index(name) if name in _LONGEST else len(_LONGEST)
    directory = _DIRECTORIES.index(relative.parts[0]) if relative.parts[0] in _DIRECTORIES else len(_DIRECTORIES)
    return longest, directory


#: The files that take half a minute and more, the longest first.
_LONGEST: Final = (
    "crash/test_every_state.py",
    "e2e/test_no_message_lost.py",
    "e2e/test_engine_restarts.py",
)
