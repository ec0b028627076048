"""``/recall`` by words and meaning: who is asked may fail, hang, or be cut, and there is an answer in any case."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from peewee import OperationalError

from tests.worker.fakes import OWNER
from tests.worker.support import asynchronous, open_store, until
from tests.worker.test_commands import Nothing, dead_letters
from worker.agent import recalling
from worker.agent.commands import LATE_SECONDS, LEFT_SECONDS, DirectCommands
from worker.agent.notices import SPOILT
from worker.agent.recalling import CUT_TEXT, LATE_CHARACTERS, LATE_TEXT, NO_VECTOR_TEXT, Recalling
from worker.agent.relaying import Relaying
from worker.commander.base import Incoming, UpdateKind
from worker.context import Recaller
from worker.models.base import Message, ProviderApiError, Speaker
from worker.store import InboxStatus, Store
from worker.store.recall import Found
from worker.vitals import Vitals

SAID = ("the anchor weighs 4711 kg", "the boat has a new sail", "bread and butter")


@dataclass
class Vectors:
    """Finds what it was made with."""

    near: Sequence[int]

    def find(self, chat_id: int, vector: Sequence[float], *, limit: int, after: int = 0) -> list[Found]:
        return [Found(number, vector[0] / rank) for rank, number in enumerate(self.near, start=1) if chat_id == OWNER]


@dataclass
class Embedder:
    """Answers, fails, or does nothing until it is let go."""

    model_name: str = "any"
    error: Exception | None = None
    let_go: asyncio.Event = field(default_factory=asyncio.Event)

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        await self.let_go.wait()
        if self.error is not None:
            raise self.error
        return [[1.0] for _ in texts]

    async def close(self) -> None:
        """Nothing to free."""


class Chat:
    """An owner's chat with the commands of a worker, and what is answered there."""

    task: asyncio.Task[None]

    def __init__(self, store: Store, embedder: Embedder, vectors: Vectors, vitals: Vitals) -> None:
        self.store = store
        self.woken: list[int] = []
        recaller = Recaller(store.words, store.history, vectors, embedder)
        self.commands = DirectCommands(
            store=store,
            status=lambda _: "fine",
            runs=Nothing(),
            dead_letters=dead_letters(store),
            relaying=Relaying(supervisor=None, own={}, store=store, vitals=vitals, answered=lambda _: None),
            recalling=Recalling(memory=recaller, store=store, vitals=vitals, answered=self.woken.append),
        )

    def say(self, text: str) -> None:
        """As the intake does: what a command says at once is stored with it, the rest follows."""
        found = self.commands.find(text)
        assert found is not None
        with self.store.write():
            row_id = stored(self.store, text)
            reply = found[0](OWNER, found[1])
            if reply.text:
                self.store.outbox.add(OWNER, reply.text, inbox_id=row_id)
        reply.then()

    def answers(self) -> list[str]:
        return [text for (text,) in self.store.database.cursor("SELECT text FROM outbox ORDER BY id").fetchall()]


def stored(store: Store, text: str) -> int:
    """The row of a command that nothing was done about yet."""
    update = Incoming(store.inbox.last_id() + 1, UpdateKind.MESSAGE, OWNER, OWNER, True, text, None)
    row_id = store.inbox.add("test", update, kind="command", text=text, status=InboxStatus.DONE)
    assert row_id is not None
    return row_id


def stored_ago(directory: Path, seconds: float, text: str) -> None:
    """The same, by a worker of so long ago."""
    old = open_store(directory / "agent.db", clock=lambda: time.time() - seconds)
    old.lease.take(1)
    stored(old, text)
    old.close()


@pytest.fixture
def store(tmp_path: Path) -> Any:
    store = open_store(tmp_path / "agent.db")
    store.lease.take(1)
    store.history.add(OWNER, *[Message(Speaker.USER, text) for text in SAID])
    store.words.catch_up(10)
    yield store
    store.close()


