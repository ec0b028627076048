"""A made conversation with facts in it, an embeddings server that needs no model, and how well facts are recalled.

``python -m tests.support.recall_set --messages 10000 [--vectors]`` prints what it measured as JSON. It needs nothing
but the worker's own packages, so that it can run in a worker's image.
"""

import argparse
import asyncio
import hashlib
import json
import math
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from supervisor.contract import Redactor
from tests.models.wires import TcpServer
from tests.worker.httpserver import Request, Response
from worker.context.recalled import FOUND, fused
from worker.models.base import Message, Speaker
from worker.models.embeddings import OpenAIEmbedder
from worker.store import Store
from worker.store.recall import Found
from worker.store.vectors import VectorIndex

CHAT: Final = 1
FACTS: Final = 100
DIMENSIONS: Final = 256
AT: Final = 5
SYNONYMS: Final = (
    ("car", "automobile"),
    ("flat", "apartment"),
    ("boss", "superior"),
    ("doctor", "physician"),
    ("film", "movie"),
    ("shop", "store"),
    ("holiday", "vacation"),
    ("photo", "picture"),
    ("garbage", "trash"),
    ("autumn", "fall"),
    ("lawyer", "attorney"),
    ("sofa", "couch"),
    ("cellar", "basement"),
    ("road", "street"),
    ("luggage", "baggage"),
    ("biscuit", "cookie"),
    ("engine", "motor"),
    ("illness", "disease"),
    ("gift", "present"),
    ("journey", "trip"),
)
OWNERS: Final = ("Ana", "Boris", "Chen", "Dora", "Emil")
VALUES: Final = ("blue", "late", "sold", "broken", "expensive", "lost", "new", "rented", "heavy", "perfect")
_CHATTER: Final = (
    "the a it we you they today tomorrow maybe please thanks okay later again still just really about with from "
    "look think know want need tell write read send check find start finish plan idea meeting list note page "
    "morning evening weather coffee train lunch music garden river window table paper letter number answer question"
)
COMMON: Final = tuple(_CHATTER.split())


@dataclass(frozen=True)
class Fact:
    """What was said once, and how it is asked for: in the same words, in others, or by a code."""

    said: str
    asked: str
    kind: str


def facts(chance: random.Random) -> list[Fact]:
    """A hundred of them: 40 asked for in the same words, 30 in other words, 30 by a code that has no meaning."""
    pairs = [(owner, words) for owner in OWNERS for words in SYNONYMS]
    chance.shuffle(pairs)
    found = []
    for number, (owner, (thing, other)) in enumerate(pairs[:FACTS]):
        value = chance.choice(VALUES)
        if number < 40:
            found.append(Fact(f"the {thing} of {owner} is {value}", f"how is the {thing} of {owner}?", "same words"))
        elif number < 70:
            found.append(Fact(f"the {thing} of {owner} is {value}", f"how is the {other} of {owner}?", "other words"))
        else:
            code = f"{chance.choice('QXZ')}{chance.randrange(1000, 9999)}{chance.choice('KVW')}"
            found.append(Fact(f"ticket {code} means it is {value}", f"what did {code} mean?", "code"))
    return found


def conversation(chance: random.Random, messages: int, planted: Sequence[Fact]) -> list[str]:
    """So many messages, the facts at places of their own. The others name the same people and things, apart."""
    texts = [_chatter(chance) for _ in range(messages)]
    for place, fact in zip(chance.sample(range(messages), len(planted)), planted, strict=True):
        texts[place] = f"{' '.join(chance.choices(COMMON, k=6))}, {fact.said}, {' '.join(chance.choices(COMMON, k=6))}"
    return texts


def _chatter(chance: random.Random) -> str:
    words = chance.choices(COMMON, k=chance.randint(5, 40))
    if chance.random() < 0.1:
        words.insert(chance.randrange(len(words)), chance.choice(OWNERS))
    elif chance.random() < 0.2:
        words.insert(chance.randrange(len(words)), chance.choice(chance.choice(SYNONYMS)))
    return " ".join(words)


# -- embeddings


@cache
def _direction(concept: str) -> tuple[float, ...]:
    chance = random.Random(hashlib.sha256(concept.encode()).digest())
    return tuple(chance.gauss(0, 1) for _ in range(DIMENSIONS))


_CONCEPTS: Final = {word: pair[0] for pair in SYNONYMS for word in pair}


def embedding(text: str) -> list[float]:
    """The sum of what its words mean: synonyms mean the same, common words little, and all codes alike nothing much."""
    total = [0.0] * DIMENSIONS
    for raw in text.lower().split():
        word = raw.strip(".,?!:")
        concept = "a code" if any(map(str.isdigit, word)) else _CONCEPTS.get(word, word)
        weight = 0.15 if word in COMMON else 1.0
        for place, value in enumerate(_direction(concept)):
            total[place] += weight * value
    length = math.sqrt(sum(value * value for value in total)) or 1.0
    return [value / length for value in total]


