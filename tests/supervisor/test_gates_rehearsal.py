"""Which exams are held, what they say together, and whose fault it is; by an examiner that says what it is told."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from supervisor.engine import EngineError
from supervisor.gates.exam import BEHAVES, COMES_UP, Candidate, CutShort, Part, Result
from supervisor.gates.rehearsal import Rehearsal, Rehearsed
from supervisor.ledger import Blame, Revision
from supervisor.specs import WORKER_UID

ANSWERS = "answers its owner"
IGNORES = "ignores a stranger"


def revision(letter: str) -> Revision:
    return Revision(
        tx_id=letter,
        base_sha=None,
        sha=letter,
        tree="",
        patch_id=None,
        deps_image_id="",
        image_id=letter,
        image_tag="",
        event_id=1,
    )


@dataclass
class Examiner:
    """Lets each sitting fail the part it is told, in the order that they are held; the rest pass."""

    fails: list[str | Exception]
    uid: int = WORKER_UID
    sat: list[str] = field(default_factory=list)
    states: list[str] = field(default_factory=list)
    rested: int = 0

    def examine(
        self, candidate: Candidate, *, waived: frozenset[str], cancelled: Callable[[], bool], another: bool
    ) -> Result:
        state = candidate.state / "left"
        self.states.append(state.read_text() if state.exists() else "")
        state.write_text(candidate.sha)
        self.sat.append(candidate.sha)
        failed = self.fails.pop(0) if self.fails else ""
        if isinstance(failed, Exception):
            raise failed
        parts = (
            Part(COMES_UP, passed=failed != COMES_UP),
            *([Part(failed, passed=False, detail="no")] if failed else []),
        )
        return Result(parts, "", waived)

    def rest(self) -> None:
        self.rested += 1


def held(examiner: Examiner, directory: Path) -> Rehearsed:
    rehearsal = Rehearsal(examiner, directory, directory / "agent.db")
    return rehearsal.hold(revision("c"), revision("b"), epoch=2, cancelled=lambda: False)


def test_base_sits_after_the_candidate_on_its_state(tmp_path: Path) -> None:
    """And nothing of either is left."""
    examiner = Examiner([])
    assert held(examiner, tmp_path).reason == ""
    assert (examiner.sat, examiner.states, examiner.rested) == (["c", "b"], ["", "c"], 1)
    assert list(tmp_path.iterdir()) == []


def test_what_an_exam_that_was_killed_has_left_is_removed(tmp_path: Path) -> None:
    """Nobody else would ever do it."""
    (tmp_path / "4711" / "contract").mkdir(parents=True)
    held(Examiner([]), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_part_is_waived_only_when_base_fails_it_twice(tmp_path: Path) -> None:
    """Each time on a state that no candidate has touched; then all begins anew."""
    examiner = Examiner([ANSWERS, ANSWERS, ANSWERS])
    rehearsed = held(examiner, tmp_path)
    assert (rehearsed.reason, rehearsed.waived) == ("", frozenset({ANSWERS}))
    assert examiner.sat == ["c", "b", "b", "c", "b"]
    assert examiner.states == ["", "", "", "", "c"]


@pytest.mark.parametrize("controls", [[""], [ANSWERS, ""], [IGNORES], [ANSWERS, IGNORES]])
def test_one_bad_moment_of_base_waives_nothing(tmp_path: Path, controls: list[str]) -> None:
    """A candidate that loads the machine must not get past by that."""
    examiner = Examiner([ANSWERS, *controls])
    rehearsed = held(examiner, tmp_path)
    assert rehearsed.reason == f"the candidate failed the part {ANSWERS!r}: no"
    assert (rehearsed.blame, rehearsed.waived) == (Blame.OWN, frozenset())
    assert examiner.sat == ["c"] + ["b"] * len(controls)


@pytest.mark.parametrize("part", [COMES_UP, BEHAVES])
def test_what_no_exam_can_do_without_is_never_waived(tmp_path: Path, part: str) -> None:
    """When base fails it too, there is no verdict on the candidate."""
    rehearsed = held(Examiner([part, part, part]), tmp_path)
    assert rehearsed.reason.endswith("so does base by itself now")
    assert (rehearsed.blame, rehearsed.waived) == (Blame.EXTERNAL, frozenset())


def test_an_exam_that_was_cut_short_is_held_again(tmp_path: Path) -> None:
    """Once, since the engine may have had a bad moment."""
    examiner = Examiner([CutShort("no answer")])
    assert held(examiner, tmp_path).reason == ""
    assert (examiner.sat, examiner.rested) == (["c", "c", "b"], 1)


def test_an_exam_that_is_cut_short_again_is_the_candidates_fault(tmp_path: Path) -> None:
    """Else it would be held for ever, and no other update ever judged."""
    rehearsed = held(Examiner([CutShort("no answer"), CutShort("no answer again")]), tmp_path)
    assert (rehearsed.reason, rehearsed.blame) == ("no answer again", Blame.OWN)
    assert rehearsed.summary() == {"candidate": []}


def test_an_engine_that_is_away_is_nobodys_fault(tmp_path: Path) -> None:
    """The pipeline waits for it; no process and no state is left behind."""
    examiner = Examiner([EngineError("away")])
    with pytest.raises(EngineError):
        held(examiner, tmp_path)
    assert examiner.rested == 1
    assert list(tmp_path.iterdir()) == []
