"""What a patch does to the tests that judge it: pure analysis of two versions of ``tests/worker``, nothing is run.

A base test is asked to hold for the candidate only while its source is untouched. Its source is the function, the
class around it, and whatever the same file defines that these refer to by name: fixtures, helpers, constants.
Layout and comments do not count. All of this is evidence for a person; it proves nothing about code that hides.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from pathlib import PurePosixPath
from typing import Final

from supervisor.gates import testsource
from supervisor.gates.testsource import Source

#: Path of the file and name in it, as pytest writes it: ``test_y`` or ``TestX::test_y``.
TestId = tuple[str, str]

_TEST_FILE: Final = re.compile(r"test_.*\.py|.*_test\.py")


class Verdict(StrEnum):
    """What became of a test between base and candidate."""

    UNCHANGED = "unchanged"
    CHANGED = "changed"
    DELETED = "deleted"
    NEW = "new"


@dataclass(frozen=True, slots=True)
class FewerAssertions:
    """A test that claims less than it did."""

    test: TestId
    before: int
    after: int


@dataclass(frozen=True)
class Comparison:
    """Base against candidate, test by test.

    ``changed_files`` are the base files that differ or are gone, ``new_files`` those that only the candidate has.
    """

    verdicts: Mapping[TestId, Verdict]
    fewer_assertions: tuple[FewerAssertions, ...]
    new_skips: tuple[TestId, ...]
    changed_files: frozenset[str]
    new_files: frozenset[str] = frozenset()

    @cached_property
    def gating(self) -> frozenset[TestId]:
        """The base tests that the candidate's code has to pass."""
        return frozenset(self._with(Verdict.UNCHANGED))

    @cached_property
    def changed(self) -> tuple[TestId, ...]:
        """Base tests whose source is another now, sorted."""
        return self._with(Verdict.CHANGED)

    @cached_property
    def deleted(self) -> tuple[TestId, ...]:
        """Base tests that are gone, sorted."""
        return self._with(Verdict.DELETED)

    def count(self, verdict: Verdict) -> int:
        """How many tests this became of."""
        return len(self._with(verdict))

    def verdict(self, test: TestId) -> Verdict:
        """The verdict on a base test, also on one that only a run can know of, made by a loop or inherited.

        Of such a test the source is not known, so the whole file stands for it.
        """
        if test[0] in self.new_files:
            return Verdict.NEW
        known = Verdict.CHANGED if test[0] in self.changed_files else Verdict.UNCHANGED
        return self.verdicts.get(test, known)

    def _with(self, verdict: Verdict) -> tuple[TestId, ...]:
        return tuple(sorted(test for test, found in self.verdicts.items() if found is verdict))


def from_node_id(node_id: str) -> TestId:
    """The test that a node id of pytest belongs to: ``a/test_b.py::TestC::test_d[1::2]`` without its parameters."""
    path, _, name = node_id.partition("::")
    return path, name.partition("[")[0]


def compare(base: Mapping[str, bytes], candidate: Mapping[str, bytes]) -> Comparison:
    """Compare the tests of two trees, each given as its files under ``tests/worker`` by path.

    In a candidate file that cannot be parsed every test counts as changed; a base file that cannot be parsed has no
    tests that base could pass.
    """
    before, _ = _tests(base)
    after, unreadable = _tests(candidate)
    verdicts = {test: _judge(test, before.get(test), after.get(test), unreadable) for test in before | after}
    fewer = [
        FewerAssertions(test, source.assertions, after[test].assertions)
        for test, source in sorted(before.items())
        if test in after and after[test].assertions < source.assertions
    ]
    skips = [
        test for test, source in sorted(after.items()) if source.skips > (before[test].skips if test in before else 0)
    ]
    return Comparison(
        verdicts=verdicts,
        fewer_assertions=tuple(fewer),
        new_skips=tuple(skips),
        changed_files=frozenset(path for path in base if candidate.get(path) != base[path]),
        new_files=frozenset(candidate.keys() - base.keys()),
    )


def needs_base_run(base: Mapping[str, bytes], candidate: Mapping[str, bytes]) -> tuple[str, ...]:
    """The base test files that the candidate's own run does not cover, sorted.

    These are the ones that differ or are gone. Any other file (a helper, data) can change what every test means: when
    one differs, is gone or is new, all base test files are named.
    """
    differing = {path for path in base.keys() | candidate.keys() if base.get(path) != candidate.get(path)}
    tests = {path for path in base if _is_test_file(path)}
    helpers_differ = any(not _is_test_file(path) for path in differing)
    return tuple(sorted(tests if helpers_differ else tests & differing))


def _is_test_file(path: str) -> bool:
    return _TEST_FILE.fullmatch(PurePosixPath(path).name) is not None


def _tests(files: Mapping[str, bytes]) -> tuple[dict[TestId, Source], frozenset[str]]:
    """All tests, and the files that could not be read."""
    tests: dict[TestId, Source] = {}
    unreadable = set()
    for path, content in files.items():
        if _is_test_file(path):
            try:
                found = testsource.read(content)
            except testsource.Unreadable:
                unreadable.add(path)
            else:
                tests.update({(path, name): source for name, source in found.items()})
    return tests, frozenset(unreadable)


def _judge(test: TestId, before: Source | None, after: Source | None, unreadable: frozenset[str]) -> Verdict:
    if before is None:
        return Verdict.NEW
    if after is None:
        return Verdict.CHANGED if test[0] in unreadable else Verdict.DELETED
    return Verdict.UNCHANGED if before.fragments == after.fragments else Verdict.CHANGED
