"""Text and directories of a candidate's, whatever is in them."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from supervisor.gates import untrusted
from supervisor.gates.untrusted import Overweight, weigh

MIB = 1024 * 1024


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("tests/worker/test_a.py::test_b[ä-1]", "tests/worker/test_a.py::test_b[ä-1]"),
        ("\x1b[2Jok", "\\x1b[2Jok"),
        ("a\nb\r\0", "a\\nb\\r\\x00"),
        ("\ud800", "\\ud800"),
        ("a\u202eb", "a\\u202eb"),
    ],
)
def test_names_are_one_printable_line(text: str, shown: str) -> None:
    """What a terminal would act upon is escaped, all else stays as it is."""
    assert untrusted.name(text, 300) == shown
    assert untrusted.line(text, 300) == shown


def test_long_names_stay_different() -> None:
    """Cut to their length, with a mark of the whole."""
    one, other = (untrusted.name("x" * 1000 + end, 300) for end in "ab")
    assert len(one) == len(other) == 300
    assert one != other
    assert untrusted.name("x" * 300, 300) == "x" * 300


def test_names_that_grow_by_their_escapes_are_cut_too() -> None:
    """Also when what would be left is longer than the name was."""
    assert len(untrusted.name("\x1b" * 299, 300)) == 300
    assert len(untrusted.line("\x1b" * 299, 300)) == 300
    assert len(untrusted.tail("\x1b" * 299, 300)) == 300


def test_the_end_of_a_text_keeps_its_lines() -> None:
    """The last of it, printable but for line breaks and tabs."""
    assert untrusted.tail("first\nlast\t\x1b[1m\n", 13) == "last\t\\x1b[1m\n"


def test_a_directory_weighs_what_it_takes_on_the_disk(tmp_path: Path) -> None:
    """Also what lies deeper; holes and links weigh nothing."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "file").write_bytes(b"x" * MIB)
    (tmp_path / "link").symlink_to("/usr")
    with (tmp_path / "hole").open("wb") as hole:
        hole.truncate(1024 * MIB)
    assert MIB <= weigh(tmp_path, most=2 * MIB) < MIB + 100_000
    with pytest.raises(Overweight, match="more than 0 MiB"):
        weigh(tmp_path, most=MIB // 2)


def test_many_files_are_too_much(tmp_path: Path) -> None:
    """However little is in them."""
    for number in range(10_001):
        (tmp_path / str(number)).touch()
    with pytest.raises(Overweight, match="more than 10000 files"):
        weigh(tmp_path, most=1024 * MIB)


def test_directories_deeper_than_a_path_are_too_much(tmp_path: Path) -> None:
    """And neither they nor what is in them can hide."""
    here = os.open(".", os.O_RDONLY)
    os.chdir(tmp_path)
    try:
        for _ in range(3000):
            Path("aa").mkdir()
            os.chdir("aa")
    finally:
        os.fchdir(here)
        os.close(here)
    with pytest.raises(Overweight, match="cannot be looked into"):
        weigh(tmp_path, most=1024 * MIB)
    subprocess.run([shutil.which("rm") or "rm", "-rf", str(tmp_path / "aa")], check=True)


def test_what_is_gone_weighs_nothing(tmp_path: Path) -> None:
    """A directory may go while it is looked for."""
    assert weigh(tmp_path / "gone", most=1) == 0
