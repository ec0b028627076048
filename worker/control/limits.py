"""How much a run, and a day, may cost. Pure arithmetic."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

#: From this share of the day's budget on, the owner is warned.
WARNED_SHARE: Final = 0.8
DAY_SECONDS: Final = 86_400


class LimitType(StrEnum):
    """What can be used up. The values stand in events and, but for the budget's, in names of the environment."""

    MAX_TURNS = "max_turns"
    MAX_WALL_TIME_SECONDS = "max_wall_time_seconds"
    MAX_TOKENS = "max_tokens"
    BUDGET_TOKENS_PER_DAY = "budget_tokens_per_day"


@dataclass(frozen=True, slots=True)
class Spent:
    """What a run has used: turns, seconds, tokens in both directions; and the tokens of all runs of this day."""

    turns: int = 0
    seconds: float = 0.0
    tokens: int = 0
    tokens_today: int = 0


@dataclass(frozen=True, slots=True)
class LimitReached:
    """``value`` is what was used, ``threshold`` what is allowed."""

    limit_type: LimitType
    value: float
    threshold: float


@dataclass(frozen=True, slots=True)
class Limits:
    """``budget_tokens_per_day`` is None where money is no object."""

    max_turns: int = 50
    max_wall_time_seconds: float = 1800.0
    max_tokens: int = 500_000
    budget_tokens_per_day: int | None = None

    def reached(self, spent: Spent) -> LimitReached | None:
        """What forbids another model call, if anything does.

        So n turns allow exactly n calls, and an answer in the nth is not stopped.
        """
        used: tuple[tuple[LimitType, float, float | None], ...] = (
            (LimitType.MAX_TURNS, spent.turns, self.max_turns),
            (LimitType.MAX_WALL_TIME_SECONDS, spent.seconds, self.max_wall_time_seconds),
            (LimitType.MAX_TOKENS, spent.tokens, self.max_tokens),
            (LimitType.BUDGET_TOKENS_PER_DAY, spent.tokens_today, self.budget_tokens_per_day),
        )
        for limit_type, value, threshold in used:
            if threshold is not None and value >= threshold:
                return LimitReached(limit_type, value, threshold)
        return None

    def overrun(self, spent: Spent) -> LimitReached | None:
        """Whether an answer that is there was dearer than allowed. It is given all the same."""
        if spent.tokens > self.max_tokens:
            return LimitReached(LimitType.MAX_TOKENS, spent.tokens, self.max_tokens)
        return None

    def warning(self, before: int, after: int) -> LimitReached | None:
        """Whether the day's tokens, that went from ``before`` to ``after``, just came near the budget."""
        if self.budget_tokens_per_day is None:
            return None
        line = self.budget_tokens_per_day * WARNED_SHARE
        return LimitReached(LimitType.BUDGET_TOKENS_PER_DAY, after, line) if before < line <= after else None


def day_start(now: float) -> float:
    """When the day of a moment began, in UTC; both in seconds since the Unix epoch."""
    return now - now % DAY_SECONDS
