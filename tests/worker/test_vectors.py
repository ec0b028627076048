"""Recall by meaning. It wants sqlite-vec and a Python that can load it; where these are missing, words do alone."""

import asyncio
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from supervisor.contract import Role, WorkerState
from tests.worker.httpserver import HttpServer, Request, Response
from tests.worker.support import open_store, until, within, world
from worker.agent.indexing import Indexing
from worker.agent.recalling import CUT_TEXT, NO_VECTOR_TEXT
from worker.context import Recaller
from worker.factory import make_memory
from worker.models.base import Message, ProviderApiError, Speaker
from worker.models.embeddings_base import TextsRefused
from worker.settings import Settings
from worker.store import Store
from worker.store.vectors import VectorIndex, VectorsUnavailable


def why_not(path: Path) -> str:
    store = open_store(path / "probe.db")
    try:
        VectorIndex(store.database, "any")
    except VectorsUnavailable as error:
        return str(error)
    finally:
        store.close()
    return ""


class Embedder:
    """Knows two directions: what is said of ships, and everything else."""

    def __init__(self, model_name: str = "first") -> None:
        self.model_name = model_name
        self.failing = False
        self.refuses: Callable[[str], bool] = lambda _: False
        self.embedded: list[str] = []

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        if self.failing:
            raise ProviderApiError("down")
        if any(map(self.refuses, texts)):
            raise TextsRefused("too long")
        self.embedded += texts
        ships = ("anchor", "boat", "sail")
        return [[1.0, -1.0] * 8 if any(word in text for word in ships) else [-1.0, 1.0] * 8 for text in texts]

    async def close(self) -> None:
        """Nothing to free."""


@pytest.fixture
def store(tmp_path: Path) -> Store:
    if reason := why_not(tmp_path):
        pytest.skip(reason)
    opened = open_store(tmp_path / "agent.db")
    opened.lease.take(1)
    return opened


def indexed(store: Store, embedder: Embedder) -> VectorIndex:
    """All that is there, by an indexing that is new."""
    vectors = VectorIndex(store.database, embedder.model_name)
    indexing = Indexing(store.words, store.history, vectors, embedder)

    async def run() -> None:
        task = asyncio.create_task(indexing.run())
        async with asyncio.timeout(5):
            await until(lambda: len(embedder.embedded) >= len(store.history.recent(1, 500)))
        await asyncio.sleep(0.05)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(run())
    return vectors


def test_a_message_is_found_by_its_meaning(store: Store) -> None:
    """In other words than it was said in; in its chat, after a fresh start not, and not once it was forgotten."""
    texts = ("the anchor is heavy", "bread and butter", "more bread")
    store.history.add(1, *[Message(Speaker.USER, text) for text in texts])
    embedder = Embedder()
    recaller = Recaller(store.words, store.history, indexed(store, embedder), embedder)

    def look_up(chat_id: int) -> list[tuple[int, tuple[str, ...]]]:
        asyncio.run(recaller.look_up(chat_id, "my boat"))
        return [(hit.message.history_id, hit.by) for hit in recaller.at_hand(chat_id)]

    assert look_up(1)[0] == (1, ("meaning",))
    assert look_up(2) == []
    assert store.words.forget(1, 1)
    assert 1 not in [number for number, _ in look_up(1)]
    embedder.failing = True
    assert look_up(1) == []
    embedder.failing = False
    store.history.start_anew(1)
    assert look_up(1) == []


def test_vectors_are_made_anew_for_another_model(store: Store) -> None:
    """Those of the former model go, nothing is embedded twice, and each search knows only its own model's."""
    store.history.add(1, *[Message(Speaker.USER, f"bread {number}") for number in range(150)])
    first, second = Embedder(), Embedder("second")
    former = indexed(store, first)
    assert len(former.find(1, [-1.0, 1.0] * 8, limit=200)) == 150
    assert len(first.embedded) == len(set(first.embedded)) == 150
    assert first.embedded[0] == "bread 149"
    again = Embedder()
    store.history.add(1, Message(Speaker.USER, "bread of today"))
    again.embedded = [""] * 150
    indexed(store, again)
    assert again.embedded[150:] == ["bread of today"]
    indexed(store, second)
    assert former.find(1, [-1.0, 1.0] * 8, limit=200) == []
    models = store.database.cursor("SELECT model, COUNT(*) FROM recall_vectors GROUP BY model").fetchall()
    assert models == [("second", 151)]


def test_a_text_that_is_refused_keeps_no_other_from_its_vector(store: Store) -> None:
    """A batch is halved until it is taken; of a lone text the beginning is tried, and then it is left out."""
    texts = [f"bread {number}" for number in range(100)]
    texts[30], texts[60] = "the anchor" + " of bread" * 1000, "unspeakable"
    store.history.add(1, *[Message(Speaker.USER, text) for text in texts])
    embedder = Embedder()
    embedder.refuses = lambda text: len(text) > 2000 or text == "unspeakable"
    vectors = VectorIndex(store.database, embedder.model_name)

    async def run() -> None:
        task = asyncio.create_task(Indexing(store.words, store.history, vectors, embedder).run())
        await asyncio.wait_for(until(lambda: "bread 0" in embedder.embedded), 5)
        store.history.add(1, Message(Speaker.USER, "and now?"))
        await asyncio.wait_for(until(lambda: "and now?" in embedder.embedded), 5)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(run())
    assert {text for text in embedder.embedded if len(text) > 20} == {texts[30][:2000]}
    assert sorted(set(embedder.embedded)) == sorted(
        {*texts, "and now?", "hello", texts[30][:2000]} - {*texts[30:61:30]}
    )
    assert vectors.missing(1, 200, 10) == [(61, 1, "unspeakable")]


