"""The order in which the files of the tests are run."""

from tests.support.durations import LONGEST, rank
from tests.support.faults import TESTS


def test_what_takes_long_comes_first() -> None:
    """The longest by name, then by directory; whatever is not known, last."""
    files = [
        "worker/test_chain.py",
        "e2e/test_purge.py",
        "else/test_it.py",
        "crash/off_the_road/test_chat.py",
        *reversed(LONGEST),
    ]
    ranked = sorted((TESTS / file for file in files), key=rank)
    names = [str(file.relative_to(TESTS)) for file in ranked]
    assert names == [
        *LONGEST,
        "crash/off_the_road/test_chat.py",
        "e2e/test_purge.py",
        "worker/test_chain.py",
        "else/test_it.py",
    ]


def test_only_files_that_there_are_are_named() -> None:
    """One that was renamed would silently lose its place."""
    assert [name for name in LONGEST if not (TESTS / name).is_file()] == []
