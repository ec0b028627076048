"""What a patch does to the tests that judge it."""

import time

import pytest

from supervisor.gates.weakening import FewerAssertions, Verdict, compare, from_node_id, needs_base_run

PATH = "tests/worker/test_a.py"

BASE = b'''\
"""Tests."""

import pytest

from worker.agent import answer

LIMIT = 3
GREETINGS = ["hello", "hi"]


@pytest.fixture
def agent():
    return make(LIMIT)


def make(limit):
    return answer(limit)


def test_answer(agent):
    assert agent == 1
    assert agent != 2


@pytest.mark.parametrize("text", GREETINGS)
def test_greets(text):
    with pytest.raises(ValueError):
        answer(text)


class TestStore:
    size = 7

    @pytest.fixture(autouse=True)
    def _opened(self):
        self.opened = True

    def helper(self):
        return self.size

    def test_size(self):
        assert self.helper() == 7

    def test_open(self):
        assert self.opened


def test_alone():
    assert answer(0) == 0
'''

ALL = {"test_answer", "test_greets", "TestStore::test_size", "TestStore::test_open", "test_alone"}


def names(tests: object) -> set[str]:
    assert isinstance(tests, frozenset | tuple)
    return {name for path, name in tests if path == PATH}


def edited(old: str, new: str) -> dict[str, bytes]:
    assert old.encode() in BASE
    return {PATH: BASE.replace(old.encode(), new.encode(), 1)}


def test_every_test_gates_when_nothing_changed() -> None:
    """The names are those of pytest's node ids, and all of them gate."""
    comparison = compare({PATH: BASE}, {PATH: BASE})
    assert names(comparison.gating) == ALL
    assert not comparison.changed
    assert not comparison.deleted
    assert not comparison.fewer_assertions
    assert not comparison.new_skips


@pytest.mark.parametrize(
    ("old", "new", "changed"),
    [
        ("assert agent == 1", "assert agent == 9", {"test_answer"}),
        ("LIMIT = 3", "LIMIT = 4", {"test_answer"}),
        ("return answer(limit)", "return answer(limit + 1)", {"test_answer"}),
        ('["hello", "hi"]', '["hello"]', {"test_greets"}),
        ("size = 7", "size = 8", {"TestStore::test_size"}),
        ("self.opened = True", "self.opened = 1", {"TestStore::test_size", "TestStore::test_open"}),
        ("class TestStore:", "@pytest.mark.slow\nclass TestStore:", {"TestStore::test_size", "TestStore::test_open"}),
        ("class TestStore:", "class TestStore(Base):", {"TestStore::test_size", "TestStore::test_open"}),
        ("import pytest\n", "import pytest\npytestmark = pytest.mark.slow\n", ALL),
        ("LIMIT = 3", "LIMIT = 3\nGREETINGS = GREETINGS[:1]", {"test_greets"}),
        ("def make(", "GREETINGS.clear()\n\n\ndef make(", {"test_greets"}),
        ("def make(", "@pytest.fixture(autouse=True)\ndef tame(): ...\n\n\ndef make(", ALL),
        ("def make(", "@pytest.fixture(name='agent')\ndef other(): ...\n\n\ndef make(", {"test_answer"}),
        ("def make(", "from helpers import *\n\n\ndef make(", ALL),
        (
            "from worker.agent import answer",
            "from worker.fake import answer",
            ALL - {"TestStore::test_size", "TestStore::test_open"},
        ),
    ],
)
def test_a_test_changes_with_all_that_it_refers_to(old: str, new: str, changed: set[str]) -> None:
    """Fixtures, helpers, constants, class members and what is always in effect are part of a test; others are not."""
    comparison = compare({PATH: BASE}, edited(old, new))
    assert names(comparison.changed) == changed
    assert names(comparison.gating) == ALL - changed


def test_layout_and_comments_do_not_count() -> None:
    """A test that is only moved or laid out anew still gates."""
    moved = BASE.replace(b"def test_alone():\n    assert answer(0) == 0\n", b"")
    moved = moved.replace(
        b"class TestStore:", b"def test_alone():\n    # moved\n    assert (answer(0)\n  == 0)\n\nclass TestStore:"
    )
    assert moved != BASE
    assert names(compare({PATH: BASE}, {PATH: moved}).gating) == ALL


