"""The process that an exam is held in: what is left of it, and who is blamed when it does not get to its end."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from supervisor.engine import Engine
from supervisor.gates.exam import BEHAVES, Candidate
from supervisor.gates.examprocess import ExamProcess
from supervisor.gates.testrun import Cancelled
from supervisor.paths import give
from supervisor.specs import WORKER_UID
from tests.supervisor.localbot_support import short_directory
from tests.support.installation import Install, Installation, wait_for

UID = os.getuid() or WORKER_UID


@pytest.fixture(scope="module")
def installation(install: Install) -> Installation:
    """Up, for the image of its first revision."""
    made = install()
    made.up()
    return made


@dataclass
class Exam:
    """Exams of an installation's own revision, held by this process."""

    installation: Installation
    directory: Path

    def __post_init__(self) -> None:
        (active,) = [entry for entry in self.installation.history() if entry["active"]]
        state = self.directory / "state"
        state.mkdir()
        give(state, UID)
        self.candidate = Candidate(active["image_id"], active["sha"], state, epoch=1)

    def process(self, longest: float = 60) -> ExamProcess:
        return ExamProcess(Engine(), self.installation.project, UID, self.directory, longest=longest)

    def assert_nothing_left(self) -> None:
        assert [path.name for path in self.directory.iterdir()] == ["state"]
        assert self.installation.containers("exam") == []
        assert processes() == set()


def processes() -> set[int]:
    """The exam processes of this one."""
    found = set()
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):
            found |= {
                int(p)
                for p in (task / "children").read_text().split()
                if b"examroom" in Path(f"/proc/{p}/cmdline").read_bytes()
            }
    return found


@pytest.fixture
def exam(installation: Installation) -> Iterator[Exam]:
    with short_directory() as directory:
        yield Exam(installation, directory)


def test_an_exam_in_a_process_of_its_own(exam: Exam) -> None:
    """It is passed, and nothing of it is left."""
    held = exam.process().examine(exam.candidate)
    assert held.failed is None
    assert len(held.parts) == 15
    exam.assert_nothing_left()


def test_the_process_for_the_next_exam(exam: Exam) -> None:
    """It waits until it is used or let go."""
    process = exam.process()
    assert process.examine(exam.candidate, another=True).failed is None
    (waiting,) = processes()
    assert process.examine(exam.candidate, another=True).failed is None
    assert waiting not in processes()
    process.rest()
    exam.assert_nothing_left()


def test_an_exam_that_takes_too_long(exam: Exam) -> None:
    """It is the candidate's fault, whatever was asked when the time was over."""
    failed = exam.process(longest=0.5).examine(exam.candidate).failed
    assert failed is not None
    assert (failed.name, failed.detail.partition(" while")[0]) == (BEHAVES, "the exam did not end within 0.5 s")
    exam.assert_nothing_left()


def test_an_exam_whose_process_dies(exam: Exam) -> None:
    """The same, and its container is removed."""

    def kill() -> None:
        wait_for(lambda: len(exam.installation.containers("exam")) == 2, 10, "the worker and its toolbox")
        time.sleep(0.05)  # until the first part is asked
        os.kill(processes().pop(), signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    failed = exam.process().examine(exam.candidate).failed
    killer.join()
    assert failed is not None
    assert (failed.name, failed.detail) == (BEHAVES, "it ended the exam: SIGKILL while 'comes up' was asked")
    exam.assert_nothing_left()


def test_an_exam_whose_process_fails(exam: Exam) -> None:
    """Its last words are the detail; here it is given a place that no directory can be made in."""
    (exam.directory / "file").write_text("in the way")
    process = ExamProcess(Engine(), exam.installation.project, UID, exam.directory / "file")
    failed = process.examine(exam.candidate).failed
    assert failed is not None
    assert failed.name == BEHAVES
    assert failed.detail.startswith("it ended the exam: NotADirectoryError: ")
    (exam.directory / "file").unlink()
    exam.assert_nothing_left()


def test_an_exam_that_is_cancelled(exam: Exam) -> None:
    """Its process lets go of everything."""
    with pytest.raises(Cancelled):
        exam.process().examine(exam.candidate, cancelled=lambda: bool(exam.installation.containers("exam")))
    exam.assert_nothing_left()
