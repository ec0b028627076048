"""The exam of a candidate, and then of its base on what the candidate left behind: the way back is proven first.

A part that base itself fails now, on a copy of the state that no candidate has touched, says nothing about the
candidate and is waived; without the first parts there is no exam at all.
"""

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from supervisor.backup import backup
from supervisor.gates.exam import COMES_UP, TAKES_THE_LEASE, Candidate, Examiner, Part, Result
from supervisor.ledger import Blame, Revision
from supervisor.paths import give

_INDISPENSABLE: Final = frozenset({COMES_UP, TAKES_THE_LEASE})
_TAIL_LINES: Final = 15


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
    """Holds both exams. ``directory`` is private, ``agent_db`` the state that is copied, if it exists."""

    examiner: Examiner
    directory: Path
    agent_db: Path

    def hold(self, candidate: Revision, base: Revision, *, epoch: int, cancelled: Callable[[], bool]) -> Rehearsed:
        """Examine until both pass or one fails by its own fault. ``epoch`` is above every lease of the state.

        Raises EngineError, Cancelled.
        """

        def sit(revision: Revision, state: Path, epoch: int) -> Result:
            sitter = Candidate(image_id=revision.image_id, sha=revision.sha, state=state, epoch=epoch)
            return self.examiner.examine(sitter, waived=frozenset(waived), cancelled=cancelled)

        waived: set[str] = set()
        while True:
            with self._state_copy() as state:
                results = {"candidate": sit(candidate, state, epoch)}
                if results["candidate"].failed is None:
                    results["base_after"] = sit(base, state, epoch + 1)
            who, failed = next(((who, r.failed) for who, r in results.items() if r.failed), ("", None))
            if failed is None:
                return _rehearsed(results, waived, "", None)
            with self._state_copy() as untouched:
                control = sit(base, untouched, epoch).failed
            said = f"{_WHO[who]} failed the part {failed.name!r}: {failed.detail}"
            if control is None or control.name != failed.name:
                return _rehearsed(results, waived, said, Blame.OWN)
            if failed.name in _INDISPENSABLE:
                return _rehearsed(results, waived, f"{said}; so does base by itself now", Blame.EXTERNAL)
            waived.add(failed.name)

    @contextmanager
    def _state_copy(self) -> Iterator[Path]:
        """A directory with a copy of agent.db, which is deleted afterwards."""
        directory = self.directory / "state"
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True, mode=0o700)
        try:
            if self.agent_db.exists():
                backup(self.agent_db, directory / "agent.db")
                give(directory / "agent.db", self.examiner.uid)
            give(directory, self.examiner.uid)
            yield directory
        finally:
            shutil.rmtree(directory, ignore_errors=True)


_WHO: Final = {"candidate": "the candidate", "base_after": "base, on the state that the candidate migrated,"}


def _rehearsed(results: Mapping[str, Result], waived: set[str], reason: str, blame: Blame | None) -> Rehearsed:
    return Rehearsed(
        sat={who: result.parts for who, result in results.items()},
        waived=frozenset(waived),
        reason=reason,
        blame=blame,
        log="\n".join(result.log for result in results.values()),
    )
