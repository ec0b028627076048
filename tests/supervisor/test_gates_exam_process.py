"""What an exam's process is not blamed for. How it is held on the engine is in tests/e2e/test_exam_process.py."""

import shutil
from collections import namedtuple
from pathlib import Path
from typing import cast

import pytest

from supervisor.engine import Engine, NoSpace
from supervisor.gates import examprocess
from supervisor.gates.exam import Candidate, CutShort
from supervisor.gates.examprocess import ExamProcess
from supervisor.specs import MIB

GIB = 1024 * MIB
Usage = namedtuple("Usage", "free")


class NoEngine:
    """Has nothing to remove."""

    def remove(self, name: str) -> None: ...


class Silent:
    """A process that goes on with the exam, and says nothing."""

    def give(self, order: object) -> None: ...

    def listen(self, seconds: float) -> bool:
        return True

    def kill(self) -> None: ...

    def end(self) -> None: ...


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What is free at each look, the last for ever."""
    free: list[int] = []
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(free.pop(0) if len(free) > 1 else free[0]))
    monkeypatch.setattr(examprocess, "_Process", Silent)
    return free


def sits(directory: Path) -> None:
    state = directory / "state"
    state.mkdir()
    exams = ExamProcess(cast(Engine, NoEngine()), "test", 1000, directory / "exam")
    (directory / "exam").mkdir()
    exams.examine(Candidate("sha256:1", "1" * 40, state, 1))


def test_a_disk_that_was_short_for_a_while_says_nothing_yet(disk: list[int], tmp_path: Path) -> None:
    """Space that somebody else took and gave back looks as if the candidate had: the exam is held again."""
    disk += [9 * GIB, 7 * GIB, 9 * GIB]
    with pytest.raises(CutShort, match="into files that it had removed"):
        sits(tmp_path)


def test_a_disk_that_stays_short_is_waited_for(disk: list[int], tmp_path: Path) -> None:
    """The candidate is gone, and its space with it: somebody else has it."""
    disk += [9 * GIB, 7 * GIB]
    with pytest.raises(NoSpace):
        sits(tmp_path)
