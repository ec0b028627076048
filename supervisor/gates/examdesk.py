"""The supervisor that a candidate meets in its exam: it expects one worker, and makes no update of what it is given."""

import secrets
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from supervisor.contract import (
    Claim,
    Claimed,
    Command,
    Kept,
    Press,
    Pressed,
    Problem,
    Progress,
    Submission,
    Submitted,
    Taken,
    Told,
)
from supervisor.localbot.store import OWNER
from supervisor.sessions import Sessions

_KEPT: Final = 4  # of each kind of what the candidate hands to its supervisor


@dataclass
class ExamDesk:
    """Remembers what it was given. ``answer`` is what it says to presses and commands, known to nobody else."""

    sessions: Sessions
    submissions: deque[Submission] = field(default_factory=lambda: deque(maxlen=_KEPT))
    presses: deque[Press] = field(default_factory=lambda: deque(maxlen=_KEPT))
    commands: deque[Command] = field(default_factory=lambda: deque(maxlen=_KEPT))
    answer: str = field(default_factory=lambda: f"exam-{secrets.token_hex(8)}")

    def claim(self, worker_id: str, claim: Claim) -> Claimed:  # noqa: ARG002 - the protocol's
        """The exam's bot has its owner."""
        return Claimed(accepted=False, owners=[OWNER])

    def submit(self, worker_id: str, submission: Submission) -> Submitted | Problem:  # noqa: ARG002
        """Declined, and remembered."""
        self.submissions.append(submission)
        return Problem(code="exam", reason="no update is made in an exam")

    def progress(self, tx_id: str) -> Iterator[Progress]:  # noqa: ARG002
        """There is none."""
        return iter(())

    def press(self, worker_id: str, press: Press) -> Pressed:  # noqa: ARG002
        """Remembered."""
        self.presses.append(press)
        return Pressed(text=self.answer)

    def command(self, worker_id: str, command: Command) -> Told:  # noqa: ARG002
        """Remembered."""
        self.commands.append(command)
        return Told(text=self.answer)

    def kept(self, worker_id: str) -> Kept:  # noqa: ARG002
        """Nothing was."""
        return Kept()

    def taken(self, worker_id: str, taken: Taken) -> Kept:  # noqa: ARG002
        """Nothing was."""
        return Kept()

    def status(self) -> object:
        """Nothing to say."""
        return {}

    def history(self) -> object:
        """Nothing to say."""
        return []