@asynccontextmanager
async def embeddings_server() -> Any:
    """A server that speaks OpenAI's embeddings; gives the client for it, the real one."""

    async def handle(request: Request) -> Response:
        body = json.loads(request.body)
        data = [
            {"object": "embedding", "index": number, "embedding": embedding(text)}
            for number, text in enumerate(body["input"])
        ]
        usage = {"prompt_tokens": 1, "total_tokens": 1}
        return Response({"object": "list", "data": data, "model": body["model"], "usage": usage})

    server = TcpServer(Path("/nowhere"), handle)
    await server.start()
    client = OpenAIEmbedder(api_key=None, base_url=f"{server.url}/v1", model="made-for-this-test")
    try:
        yield client
    finally:
        await client.close()
        await server.stop()


# -- measuring


def measure(directory: Path, *, messages: int, vectors: bool) -> dict[str, Any]:
    """Recall at 5 by each way, times in milliseconds, sizes in bytes."""
    chance = random.Random(8)
    planted = facts(chance)
    texts = conversation(chance, messages, planted)
    path = directory / "agent.db"
    store = Store(path, clock=time.time, sha="", redact=Redactor())
    store.lease.take(1)
    inserted = _timed(lambda: _insert(store, texts)) / messages
    store.database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    bare = path.stat().st_size
    indexed = _timed(lambda: _catch_up(store)) / messages
    store.database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    ids = {text: number for number, text in enumerate(texts, start=1)}
    wanted = [next(ids[text] for text in texts if fact.said in text) for fact in planted]
    ways: dict[str, Callable[[str], Sequence[Found]]] = {
        "words": lambda question: store.words.find(CHAT, question, limit=FOUND)
    }
    result: dict[str, Any] = {
        "messages": messages,
        "insert_ms": inserted,
        "index_ms": indexed,
        "words_bytes": path.stat().st_size - bare,
    }
    if vectors:
        result |= _with_vectors(store, path, texts, ways)
    answers = {way: _asked(find, planted) for way, find in ways.items()}
    for way, (found, times) in answers.items():
        result[f"recall_{way}"] = _recall(found, wanted)
        result[f"query_{way}_ms"] = times
    if vectors:
        both = [
            [Found(history_id, score) for history_id, score, _ in fused({way: answers[way][0][n] for way in ways})]
            for n in range(len(planted))
        ]
        result["recall_fused"] = _recall(both, wanted)
    store.close()
    return result


def _with_vectors(
    store: Store, path: Path, texts: Sequence[str], ways: dict[str, Callable[[str], Sequence[Found]]]
) -> dict[str, Any]:
    index = VectorIndex(store.database, "made-for-this-test")
    before = path.stat().st_size
    made = asyncio.run(_embedded(texts))
    took = 0.0
    for start in range(0, len(texts), 100):
        batch = {(start + n + 1, CHAT): vector for n, vector in enumerate(made[start : start + 100])}
        took += _timed(lambda batch=batch: index.add(batch))  # type: ignore[misc]
    store.database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    ways["meaning"] = lambda question: index.find(CHAT, embedding(question), limit=FOUND)
    return {"vector_ms": took / len(texts), "vectors_bytes": path.stat().st_size - before}


async def _embedded(texts: Sequence[str]) -> list[list[float]]:
    """Vectors as the worker gets them: through the real client, from a server."""
    found: list[list[float]] = []
    async with embeddings_server() as client:
        for start in range(0, len(texts), 64):
            found += await client.embed(texts[start : start + 64])
    return found


def _insert(store: Store, texts: Sequence[str]) -> None:
    for start in range(0, len(texts), 100):
        with store.write():
            store.history.add(CHAT, *(Message(Speaker.USER, text) for text in texts[start : start + 100]))


def _catch_up(store: Store) -> None:
    while store.words.catch_up(100):
        pass


def _asked(
    find: Callable[[str], Sequence[Found]], planted: Sequence[Fact]
) -> tuple[list[Sequence[Found]], list[float]]:
    found, times = [], []
    for fact in planted:
        begun = time.perf_counter()
        found.append(find(fact.asked))
        times.append((time.perf_counter() - begun) * 1000)
    return found, times


def _recall(found: Sequence[Sequence[Found]], wanted: Sequence[int]) -> float:
    shown = [[hit.history_id for hit in hits[:AT]] for hits in found]
    return statistics.fmean(want in ids for ids, want in zip(shown, wanted, strict=True))


def _timed(act: Callable[[], object]) -> float:
    """Milliseconds."""
    begun = time.perf_counter()
    act()
    return (time.perf_counter() - begun) * 1000


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--messages", type=int, default=10_000)
    parser.add_argument("--vectors", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="recall-") as directory:
        found = measure(Path(directory), messages=options.messages, vectors=options.vectors)
    sys.stdout.write(json.dumps(found) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
