"""What becomes of a task after a failed attempt. A pure function."""

from dataclasses import dataclass

from worker.control.progress import Progress
from worker.control.retry import RetryPolicy


@dataclass(frozen=True, slots=True)
class Retry:
    """It is tried again after ``wait_seconds``."""

    wait_seconds: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    """It is dead: out of attempts, or ``stalled`` because another attempt would end like the last ones."""

    stalled: bool


def after_failure(policy: RetryPolicy, attempts: int, progress: Progress, no_progress_k: int) -> Retry | GiveUp:
    """The verdict after the nth failed attempt, counted from one. Exhaustion is judged before stall."""
    if policy.exhausted(attempts):
        return GiveUp(stalled=False)
    if progress.stalled(no_progress_k):
        return GiveUp(stalled=True)
    return Retry(policy.wait_seconds(attempts))
