"""Reports of test runs: what the trusted plug-in writes for an honest run, and what is made of anything else.

The candidate's code shares the process with the plug-in, so whatever lies there afterwards may be its work.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from supervisor.gates import testrun
from supervisor.gates.testrun import Outcome, Report, parse_report

TRUSTED = Path(testrun.__file__).parent / "trusted"
PASSED, FAILED, SKIPPED, ERROR = Outcome.PASSED, Outcome.FAILED, Outcome.SKIPPED, Outcome.ERROR

HONEST = {
    "test_all.py": """
import pytest

def test_passes():
    pass

def test_fails():
    assert 1 == 2, "the sum is wrong"

def test_skips():
    pytest.skip("not here")

@pytest.mark.skip
def test_is_marked():
    pass

@pytest.mark.xfail
def test_is_expected_to_fail():
    assert False

@pytest.mark.xfail(strict=True)
def test_passes_unexpectedly():
    pass

@pytest.mark.parametrize("value", [0, "a::b", "[x]"])
def test_has_parameters(value):
    assert value != "[x]"

class TestGroup:
    def test_inside(self):
        pass

@pytest.fixture
def breaks_before():
    raise RuntimeError("no set-up")

@pytest.fixture
def breaks_after():
    yield
    raise RuntimeError("no tear-down")

def test_is_not_set_up(breaks_before):
    pass

def test_is_not_torn_down(breaks_after):
    pass
