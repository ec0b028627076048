"""What was written to the bot, what it answered, and what that comes to."""

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from tests.support.echo import PREFIX

#: The bot stamps an answer when it takes it: whoever sent it may have died in between.
IN_FLIGHT_SECONDS = 0.5


@dataclass(frozen=True)
class Asked:
    """One numbered message. Times in seconds since the epoch, by the bot's clock."""

    number: int
    chat: int
    at: float

    @property
    def text(self) -> str:
        """What was written."""
        return f"message {self.number}"

    @property
    def answer(self) -> str:
        """What has to come back."""
        return f"{PREFIX}{self.text}"


@dataclass(frozen=True)
class Answer:
    """A message of the bot, from the moment on at which it was a whole answer."""

    chat: int
    message_id: int
    at: float
    text: str

    @property
    def place(self) -> tuple[int, int]:
        """Which message it is."""
        return self.chat, self.message_id


@dataclass(frozen=True)
class Service:
    """Who was to send at what time: the grants of the lease, oldest first, and when the process of each worker ended,
    by the engine's word. Times in seconds since the epoch.
    """

    grants: Sequence[tuple[float, str]] = ()
    ends: Mapping[str, float] = field(default_factory=dict)

    def holder_died(self, first: float, second: float) -> bool:
        """Whether whoever held the lease when the first answer came died then, or before the second one came.

        The death of any other worker is no reason to answer once more.
        """
        before = bisect_right(self.grants, first, key=lambda grant: grant[0])
        if not before or (end := self.ends.get(self.grants[before - 1][1])) is None:
            return False
        return first - IN_FLIGHT_SECONDS <= end <= second


@dataclass(frozen=True)
class Verdict:
    """What became of all messages. ``in_the_window`` are answers that came once more because their sender died
    after Telegram had accepted them, and before it could note that; ``doubled`` are all others. Times in seconds.
    """

    sent: int
    answered: int
    lost: tuple[str, ...]
    doubled: tuple[str, ...]
    in_the_window: int
    out_of_order: int
    longest_wait: float
    longest_silence: float
    silent_since: float

    @property
    def good(self) -> bool:
        """Whether nothing happened that must not."""
        return not (self.lost or self.doubled or self.out_of_order)


def judge(
    asked: Sequence[Asked],
    answers: Sequence[Answer],
    *,
    committed: Collection[tuple[int, int]],
    service: Service,
    over: float,
) -> Verdict:
    """``committed`` are the bot's messages that a worker has noted as sent; at ``over`` the last look was taken."""
    by_text: Mapping[str, list[Answer]] = _by_text(answers)
    first = {one.number: by_text[one.answer][0] for one in asked if one.answer in by_text}
    doubled: list[str] = []
    in_the_window = 0
    for one in asked:
        for before, after in pairwise(by_text.get(one.answer, ())):
            # Its sender died after Telegram had accepted it, and none ever noted it.
            if before.place not in committed and service.holder_died(before.at, after.at):
                in_the_window += 1
            else:
                doubled.append(one.text)
    silence, since = _silence(asked, first, over)
    return Verdict(
        sent=len(asked),
        answered=len(first),
        lost=tuple(one.text for one in asked if one.number not in first),
        doubled=tuple(doubled),
        in_the_window=in_the_window,
        out_of_order=_overtaken(asked, first),
        longest_wait=max((first[one.number].at - one.at for one in asked if one.number in first), default=0.0),
        longest_silence=silence,
        silent_since=since,
    )


def _by_text(answers: Iterable[Answer]) -> dict[str, list[Answer]]:
    found: defaultdict[str, list[Answer]] = defaultdict(list)
    for answer in sorted(answers, key=_rank):
        found[answer.text].append(answer)
    return dict(found)


def _overtaken(asked: Sequence[Asked], first: Mapping[int, Answer]) -> int:
    """How many answers came after the answer to a later message of the same chat."""
    latest: Counter[int] = Counter()
    overtaken = 0
    for one in sorted((one for one in asked if one.number in first), key=lambda one: _rank(first[one.number])):
        overtaken += one.number < latest[one.chat]
        latest[one.chat] = max(latest[one.chat], one.number)
    return overtaken


def _rank(answer: Answer) -> tuple[float, int]:
    return answer.at, answer.message_id


def _silence(asked: Sequence[Asked], first: Mapping[int, Answer], over: float) -> tuple[float, float]:
    """The longest time in which messages waited and none was answered, and when it began; what was never answered
    waited until it was ``over``.
    """
    moments = sorted([(one.at, 1) for one in asked] + [(answer.at, -1) for answer in first.values()])
    longest, began = 0.0, 0.0
    waiting, since = 0, 0.0
    for at, change in moments:
        if waiting and change < 0 and at - since > longest:
            longest, began = at - since, since
        if not waiting or change < 0:
            since = at
        waiting += change
    if waiting and over - since > longest:
        longest, began = over - since, since
    return longest, began
