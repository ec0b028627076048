"""What a local bot's record of polls tells."""

from supervisor.localbot.faults import Poll


def overlapping(polls: list[Poll]) -> list[tuple[Poll, Poll]]:
    """Polls of different clients that were open at the same time."""
    closed = [poll for poll in polls if poll.ended is not None]
    return [
        (one, other)
        for number, one in enumerate(closed)
        for other in closed[number + 1 :]
        if one.mark != other.mark and one.ended is not None and other.started < one.ended - 0.01
    ]