@asynccontextmanager
async def chat(
    store: Store,
    *,
    near: Sequence[int] = (),
    error: Exception | None = None,
    hangs: bool = False,
    vitals: Vitals | None = None,
) -> AsyncIterator[Chat]:
    """One whose embeddings server does this."""
    embedder = Embedder(error=error)
    if not hangs:
        embedder.let_go.set()
    made = Chat(store, embedder, Vectors(near), vitals or Vitals())
    made.task = asyncio.create_task(made.commands.run())
    await asyncio.sleep(0)
    try:
        yield made
    finally:
        made.task.cancel()
        await asyncio.gather(made.task, return_exceptions=True)


@asynchronous
async def test_each_message_says_how_it_was_found(store: Store) -> None:
    """By its words, its meaning, or both, which come first; of all times, also before a fresh start."""
    async with chat(store, near=[2, 1]) as here:
        here.say("/new")
        here.say("/recall anchor, bread")
        await until(lambda: len(here.answers()) == 2)
        first, second, third, last = here.answers()[1].split("\n\n")
        assert "4711" in first
        assert first.endswith("\nfound by its words and meaning\n/forget_1")
        assert second.endswith("butter\nfound by its words\n/forget_3")
        assert third.endswith("sail\nfound by its meaning\n/forget_2")
        assert "stays in the history" in last
        assert here.woken == [OWNER]


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        ("anchor", f"{NO_VECTOR_TEXT}\n\n#1, "),
        ("nowhere", f"{NO_VECTOR_TEXT}\n\nNothing that was said here fits these words."),
    ],
)
@asynchronous
async def test_a_server_that_fails_leaves_the_words(store: Store, words: str, answer: str) -> None:
    """One line says so."""
    async with chat(store, error=ProviderApiError("down"), near=[2]) as here:
        here.say(f"/recall {words}")
        await until(here.answers)
        assert here.answers()[0].startswith(answer)
        assert "found by" not in here.answers()[0]


@asynchronous
async def test_a_server_that_hangs_holds_up_nothing(store: Store) -> None:
    """Other commands are answered meanwhile; the words are told after a few seconds."""
    async with chat(store, hangs=True) as here:
        begun = time.monotonic()
        here.say("/recall anchor")
        here.say("/status")
        assert here.answers() == ["fine"]
        assert time.monotonic() - begun < 1
        await until(lambda: len(here.answers()) == 2)
        assert time.monotonic() - begun < 4
        assert here.answers()[1].startswith(NO_VECTOR_TEXT)


@asynchronous
async def test_one_that_is_cut_is_answered_by_words(store: Store) -> None:
    """By the worker that lets go, also when it had not begun; the next one has nothing left to do."""
    async with chat(store, hangs=True) as here:
        here.say("/recall anchor")
        await asyncio.sleep(0.01)
        here.say("/recall sail")
    told = here.answers()
    assert [text.startswith(f"{CUT_TEXT}\n\n#{number}, ") for number, text in enumerate(told, start=1)] == [True] * 2
    async with chat(store) as here:
        await asyncio.sleep(0.05)
        assert here.answers() == told


@asynchronous
async def test_one_that_a_killed_worker_left_is_answered_by_the_next(store: Store, tmp_path: Path) -> None:
    """Once; in one line for whoever asked long ago, not at all after a day; nothing else that was not answered."""
    for text in ("/recall anchor", "/stop", "/recall"):
        stored(store, text)
    stored_ago(tmp_path, LEFT_SECONDS + 1, "/recall sail")
    stored_ago(tmp_path, LATE_SECONDS + 1, "/recall bread")
    for _ in range(2):
        async with chat(store, near=[2]) as here:
            await until(lambda: len(here.answers()) == 2)
            await asyncio.sleep(0.05)
    assert [text for text in here.answers() if "4711" not in text] == [LATE_TEXT.format(words="sail")]