def test_deleted_and_new_tests_are_told_apart() -> None:
    """A renamed test is one deleted and one new; a deleted file takes all of its tests with it."""
    comparison = compare({PATH: BASE}, edited("def test_alone", "def test_lonely"))
    assert names(comparison.deleted) == {"test_alone"}
    assert comparison.verdicts[PATH, "test_lonely"] is Verdict.NEW
    assert names(compare({PATH: BASE}, {}).deleted) == ALL
    assert not compare({}, {PATH: BASE}).gating


@pytest.mark.parametrize(
    "content",
    [b"def test_alone(:\n", b"\0", b"\xff\xfe", b"x = " + b"(" * 5_000 + b")" * 5_000, b"x = " + b"-" * 100_000 + b"1"],
)
def test_an_unreadable_candidate_file_changes_all_its_tests(content: bytes) -> None:
    """What cannot be parsed, or only by exhausting the parser, gates nothing and stops nothing."""
    comparison = compare({PATH: BASE}, {PATH: content})
    assert names(comparison.changed) == ALL
    assert not comparison.gating


def test_an_unreadable_base_file_has_no_tests_to_gate() -> None:
    """Base cannot pass what it cannot read."""
    comparison = compare({PATH: b"def ("}, {PATH: BASE})
    assert not comparison.gating
    assert set(comparison.verdicts.values()) == {Verdict.NEW}


@pytest.mark.parametrize(
    ("old", "new", "name", "before", "after"),
    [
        ("    assert agent != 2\n", "", "test_answer", 2, 1),
        ("assert agent == 1", "assert True", "test_answer", 2, 1),
        ("assert agent == 1", "assert (agent == 1, 'message')", "test_answer", 2, 1),
        ("with pytest.raises(ValueError):", "if True:", "test_greets", 1, 0),
        ("assert self.helper() == 7", "self.helper()", "TestStore::test_size", 1, 0),
    ],
)
def test_fewer_assertions_are_counted(old: str, new: str, name: str, before: int, after: int) -> None:
    """A test that claims less is named with both numbers; what is always true is no claim."""
    fewer = compare({PATH: BASE}, edited(old, new)).fewer_assertions
    assert fewer == (FewerAssertions((PATH, name), before, after),)


def test_an_assertion_moved_into_a_helper_is_not_missed() -> None:
    """The helpers of a test claim on its behalf."""
    moved = edited("    assert agent == 1\n    assert agent != 2\n", "    check(agent)\n")
    moved[PATH] += b"\n\ndef check(agent):\n    assert agent == 1\n    assert agent != 2\n"
    comparison = compare({PATH: BASE}, moved)
    assert names(comparison.changed) == {"test_answer"}
    assert not comparison.fewer_assertions


@pytest.mark.parametrize(
    ("old", "new", "skipped"),
    [
        ("def test_alone", "@pytest.mark.skip\ndef test_alone", {"test_alone"}),
        ("def test_alone", "@pytest.mark.xfail(reason='x')\ndef test_alone", {"test_alone"}),
        ("    assert answer(0)", "    pytest.skip('later')\n    assert answer(0)", {"test_alone"}),
        ("return make(LIMIT)", "pytest.skip('no')", {"test_answer"}),
        (
            "class TestStore:",
            "@unittest.skipIf(True, '')\nclass TestStore:",
            {"TestStore::test_size", "TestStore::test_open"},
        ),
        ("LIMIT = 3", "LIMIT = 3\npytest.skip(allow_module_level=True)", ALL),
        ("LIMIT = 3", "LIMIT = 3\nnumpy = pytest.importorskip('numpy')", ALL),
        ("LIMIT = 3", "LIMIT = 3\npytestmark = [pytest.mark.skip]", ALL),
        ('["hello", "hi"]', '[pytest.param("hello", marks=pytest.mark.skip), "hi"]', {"test_greets"}),
    ],
)
def test_new_skips_are_named(old: str, new: str, skipped: set[str]) -> None:
    """Marks and calls that skip, on the test, its class, its fixtures or the whole module."""
    assert names(compare({PATH: BASE}, edited(old, new)).new_skips) == skipped