""",
    "test_skips_itself.py": "import pytest\n\npytest.skip('all of it', allow_module_level=True)\n",
}
ALL = "tests/worker/test_all.py::"
OUTCOMES = {
    f"{ALL}test_passes": PASSED,
    f"{ALL}test_fails": FAILED,
    f"{ALL}test_skips": SKIPPED,
    f"{ALL}test_is_marked": SKIPPED,
    f"{ALL}test_is_expected_to_fail": SKIPPED,
    f"{ALL}test_passes_unexpectedly": FAILED,
    f"{ALL}test_has_parameters[0]": PASSED,
    f"{ALL}test_has_parameters[a::b]": PASSED,
    f"{ALL}test_has_parameters[[x]]": FAILED,
    f"{ALL}TestGroup::test_inside": PASSED,
    f"{ALL}test_is_not_set_up": ERROR,
    f"{ALL}test_is_not_torn_down": ERROR,
    "tests/worker/test_skips_itself.py": SKIPPED,
}


def run(directory: Path, files: dict[str, str]) -> Report:
    """What a run over these files reports, with the trusted configuration and plug-in."""
    tests = directory / "tests" / "worker"
    tests.mkdir(parents=True)
    for name, source in files.items():
        (tests / name).write_text(source)
    report = directory / "report"
    report.touch()
    command = [sys.executable, "-m", "pytest", "-c", str(TRUSTED / "pytest.ini"), f"--rootdir={directory}", str(tests)]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(TRUSTED), "GATE_REPORT": str(report)}
    subprocess.run(command, cwd=directory, env=environment, check=False, capture_output=True, timeout=60)
    return parse_report(report)


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Report:
    return run(tmp_path_factory.mktemp("app"), HONEST)


def test_an_honest_run_is_reported_by_node_id(honest: Report) -> None:
    """Every test with its outcome, and a module that skips itself by its own name."""
    assert honest.outcomes == OUTCOMES
    assert honest.collected == {node for node in OUTCOMES if "::" in node}
    assert honest.trouble == ""


def test_what_failed_is_told_with_its_reason(honest: Report) -> None:
    """The words of pytest, for what failed and for nothing else."""
    assert "the sum is wrong" in honest.failures[f"{ALL}test_fails"]
    assert "no set-up" in honest.failures[f"{ALL}test_is_not_set_up"]
    assert "no tear-down" in honest.failures[f"{ALL}test_is_not_torn_down"]
    assert set(honest.failures) == {n for n, o in OUTCOMES.items() if o in (FAILED, ERROR)}


def test_a_module_that_cannot_be_imported_is_named(tmp_path: Path) -> None:
    """pytest runs nothing then; what it had collected is missing, and the reason is told."""
    report = run(tmp_path, {"test_a.py": "def test_a(): pass\n", "test_b.py": "import nothing_of_that_name\n"})
    assert report.outcomes == {"tests/worker/test_b.py": ERROR}
    assert "nothing_of_that_name" in report.failures["tests/worker/test_b.py"]
    assert report.trouble == "tests_missing: 1 of 1 tests did not run"


HOSTILE = {
    "exits at import": ({"test_a.py": "import os\nos._exit(0)\n"}, "the tests left no report"),
    "exits in a test": (
        {"test_a.py": "import os\ndef test_a(): pass\ndef test_b(): os._exit(0)\n"},
        "the test run was cut short before its end",
    ),
    "ends pytest in a test": (
        {"test_a.py": "import pytest\ndef test_a(): pytest.exit('enough', 0)\ndef test_b(): pass\n"},
        "tests_missing: 2 of 2 tests did not run",
    ),
    "has no tests": ({"helper.py": "x = 1\n"}, ""),
    "deselects by a plug-in of its own": (
        {
            "test_a.py": "def test_a(): pass\ndef test_b(): assert False\n",
            "conftest.py": "def pytest_runtest_protocol(item): return item.name == 'test_b' or None\n",
        },
        "tests_missing: 1 of 2 tests did not run",
    ),
    "replaces the report": (
        {"test_a.py": "import os\ndef test_a(): open(os.environ['GATE_REPORT'], 'w').write('APPROVED')\n"},
        "the report cannot be read",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_run_is_not_taken_for_a_whole_one(tmp_path: Path, name: str) -> None:
    """Whatever the tests do to the process, the report that is left does not look like a pass."""
    files, trouble = HOSTILE[name]
    report = run(tmp_path, files)
    assert report.trouble.startswith(trouble)
    assert report.trouble or not report.collected


# -- reports that nobody's pytest wrote


def collected(*nodes: object) -> str:
    return json.dumps({"collected": list(nodes)})


def outcome(node: object, how: object = "passed", text: object = "") -> str:
    return json.dumps({"id": node, "outcome": how, "text": text})


FINISHED = json.dumps({"finished": 0})


def parsed(tmp_path: Path, *lines: str) -> Report:
    path = tmp_path / "report"
    path.write_text("".join(f"{line}\n" for line in lines))
    return parse_report(path)


def test_a_whole_report_has_no_trouble(tmp_path: Path) -> None:
    """Collected, run, finished."""
    report = parsed(tmp_path, collected("a::x", "a::y"), outcome("a::x"), outcome("a::y", "failed", "why"), FINISHED)
    assert report.trouble == ""
    assert report.outcomes == {"a::x": PASSED, "a::y": FAILED}
    assert report.failures == {"a::y": "why"}
    assert report.count(PASSED, FAILED) == 2


def test_a_report_without_its_last_line_was_cut_short(tmp_path: Path) -> None:
    """However good it looks up to there."""
    report = parsed(tmp_path, collected("a::x"), outcome("a::x"))
    assert report.trouble == "the test run was cut short before its end"


def test_what_was_collected_and_did_not_run_is_missing(tmp_path: Path) -> None:
    """A test that is never reported is not one that passed."""
    report = parsed(tmp_path, collected("a::x", "a::y", "a::z"), outcome("a::x"), FINISHED)
    assert report.trouble == "tests_missing: 2 of 3 tests did not run"


def test_collections_add_up(tmp_path: Path) -> None:
    """A second list does not take anything off the first."""
    report = parsed(tmp_path, collected("a::x"), collected("a::y"), collected(), outcome("a::y"), FINISHED)
    assert report.collected == {"a::x", "a::y"}
    assert report.trouble.startswith("tests_missing")


@pytest.mark.parametrize(
    ("told", "counts"),
    [
        (["passed", "failed"], FAILED),
        (["failed", "passed"], FAILED),
        (["error", "passed"], ERROR),
        (["passed", "error"], ERROR),
        (["skipped", "passed"], PASSED),
        (["failed", "skipped", "passed"], FAILED),
    ],
)
def test_a_later_pass_never_covers_a_failure(tmp_path: Path, told: list[str], counts: Outcome) -> None:
    """A test that is reported twice is judged by its failure, in whatever order."""
    report = parsed(tmp_path, collected("a::x"), *(outcome("a::x", how) for how in told), FINISHED)
    assert report.outcomes == {"a::x": counts}


GARBAGE = {
    "no JSON": "APPROVED",
    "half a line": '{"id": "a::x", "outc',
    "a list": "[1, 2]",
    "a number": "7",
    "null": "null",
    "a word": '"finished"',
    "an unknown line": '{"approved": true}',
    "an unknown outcome": outcome("a::x", "splendid"),
    "an outcome that is no word": outcome("a::x", ["passed"]),
    "an id that is no text": outcome(["a::x"]),
    "a list that is none": '{"collected": "a::x"}',
    "a list that is a number": '{"collected": 5}',
    "a list of numbers": collected(1, 2),
    "an endless depth": "[" * 200_000,
    "a deep object": '{"id":' * 100_000,
    "a huge number": f'{{"finished": {"9" * 5000}}}',
    "not a number": '{"id": NaN, "outcome": "passed"}',
    "one endless line": '{"id": "' + "x" * (2 * 1024 * 1024),
}


@pytest.mark.parametrize("name", GARBAGE)
def test_anything_odd_is_trouble_and_never_a_crash(tmp_path: Path, name: str) -> None:
    """The run is not trusted, the reason is one short line, and what failed before that stays failed."""
    report = parsed(tmp_path, outcome("a::bad", "failed", "why"), GARBAGE[name], FINISHED)
    assert report.trouble
    assert len(report.trouble) <= 300
    assert report.trouble.isprintable()
    assert report.outcomes["a::bad"] is FAILED


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"\xff\xfe\x00", b"\x00" * 1000, "\ud800".encode(errors="surrogatepass")]
)
def test_bytes_that_are_no_text_are_trouble(tmp_path: Path, content: bytes) -> None:
    """Also a file with nothing in it."""
    path = tmp_path / "report"
    path.write_bytes(content)
    assert parse_report(path).trouble


def test_a_huge_report_is_not_read_to_its_end(tmp_path: Path) -> None:
    """Gigabytes of lines cost neither memory nor time, and are trouble."""
    path = tmp_path / "report"
    with path.open("wb") as file:
        file.write((outcome("a::x") + "\n").encode() * 1000)
        file.truncate(1 << 40)
    started = time.monotonic()
    assert parse_report(path).trouble
    assert time.monotonic() - started < 5


def test_a_report_with_too_many_tests_is_trouble(tmp_path: Path) -> None:
    """What one report may bring into memory has a limit."""
    report = parsed(tmp_path, *(collected(*(f"a::{n}-{m}" for m in range(1000))) for n in range(30)), FINISHED)
    assert "tests" in report.trouble
    assert len(report.collected) < 30_000


@pytest.mark.parametrize("kind", ["link", "pipe", "directory", "nothing", "device", "dangling"])
def test_what_is_no_file_is_not_read(tmp_path: Path, kind: str) -> None:
    """A link to another's report, a pipe that never ends, a device: trouble at once, and nothing of it is used."""
    path = tmp_path / "report"
    other = tmp_path / "other"
    other.write_text(f"{collected('a::x')}\n{outcome('a::x')}\n{FINISHED}\n")
    match kind:
        case "link":
            path.symlink_to(other)
        case "pipe":
            os.mkfifo(path)
        case "directory":
            path.mkdir()
        case "device":
            path.symlink_to("/dev/zero")
        case "dangling":
            path.symlink_to(tmp_path / "gone")
    started = time.monotonic()
    report = parse_report(path)
    assert report.trouble
    assert report.outcomes == {}
    assert time.monotonic() - started < 1


def test_names_and_texts_are_made_fit_to_be_shown(tmp_path: Path) -> None:
    """Terminal escapes, forged lines, half characters and endless names end in the report as harmless text."""
    names = ["a::\x1b[2J", "a::x\nAPPROVED", "a::\ud800", "a::" + "y" * 10_000, "a::" + "y" * 10_001]
    text = "why\x1b]0;APPROVED\x07\ud800\r\n\tindented" + "z" * 100_000
    report = parsed(tmp_path, *(outcome(name, "failed", text) for name in names), FINISHED)
    assert len(report.outcomes) == len(names)
    for node in report.outcomes:
        assert node.isprintable()
        assert len(node) <= testrun.LONGEST_NODE_ID
    for shown in report.failures.values():
        assert len(shown) <= 4000
        assert all(c.isprintable() or c in "\n\t" for c in shown)
        shown.encode()


def test_trouble_that_is_known_already_stays(tmp_path: Path) -> None:
    """A time-out or a lack of memory explains what the report cannot."""
    report = parse_report(tmp_path / "none", trouble="the tests did not end within 9 s", log="log", seconds=9.5)
    assert (report.trouble, report.log, report.seconds) == ("the tests did not end within 9 s", "log", 9.5)
