"""Recall by meaning. It wants sqlite-vec and a Python that can load it; where these are missing, words do alone."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.worker.support import open_store, until
from worker.agent.indexing import Indexing
from worker.context import Recaller
from worker.factory import make_memory
from worker.models.base import Message, ProviderApiError, Speaker
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
        self.embedded: list[str] = []

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        if self.failing:
            raise ProviderApiError("down")
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
    assert len(former.find(1, [-1.0, 1.0] * 8, limit=200)) == 100
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
