"""The worker by itself: conversations while everything fails, kills, and what must stay quick when there is much."""

import itertools
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from starlette.requests import ClientDisconnect

from tests.bench.figures import By, Figure, count, seconds
from tests.load import test_faults as faults
from tests.load import test_kills as kills
from tests.load import test_scale as scale
from tests.load.stage import Stage

_MESSAGES_PER_KILL = kills.MESSAGES // kills.KILLS


def measure(directory: Path, *, messages: int, killed: int, say: Callable[[str], None]) -> Iterator[Figure]:
    """All of it; ``messages`` are those of the conversation, and ``killed`` is the number of workers that are."""
    say("A worker starts, alone...")
    yield from _launch(directory)
    say(f"{scale.EVENTS:,} events are printed...")
    yield from _events(directory)
    say(f"A history of {scale.HISTORY_ROWS:,} rows...")
    yield from _store(directory)
    say(f"{messages} messages while the Bot API and the model fail...")
    yield from _conversation(messages)
    say(f"{killed} workers are killed while messages come in...")
    yield from _kills(killed)


def _launch(directory: Path) -> Iterator[Figure]:
    (directory / "launch").mkdir()
    yield Figure(
        "worker's launch to its first poll",
        _seconds(scale.first_polls(directory / "launch")),
        seconds,
        "the process alone, with the dummies, on a new database, until the poll's message has its row",
        limit=1.5,
    )


def _events(directory: Path) -> Iterator[Figure]:
    home = directory / "events"
    scale.grown_events(home, scale.EVENTS)
    yield Figure(
        "`events`, the last run's",
        _seconds(scale.milliseconds(lambda: scale.printed_events(home), runs=5)),
        seconds,
        f"the whole process; {scale.EVENTS:,} older events lie in the worker's database",
        limit=0.5,
    )


def _store(directory: Path) -> Iterator[Figure]:
    with scale.grown(directory / "grown.db") as store:
        builder = scale.builder_on(store)
        yield Figure(
            "context assembly",
            _seconds(scale.milliseconds(lambda: builder.build(1, "hello", parent_id=1))),
            seconds,
            f"the last 12 of a chat's messages and the event of it; {scale.HISTORY_ROWS:,} rows, half of them this "
            "chat's",
            limit=0.01,
        )
        taken, _ = scale.claims(store)
        yield Figure(
            "inbox claim",
            _seconds(taken),
            seconds,
            f"whether one is due, the claim and its end; {scale.INBOX_ROWS:,} rows in the inbox",
            limit=0.005,
        )


def _conversation(messages: int) -> Iterator[Figure]:
    with _quiet(), faults.conversation(messages, _wait_at_most) as talk:
        said = {chat: (talk.here.answers(chat), _answers(texts)) for chat, texts in talk.asked.items()}
        waited = [wait for chat in talk.asked for text, wait in _waited(talk.here, chat) if text not in talk.doubted]
        hits = talk.model.hits
    counts = Counter(answer for answers, _ in said.values() for answer in answers)
    wanted = [answer for _, answers in said.values() for answer in answers]
    once = sum(counts[answer] == 1 for answer in wanted)
    yield from (
        Figure(
            "conversation: answered once",
            (once,),
            count,
            f"of {messages} messages in {len(faults.CHATS)} chats, in {seconds(talk.seconds)}, while both sides fail: "
            f"429, 500, time-outs, broken connections; {hits.total() - hits['good']} of {hits.total()} model calls "
            "failed",
        ),
        Figure(
            "conversation: lost",
            (sum(not counts[answer] for answer in wanted),),
            count,
            "of the same messages; no answer, although it was asked for again when in doubt",
            limit=0,
        ),
        Figure("conversation: answered twice", (sum(counts[a] > 1 for a in wanted),), count, "of the same", limit=0),
        Figure(
            "conversation: out of order",
            (sum(_overtaken(answers, texts, talk.doubted) for answers, texts in said.values()),),
            count,
            "answers that came after a later message's, in the same chat; those in doubt left out",
            limit=0,
        ),
        Figure(
            "conversation: in doubt",
            (len(talk.doubted),),
            count,
            "the connection broke before the Bot API's response; the chat was told, and asked again where it had none",
        ),
        Figure(
            "conversation: answer time",
            tuple(waited),
            seconds,
            f"message sent to its whole answer in the chat, under these faults, with up to {faults.AT_ONCE} messages "
            "on their way; those in doubt left out",
            by=By.P95,
        ),
    )