def test_a_skip_that_was_there_before_is_not_new() -> None:
    """Only what the patch adds is named."""
    skipping = edited("def test_alone", "@pytest.mark.skip\ndef test_alone")
    assert not compare(skipping, {PATH: skipping[PATH] + b"\n# end\n"}).new_skips


def test_unittest_classes_and_nested_definitions_are_found() -> None:
    """A TestCase of any name, nested classes, async tests, and tests under a condition."""
    source = b"""
import sys, unittest
class Numbers(unittest.TestCase):
    def test_one(self): self.assertEqual(1, 1)
class TestOuter:
    class TestInner:
        async def test_deep(self): assert sys
if sys.platform == "linux":
    def test_linux(): assert sys
else:
    try:
        def test_other(): assert sys
    except OSError:
        def test_never(): assert sys
class Helper:
    def test_not_collected(self): ...
"""
    found = names(compare({PATH: source}, {PATH: source}).gating)
    assert found == {"Numbers::test_one", "TestOuter::TestInner::test_deep", "test_linux", "test_other", "test_never"}


def test_a_test_that_only_a_run_knows_stands_with_its_file() -> None:
    """Made by a loop or inherited: unchanged while its file is untouched, changed once that differs."""
    made = (PATH, "test_made_by_a_loop")
    assert compare({PATH: BASE}, {PATH: BASE}).verdict(made) is Verdict.UNCHANGED
    assert compare({PATH: BASE}, {PATH: BASE + b"\n"}).verdict(made) is Verdict.CHANGED
    assert compare({PATH: BASE}, {}).verdict((PATH, "test_alone")) is Verdict.DELETED


@pytest.mark.parametrize(
    ("node_id", "name"),
    [
        (f"{PATH}::test_a", "test_a"),
        (f"{PATH}::test_a[x-1]", "test_a"),
        (f"{PATH}::TestX::test_a[b::c[0]]", "TestX::test_a"),
    ],
)
def test_node_ids_lead_to_tests(node_id: str, name: str) -> None:
    """Parameters are cut off, whatever they contain."""
    assert from_node_id(node_id) == (PATH, name)


def test_changed_and_deleted_test_files_need_the_base_run() -> None:
    """Untouched files are covered by the candidate's own run; new ones are not base's."""
    base = {PATH: BASE, "tests/worker/test_b.py": b"", "tests/worker/sub/c_test.py": b"", "tests/worker/util.py": b""}
    assert needs_base_run(base, base) == ()
    candidate = {**base, PATH: b"", "tests/worker/test_new.py": b""}
    del candidate["tests/worker/sub/c_test.py"]
    assert needs_base_run(base, candidate) == ("tests/worker/sub/c_test.py", PATH)


@pytest.mark.parametrize("change", [{"util.py": b"x"}, {"data/new.txt": b"x"}, {"util.py": None}])
def test_another_helper_calls_for_all_base_tests(change: dict[str, bytes | None]) -> None:
    """A helper or data file that differs, is new or is gone can change the meaning of every test."""
    base = {PATH: BASE, "tests/worker/util.py": b""}
    candidate = {**base, **{f"tests/worker/{name}": content for name, content in change.items() if content is not None}}
    for name in (name for name, content in change.items() if content is None):
        del candidate[f"tests/worker/{name}"]
    assert needs_base_run(base, candidate) == (PATH,)


def test_many_tests_over_one_large_table_are_quick() -> None:
    """The source that tests share is looked at once: looking again for each test would take minutes."""
    table = b"TABLE = [" + b"1, " * 40_000 + b"]\n"
    source = table + b"".join(b"def test_%d(): assert TABLE\n" % number for number in range(1_000))
    start = time.perf_counter()
    assert len(compare({PATH: source}, {PATH: source + b"\n"}).gating) == 1_000
    assert time.perf_counter() - start < 10
