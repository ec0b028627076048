"""The exam of a candidate, and then of its base on what the candidate left behind: the way back is proven first.

A part that base itself fails now, each time that it is asked and on a copy of the state that no candidate has touched,
says nothing about the candidate and is waived; without the first parts there is no exam at all.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Protocol

from supervisor.agent_db.backup import backup
from supervisor.gates.exam import BEHAVES, COMES_UP, TAKES_THE_LEASE, Candidate, CutShort, Part, Result
from supervisor.gates.examstate import prepare
from supervisor.gates.schema import Schema, culprits, schema
from supervisor.ledger import Blame, Revision
from supervisor.paths import give
from supervisor.removal import remove_tree

_INDISPENSABLE: Final = frozenset({COMES_UP, TAKES_THE_LEASE, BEHAVES})
#: How often base must fail a part before it is waived: a candidate can make one moment a bad one for everybody.
_CONTROLS: Final = 2
_TAIL_LINES: Final = 15


class Examining(Protocol):
    """Who holds the exams."""

    @property
    def uid(self) -> int:
        """The user that candidates run as."""

    def examine(
        self, candidate: Candidate, *, waived: frozenset[str], cancelled: Callable[[], bool], another: bool
    ) -> Result:
        """One exam, and ``another`` soon. Raises EngineError, Cancelled, CutShort."""

    def rest(self) -> None:
        """No exam follows."""


@dataclass(frozen=True)
class Rehearsed:
    """How both exams went. ``reason`` is empty when they were passed, and ``blame`` says whose fault it is if not."""

    sat: Mapping[str, tuple[Part, ...]]
    waived: frozenset[str]
    reason: str
    blame: Blame | None
    log: str

    @property
    def tail(self) -> str:
        """The last lines of what was printed."""
        return "\n".join(self.log.splitlines()[-_TAIL_LINES:])

    def with_own_check(self, part: Part, printed: str) -> "Rehearsed":
        """The same with one more part of the candidate's, which nothing excuses."""
        return replace(
            self,
            sat={**self.sat, "candidate": (*self.sat["candidate"], part)},
            reason="" if part.passed else f"the candidate failed {part.name}: {part.detail}",
            blame=None if part.passed else Blame.OWN,
            log=f"{self.log}\n== {part.name}\n{printed}",
        )

    def summary(self) -> dict[str, Any]:
        """For the ledger."""
        return {who: [asdict(part) for part in parts] for who, parts in self.sat.items()} | (
            {"waived": sorted(self.waived)} if self.waived else {}
        )

    def text(self) -> str:
        """For the log of the step."""
        lines = []
        for who, parts in self.sat.items():
            lines += [f"== {who}"]
            lines += [f"{'ok    ' if p.passed else 'FAILED'} {p.name} ({p.seconds:g} s) {p.detail}" for p in parts]
        if self.waived:
            lines += [f"waived, since base fails them too: {', '.join(sorted(self.waived))}"]
        return "\n".join([*lines, f"== {self.reason or 'passed'}", self.log])


@dataclass(frozen=True)
class Rehearsal:
    """Holds both exams. ``directory`` is for nothing else, ``agent_db`` the state that is copied, if it exists."""

    examiner: Examining
    directory: Path
    agent_db: Path

    def hold(self, candidate: Revision, base: Revision, *, epoch: int, cancelled: Callable[[], bool]) -> Rehearsed:
        """Examine until both pass or one fails by its own fault. ``epoch`` is above every lease of the state.

        Raises EngineError, Cancelled.
        """
        remove_tree(self.directory)  # what one that was killed has left
        sitting = _Sitting(self, candidate, base, epoch, cancelled)
        try:
            return sitting.hold()
        except CutShort:
            # Once may be the engine's doing, or that of somebody else on the host; twice is the candidate's.
            try:
                return sitting.hold()
            except CutShort as again:
                return _rehearsed({"candidate": Result((), "")}, set(), str(again), Blame.OWN)
        finally:
            self.examiner.rest()

    @contextmanager
    def state_copy(self) -> Iterator[Path]:
        """A directory with a copy of agent.db, which is deleted afterwards."""
        directory = self.directory / "state"
        remove_tree(directory)
        directory.mkdir(parents=True, mode=0o700)
        try:
            if self.agent_db.exists():
                backup(self.agent_db, directory / "agent.db")
                prepare(directory / "agent.db")
                give(directory / "agent.db", self.examiner.uid)
            give(directory, self.examiner.uid)
            yield directory
        finally:
            remove_tree(directory)


@dataclass
class _Sitting:
    """One candidate and its base, in as many exams as it takes."""

    rehearsal: Rehearsal
    candidate: Revision
    base: Revision
    epoch: int
    cancelled: Callable[[], bool]
    waived: set[str] = field(default_factory=set)
    _schemas: tuple[Schema, Schema] = field(default_factory=lambda: ({}, {}))

    def hold(self) -> Rehearsed:
        while True:
            results = self._both()
            who, failed = next(((who, r.failed) for who, r in results.items() if r.failed), ("", None))
            if failed is None:
                return _rehearsed(results, self.waived, "", None)
            said = f"{_WHO[who]} failed the part {failed.name!r}: {failed.detail}{self._migrated(who, results)}"
            if not self._base_fails_too(failed):
                return _rehearsed(results, self.waived, said, Blame.OWN)
            if failed.name in _INDISPENSABLE:
                return _rehearsed(results, self.waived, f"{said}; so does base by itself now", Blame.EXTERNAL)
            self.waived.add(failed.name)

    def _migrated(self, who: str, results: Mapping[str, Result]) -> str:
        """What the candidate made of the tables that base then failed on."""
        if who != "base_after":
            return ""
        tables = culprits(*self._schemas, results[who].log)
        return f"; its migration changed {', '.join(tables)}" if tables else ""

    def _both(self) -> dict[str, Result]:
        with self.rehearsal.state_copy() as state:
            database = state / "agent.db"
            before = schema(database)
            results = {"candidate": self._sit(self.candidate, state, self.epoch, another=True)}
            self._schemas = before, schema(database)
            if results["candidate"].failed is None:
                results["base_after"] = self._sit(self.base, state, self.epoch + 1)
        return results

    def _base_fails_too(self, failed: Part) -> bool:
        for _ in range(_CONTROLS):
            with self.rehearsal.state_copy() as untouched:
                control = self._sit(self.base, untouched, self.epoch).failed
            if control is None or control.name != failed.name:
                return False
        return True

    def _sit(self, revision: Revision, state: Path, epoch: int, *, another: bool = False) -> Result:
        sitter = Candidate(image_id=revision.image_id, sha=revision.sha, state=state, epoch=epoch)
        return self.rehearsal.examiner.examine(
            sitter, waived=frozenset(self.waived), cancelled=self.cancelled, another=another
        )


_WHO: Final = {"candidate": "the candidate", "base_after": "base, on the state that the candidate migrated,"}


def _rehearsed(results: Mapping[str, Result], waived: set[str], reason: str, blame: Blame | None) -> Rehearsed:
    return Rehearsed(
        sat={who: result.parts for who, result in results.items()},
        waived=frozenset(waived),
        reason=reason,
        blame=blame,
        log="\n".join(result.log for result in results.values()),
    )