@asynchronous
async def test_a_late_one_that_is_cut_is_told_all_the_same(store: Store, tmp_path: Path) -> None:
    """In the same words: what was found would come out of nowhere."""
    stored_ago(tmp_path, LEFT_SECONDS + 1, "/recall anchor " + "and sail " * 100)
    here = Chat(store, Embedder(), Vectors([]), Vitals())
    here.task = asyncio.create_task(here.commands.run())
    asyncio.get_running_loop().call_soon(here.task.cancel)
    await asyncio.gather(here.task, return_exceptions=True)
    (answer,) = here.answers()
    assert answer.startswith(LATE_TEXT.format(words="anchor and sail"))
    assert len(answer) <= len(LATE_TEXT) + LATE_CHARACTERS


@asynchronous
async def test_a_mistake_is_told(store: Store) -> None:
    """Nobody waits for nothing, and the supervisor hears of it."""
    vitals = Vitals()
    async with chat(store, error=RuntimeError("a mistake"), vitals=vitals) as here:
        here.say("/recall anchor")
        await until(lambda: here.answers() == [SPOILT])
    assert vitals.internal_errors == 1


@asynchronous
async def test_an_answer_that_cannot_be_stored_is_left_to_the_next_worker(store: Store, tmp_path: Path) -> None:
    """One that lost the lease writes nothing, and ends in order."""
    async with chat(store, hangs=True) as here:
        here.say("/recall anchor")
        await asyncio.sleep(0.01)
        successor = open_store(tmp_path / "agent.db")
        successor.lease.take(2)
    assert here.answers() == []
    async with chat(successor) as here:
        await until(here.answers)
    assert "4711" in here.answers()[0]
    successor.close()


@asynchronous
async def test_an_answer_that_cannot_be_stored_is_stored_later(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the same worker: as long as it stays nobody else would."""
    monkeypatch.setattr(recalling, "AGAIN_SECONDS", 0.01)
    async with chat(store, near=[2]) as here:
        refused = refusals(monkeypatch, store, times=2)
        here.say("/recall anchor")
        await until(here.answers)
        assert "4711" in here.answers()[0]
    assert refused == ["database is locked"] * 2
    assert here.woken == [OWNER]


@asynchronous
async def test_one_that_is_cut_while_nothing_can_be_stored(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker lets go in order, and the next one answers."""
    async with chat(store, hangs=True) as here:
        here.say("/recall anchor")
        await asyncio.sleep(0.01)
        refused = refusals(monkeypatch, store, times=1)
        here.task.cancel()
        with suppress(asyncio.CancelledError):
            await here.task
    assert len(refused) == 1
    assert here.answers() == []
    async with chat(store) as here:
        await until(here.answers)


def refusals(monkeypatch: pytest.MonkeyPatch, store: Store, *, times: int) -> list[str]:
    """Have the outbox refuse so often; gives what it said."""
    said: list[str] = []
    add = store.outbox.add

    def refuse(*given: Any, **named: Any) -> Any:
        if len(said) < times:
            said.append("database is locked")
            raise OperationalError(said[-1])
        return add(*given, **named)

    monkeypatch.setattr(store.outbox, "add", refuse)
    return said


@asynchronous
async def test_words_are_looked_up_while_the_vector_is_made(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """And when that fails, nobody goes on waiting for the vector."""
    embedder, order = Embedder(), list[str]()
    made = embedder.embed

    async def embed(texts: Sequence[str]) -> list[list[float]]:
        order.append("asked for the vector")
        try:
            return await made(texts)
        except asyncio.CancelledError:
            order.append("given up")
            raise

    def find(*_: object, **__: object) -> list[Found]:
        order.append("words")
        raise OperationalError("database is locked")

    monkeypatch.setattr(embedder, "embed", embed)
    monkeypatch.setattr(store.words, "find", find)
    with pytest.raises(OperationalError):
        await Recaller(store.words, store.history, Vectors([]), embedder).recollect(OWNER, "anchor")
    await asyncio.sleep(0)
    assert order == ["asked for the vector", "words", "given up"]