def _kills(killed: int) -> Iterator[Figure]:
    messages = killed * _MESSAGES_PER_KILL
    with _quiet(), kills.killing(messages, killed, _wait_at_most) as over:
        said = {chat: (over.here.answers(chat), _answers(kills.asked(chat, messages))) for chat in kills.CHATS}
    counts = Counter(answer for answers, _ in said.values() for answer in answers)
    wanted = [answer for _, answers in said.values() for answer in answers]
    more = {answer: counts[answer] - 1 for answer in wanted if counts[answer] > 1}
    inside = {answer: min(times, over.in_the_window.get(answer, 0)) for answer, times in more.items()}
    yield from (
        Figure(
            "kill -9: lost",
            (sum(not counts[answer] for answer in wanted),),
            count,
            f"of {messages} messages, over {killed} kills in {seconds(over.seconds)}, each at random within "
            f"{seconds(max(kills.LIVES_SECONDS))} of the launch",
            limit=0,
        ),
        Figure(
            "kill -9: answered twice",
            (sum(more.values()) - sum(inside.values()),),
            count,
            "of the same messages, all but those of the next row",
            limit=0,
        ),
        Figure(
            "kill -9: twice, not yet committed",
            (sum(inside.values()),),
            count,
            "accepted by the Bot API, and not yet noted by the worker when it was killed",
        ),
        Figure(
            "kill -9: out of order",
            (sum(_overtaken(answers, texts, set()) for answers, texts in said.values()),),
            count,
            "answers that first came after a later message's, in the same chat",
            limit=0,
        ),
    )


def _answers(texts: Iterable[str]) -> list[str]:
    return [f"re:{text}" for text in texts]


def _overtaken(answers: Iterable[str], wanted: list[str], doubted: set[str]) -> int:
    """How many answers came, for the first time, after the answer to a later message."""
    places = [wanted.index(answer) for answer in dict.fromkeys(answers) if answer in wanted and answer not in doubted]
    furthest = itertools.accumulate(places, max)
    return sum(place < front for place, front in zip(places, furthest, strict=True))


def _waited(here: Stage, chat: int) -> Iterator[tuple[str, float]]:
    """Each answer in a chat with the seconds since its message, by the local bot's clock."""
    asked: dict[str, float] = {}
    for event in here.bot.events(chat_id=chat):
        if event.message is None:
            continue
        if not event.from_bot:
            asked[f"re:{event.message.text}"] = event.at
        elif event.message.text in asked:
            yield event.message.text, event.at - asked.pop(event.message.text)


def _seconds(milliseconds: Iterable[float]) -> tuple[float, ...]:
    return tuple(taken / 1000 for taken in milliseconds)


def _wait_at_most(condition: Callable[[], object], seconds: float, what: str) -> None:
    """What does not come in time is told by the figures."""
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)


@contextmanager
def _quiet() -> Iterator[None]:
    """Requests that their client breaks off are what happens here, and no news in the servers' log."""
    log = logging.getLogger("uvicorn.error")
    log.addFilter(_not_broken_off)
    try:
        yield
    finally:
        log.removeFilter(_not_broken_off)


def _not_broken_off(record: logging.LogRecord) -> bool:
    return not (record.exc_info and isinstance(record.exc_info[1], ClientDisconnect))