def test_a_server_that_refuses_everything_costs_no_text_its_vector(store: Store) -> None:
    """It is the server's fault then, and all are tried again later."""
    store.history.add(1, Message(Speaker.USER, "bread"))
    embedder = Embedder()
    embedder.refuses = lambda _: True
    vectors = VectorIndex(store.database, embedder.model_name)
    indexing = Indexing(store.words, store.history, vectors, embedder)
    with pytest.raises(TextsRefused):
        asyncio.run(indexing._embed_all())
    embedder.refuses = lambda _: False
    asyncio.run(indexing._embed_all())
    assert embedder.embedded == ["bread"]


def test_what_is_forgotten_while_its_vector_is_made_stays_forgotten(store: Store) -> None:
    """The vector that comes afterwards is not kept."""
    store.history.add(1, Message(Speaker.USER, "the anchor"))
    vectors = VectorIndex(store.database, "any")
    assert store.words.forget(1, 1)
    vectors.add({(1, 1): [1.0, -1.0] * 8})
    assert vectors.find(1, [1.0, -1.0] * 8, limit=1) == []
    assert store.database.first("SELECT (SELECT COUNT(*) FROM recall_codes) + COUNT(*) FROM recall_vectors") == (0,)


def test_searches_follow_what_is_added(store: Store) -> None:
    """Also in the order of a back-fill, after a fresh start, and for vectors of another length."""
    store.history.add(1, *[Message(Speaker.USER, f"text {number}") for number in range(6)])
    vectors = VectorIndex(store.database, "any")
    ship, bread = [1.0, -1.0] * 8, [-1.0, 1.0] * 8
    vectors.add({(5, 1): ship, (6, 1): bread})
    assert [found.history_id for found in vectors.find(1, ship, limit=9)] == [5, 6]
    vectors.add({(3, 1): ship, (4, 1): bread, (2, 7): ship})
    vectors.add({(6, 1): ship})
    assert {found.history_id for found in vectors.find(1, ship, limit=3)} == {3, 5, 6}
    assert [found.history_id for found in vectors.find(7, ship, limit=9)] == [2]
    assert {found.history_id for found in vectors.find(1, bread, limit=9, after=4)} == {5, 6}
    vectors.add({(1, 1): ship * 2})
    assert [found.history_id for found in vectors.find(1, ship * 2, limit=9)] == [1]
    assert {found.history_id for found in vectors.find(1, ship, limit=9)} == {3, 4, 5, 6}


class EmbeddingsServer(HttpServer):
    """Speaks OpenAI's embeddings on a port of this machine, and says nothing while it is to hang."""

    def __init__(self) -> None:
        super().__init__(Path("/nowhere"), self._embed)
        self.url = ""
        self.hangs = False
        self._knows = Embedder()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"

    async def _embed(self, request: Request) -> Response:
        if self.hangs:
            await asyncio.sleep(3600)
        vectors = await self._knows.embed(json.loads(request.body)["input"])
        data = [{"object": "embedding", "index": at, "embedding": vector} for at, vector in enumerate(vectors)]
        usage = {"prompt_tokens": 1, "total_tokens": 1}
        return Response({"object": "list", "data": data, "model": "any", "usage": usage})


@within(30)
async def test_recall_in_the_chat_goes_by_meaning(tmp_path: Path) -> None:
    """With the reason for each message; a server that hangs keeps nobody waiting for anything else."""
    if reason := why_not(tmp_path):
        pytest.skip(reason)
    server = EmbeddingsServer()
    await server.start()
    settings: dict[str, Any] = {"autonous_embeddings_model": "any", "autonous_embeddings_base_url": server.url}
    async with world() as here, here.active_worker(**settings):
        await here.telegram.say("the anchor is heavy")
        await until(lambda: here.rows("SELECT COUNT(*) FROM recall_vectors") == [(2,)])
        await here.telegram.say("/recall my boat")
        await until(lambda: len(here.telegram.texts()) == 2)
        first = here.telegram.texts()[1].split("\n\n")[0]
        assert first.splitlines()[1:] == ["found by its meaning", "/forget_1"]
        assert "the anchor is heavy" in first
        server.hangs = True
        await here.telegram.say("/recall anchor")
        await here.telegram.say("/status")
        await until(lambda: len(here.telegram.texts()) == 4)
        status, by_words = here.telegram.texts()[2:]
        assert "in hand" in status
        assert by_words.startswith(f"{NO_VECTOR_TEXT}\n\n#1, ")
        await here.telegram.say("/recall anchor")
        await until(lambda: len(here.rows("SELECT 1 FROM inbox WHERE text LIKE '/recall%'")) == 3)
        await here.supervisor.order(Role.DRAIN)
        await here.supervisor.reaches(WorkerState.RELEASED)
        (left,) = here.rows("SELECT text FROM outbox WHERE status = 'pending'")
        assert left[0].startswith(CUT_TEXT)
    await server.stop()


def test_without_the_extension_words_do_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """That is told in one line, and is no reason to fail."""
    reason = why_not(tmp_path)
    if not reason:
        pytest.skip("this Python can load sqlite-vec")
    store = open_store(tmp_path / "agent.db")
    store.lease.take(1)
    settings = Settings(autonous_commander="dummy", autonous_embeddings_model="any")
    memory = make_memory(settings, store)
    store.history.add(1, Message(Speaker.USER, "the anchor is heavy"))
    store.words.catch_up(10)
    asyncio.run(memory.recaller.look_up(1, "anchor"))
    assert [hit.by for hit in memory.recaller.at_hand(1)] == [("words",)]
    (line,) = [record.getMessage() for record in caplog.records]
    assert reason in line
    assert "AUTONOUS_EMBEDDINGS_MODEL" in line
