"""When a failed attempt is tried again. Pure arithmetic."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """``max_retries`` retries, that is one attempt more; waits double from ``base_seconds`` to ``max_seconds``."""

    max_retries: int
    base_seconds: float
    max_seconds: float

    def exhausted(self, attempts: int) -> bool:
        """Whether no attempt is left after this many."""
        return attempts > self.max_retries

    def wait_seconds(self, attempts: int) -> float:
        """How long to wait after the nth failed attempt, counted from one; no jitter."""
        doublings = min(attempts - 1, 64)  # enough for every maximum, and no overflow
        return float(min(self.base_seconds * 2**doublings, self.max_seconds))
