"""What an exam takes for an answer, with a bot and a model that say what the test wants."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

from supervisor.gates import examtasks
from supervisor.gates.examtasks import PartFailed, Tasks

MARKER = "what the model says"


@dataclass(frozen=True)
class Said:
    """A message of the bot's."""

    text: str
    message_id: int = 7


@dataclass
class Candidate:
    """Bot and model in one: each look at the chat is one step of ``does``, which is given what the owner wrote."""

    does: list[Callable[["Candidate", str], None]]
    sent: str = ""
    planned: str = ""
    replies: list[Said] = field(default_factory=list)

    def plan(self, _: str, calls: object, reply: str) -> None:
        self.planned = reply

    def send(self, text: str) -> Said:
        self.sent = text
        return Said(text)

    def messages(self, _: int, *, wait: float) -> list[Said]:
        if self.does:
            self.does.pop(0)(self, self.sent)
        return list(self.replies)


def answers_another(candidate: Candidate, _: str) -> None:
    candidate.replies.append(Said(MARKER))


def answers(candidate: Candidate, _: str) -> None:
    candidate.replies.append(Said(candidate.planned))


def examine(*does: Callable[[Candidate, str], None]) -> Candidate:
    """Has the candidate do this, a step a look, and judges whether it answers."""
    candidate = Candidate(list(does))
    unused: Any = None
    tasks = Tasks(
        bot=cast("Any", candidate),
        model=cast("Any", candidate),
        api=unused,
        desk=unused,
        workspace=Path("/nowhere"),
        agent_db=Path("/nowhere"),
        sha="a" * 40,
        marker=MARKER,
        canaries=(),
        printed=str,
        alive=lambda: None,
    )
    tasks.answers()
    return candidate


def test_a_message_that_was_in_hand_is_answered_first() -> None:
    """Its answer is not taken for the one to the exam's message, and does not fail the candidate."""
    candidate = examine(answers_another, answers_another, answers)
    assert candidate.does == []  # it was waited for


@pytest.mark.parametrize("does", [(), (answers_another,)])
def test_anything_less_fails(
    monkeypatch: pytest.MonkeyPatch, does: tuple[Callable[[Candidate, str], None], ...]
) -> None:
    """Silence, or nothing but the answer to what was in hand."""
    monkeypatch.setattr(examtasks, "STEP_SECONDS", 0.2)
    with pytest.raises(PartFailed, match="no reply"):
        examine(*does)
