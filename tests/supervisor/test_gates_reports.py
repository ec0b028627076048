"""Reports that were written to harm whoever reads them."""

import json
from collections.abc import Iterable
from pathlib import Path

import pytest

from supervisor.gates.testrun import LONGEST_NODE_ID, Outcome, Report, parse_report

NODE = "tests/worker/test_a.py::test_b"
MIB = 1024 * 1024


def report(path: Path, *lines: object, rest: bytes = b"") -> Report:
    """What is read from these lines."""
    file = path / "report"
    file.write_bytes("".join(json.dumps(line) + "\n" for line in lines).encode() + rest)
    return parse_report(file)


def passed(nodes: Iterable[str] = (NODE,)) -> list[dict[str, object]]:
    """The lines of a run in which all is well."""
    names = list(nodes)
    outcomes: list[dict[str, object]] = [{"id": name, "outcome": "passed"} for name in names]
    return [{"collected": names}, *outcomes, {"finished": 0}]


def test_a_whole_report(tmp_path: Path) -> None:
    """Nothing is wrong with it."""
    read = report(tmp_path, *passed())
    assert (read.trouble, read.outcomes) == ("", {NODE: Outcome.PASSED})


@pytest.mark.parametrize(
    "bad",
    [
        b"[" * 200_000,
        b'{"collected":' + b"[" * 200_000,
        b'{"id": ' + b'{"a":' * 200_000,
        b"\xff\xfe{\0}\0",
        b'{"finished": ' + b"9" * 5000 + b"}",
        b"x" * (2 * MIB),
        b"7\n",
        b'"id"\n',
        b"[]\n",
        b"null\n",
        b"{}\n",
        b'{"id": 7, "outcome": "passed"}\n',
        b'{"id": "x", "outcome": ["passed"]}\n',
        b'{"collected": [["x"]]}\n',
        b'{"collected": "x"}\n',
        b"\n",
    ],
    ids=range(16),
)
def test_what_is_no_report_is_trouble(tmp_path: Path, bad: bytes) -> None:
    """Never an error of the reader's, and what was said before still counts."""
    read = report(tmp_path, *passed(), rest=bad)
    assert read.trouble.startswith("the report cannot be read: ")
    assert len(read.trouble) <= 300
    assert read.outcomes == {NODE: Outcome.PASSED}


def test_a_large_report_is_trouble(tmp_path: Path) -> None:
    """Read no further than there can be anything in it."""
    read = report(tmp_path, *passed(), rest=b'{"finished": "%s"}\n' % (b"x" * 8000) * (17 * MIB // 8000))
    assert read.trouble == "the report cannot be read: the tests wrote too much, more than 16 MiB"


def test_a_report_of_too_many_tests_is_trouble(tmp_path: Path) -> None:
    """The ids are kept in memory and written to the ledger."""
    assert report(tmp_path, *passed(f"t::{n}" for n in range(20_000))).trouble == ""
    read = report(tmp_path, {"collected": []}, *({"id": f"t::{n}", "outcome": "passed"} for n in range(20_001)))
    assert read.trouble == "the report cannot be read: it names more than 20000 tests"


def test_names_are_printable_and_short(tmp_path: Path) -> None:
    """In whatever list they come; the same name is still the same test."""
    names = ["\x1b[2J" + NODE, f"{NODE}\nAPPROVED", "\ud800", "x" * (MIB // 4)]
    read = report(tmp_path, *passed(names))
    assert read.trouble == ""
    assert read.outcomes.keys() == read.collected
    assert len(read.collected) == 4
    assert all(name.isprintable() and len(name) <= LONGEST_NODE_ID for name in read.collected)


def test_texts_are_short_and_harmless(tmp_path: Path) -> None:
    """Their end is kept, with its lines, and without what a terminal would act upon."""
    text = "x" * (MIB // 2) + "\x1b[2J\nE   assert 1 == 2\ud800"
    read = report(tmp_path, {"collected": [NODE]}, {"id": NODE, "outcome": "failed", "text": text}, {"finished": 1})
    assert len(read.failures[NODE]) == 4000
    assert read.failures[NODE].endswith("\\x1b[2J\nE   assert 1 == 2\\ud800")


def test_only_so_many_texts_are_kept(tmp_path: Path) -> None:
    """A failure without its text is still one."""
    lines = [{"id": f"t::{n}", "outcome": "failed", "text": "why"} for n in range(1000)]
    read = report(tmp_path, {"collected": []}, *lines, {"finished": 1})
    assert (len(read.failures), read.count(Outcome.FAILED)) == (500, 1000)


def test_a_forged_outcome_is_named_in_short(tmp_path: Path) -> None:
    """It would be in the ledger as the reason."""
    read = report(tmp_path, {"id": NODE, "outcome": "x\x1b" * 100_000})
    assert len(read.trouble) <= 300
    assert read.trouble.isprintable()


def test_an_empty_report_is_none(tmp_path: Path) -> None:
    """The file is there before the tests are."""
    assert report(tmp_path).trouble == "the tests left no report"
    assert parse_report(tmp_path / "gone").trouble == "the tests left no report"
