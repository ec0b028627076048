"""What was written to the bot, what it answered, and what that comes to."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from tests.support.echo import PREFIX


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
    deaths: Sequence[float],
) -> Verdict:
    """``committed`` are the bot's messages that a worker has noted as sent, ``deaths`` the times at which the end of
    one was noticed.
    """
    by_text: Mapping[str, list[Answer]] = _by_text(answers)
    first = {one.number: by_text[one.answer][0] for one in asked if one.answer in by_text}
    doubled: list[str] = []
    in_the_window = 0
    for one in asked:
        for before, after in pairwise(by_text.get(one.answer, ())):
            # Its sender died after Telegram had accepted it, and none ever noted it.
            if before.place not in committed and any(before.at <= death <= after.at for death in deaths):
                in_the_window += 1
            else:
                doubled.append(one.text)
    silence, since = _silence(asked, first)
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


def _silence(asked: Sequence[Asked], first: Mapping[int, Answer]) -> tuple[float, float]:
    """The longest time in which messages waited and none was answered, and when it began."""
    moments = sorted([(one.at, 1) for one in asked] + [(answer.at, -1) for answer in first.values()])
    longest, began = 0.0, 0.0
    waiting, since = 0, 0.0
    for at, change in moments:
        if waiting and change < 0 and at - since > longest:
            longest, began = at - since, since
        if not waiting or change < 0:
            since = at
        waiting += change
    return longest, began
