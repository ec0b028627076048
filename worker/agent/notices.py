"""What the worker itself tells a chat in place of an answer, or beside one. Pure text."""

from collections import Counter
from collections.abc import Sequence
from typing import Final

from worker.control.limits import LimitReached, LimitType
from worker.models.base import CompletionResponse, Stop
from worker.store.runs import TurnRecord

STOPPED: Final = "Stopped."
SPOILT: Final = "Sorry, that did not work: I made a mistake over it. It is written down in my log."

_SETTINGS: Final = {
    LimitType.MAX_TURNS: "AUTONOUS_CONTROL_MAX_TURNS",
    LimitType.MAX_WALL_TIME_SECONDS: "AUTONOUS_CONTROL_MAX_WALL_TIME_SECONDS",
    LimitType.MAX_TOKENS: "AUTONOUS_CONTROL_MAX_TOKENS",
    LimitType.BUDGET_TOKENS_PER_DAY: "AUTONOUS_BUDGET_TOKENS_PER_DAY",
}


def limit_reached(limit: LimitReached, turns: Sequence[TurnRecord]) -> str:
    """Why a run ended before its answer, and how far it was."""
    used, allowed = f"{limit.value:,.0f}", f"{limit.threshold:,g}"
    why = {
        LimitType.MAX_TURNS: f"one message may take {allowed} turns, and they are used up",
        LimitType.MAX_WALL_TIME_SECONDS: f"one message may take {allowed} seconds, and they are over",
        LimitType.MAX_TOKENS: f"one message may cost {allowed} tokens, and this one has cost {used}",
        LimitType.BUDGET_TOKENS_PER_DAY: f"a day (UTC) may cost {allowed} tokens, and today has cost {used}",
    }[limit.limit_type]
    return f"I stopped before I had an answer: {why} ({_SETTINGS[limit.limit_type]}).\n\n{_so_far(turns)}"


def sent(answer: CompletionResponse) -> str:
    """An answer as the chat is given it: with who gave it when that was not the first model, and where it was cut."""
    cut = "(the answer ends here: it has reached the longest that the model's provider gives)"
    other = f"(answered by {answer.spoken_by}, as the first model fails)"
    notes = [cut] * (answer.stop is Stop.LENGTH) + [other] * bool(answer.spoken_by)
    return "\n\n".join([answer.text, *notes])


def budget_warning(near: LimitReached, budget: int) -> str:
    """The day's tokens are nearly used up."""
    name = _SETTINGS[LimitType.BUDGET_TOKENS_PER_DAY]
    used = f"{near.value:,.0f} of {budget:,} ({name})"
    return f"Today's tokens are nearly used up: {used}. After that I answer nothing before tomorrow, UTC."


def given_up(task_id: int, attempts: int, error: str, *, stalled: bool) -> str:
    """A message is dead."""
    tries = "one attempt" if attempts == 1 else f"{attempts} attempts"
    why = "I was getting nowhere" if stalled else "that was the last one"
    return (
        f"I could not answer your message, and gave up after {tries}, as {why}: {error}\n/replay_{task_id} tries again."
    )


def _so_far(turns: Sequence[TurnRecord]) -> str:
    """What a run has: the model's last words, and which tools it used."""
    words = next((turn.text.strip() for turn in reversed(turns) if turn.text.strip()), "")
    tools = Counter(record.call.name for turn in turns for record in turn.calls)
    used = ", ".join(name if number == 1 else f"{name} (x{number})" for name, number in tools.items())
    parts = [f"My last words were:\n{words}" if words else "", f"Tools that I used: {used}." if used else ""]
    return "\n\n".join(filter(None, parts)) or "There is nothing to show yet."
