"""A made conversation with facts in it, an embeddings server that needs no model, and how well facts are recalled.

``python -m tests.support.recall_set --messages 10000 [--vectors] [--set judged]`` prints what it measured as JSON;
with ``--dimensions 1536`` it is what searches among random vectors of that length cost. It needs nothing but the
worker's own packages, so that it can run in a worker's image.

There are two sets, of other words and another chance each: what the worker ranks by is chosen on the one that is
``tuned``, and its figures are those of the other, on which nothing was chosen.
"""

import argparse
import asyncio
import hashlib
import json
import math
import random
import resource
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
from tests.models.wiring import TcpServer
from tests.worker.httpserver import Request, Response
from worker.agent.indexing import BATCH, EMBEDDED
from worker.context.recalled import FOUND, RANK_OFFSET, Recaller, fused
from worker.models.base import Message, Speaker
from worker.models.embeddings import OpenAIEmbedder
from worker.store import Store
from worker.store.recall import Found
from worker.store.vectors import VectorIndex

CHAT: Final = 1
FACTS: Final = 100
DIMENSIONS: Final = 256
AT: Final = 5


@dataclass(frozen=True)
class Vocabulary:
    """What a set is made of. ``synonyms`` are pairs that mean the same; ``common`` words say little."""

    seed: int
    synonyms: tuple[tuple[str, str], ...]
    owners: tuple[str, ...]
    values: tuple[str, ...]
    common: tuple[str, ...]


def _pairs(words: str) -> tuple[tuple[str, str], ...]:
    named = (pair.split("/") for pair in words.split())
    return tuple((one, other) for one, other in named)


def _words(words: str) -> tuple[str, ...]:
    return tuple(words.split())


TUNED: Final = Vocabulary(
    8,
    _pairs(
        "car/automobile flat/apartment boss/superior doctor/physician film/movie shop/store holiday/vacation "
        "photo/picture garbage/trash autumn/fall lawyer/attorney sofa/couch cellar/basement road/street "
        "luggage/baggage biscuit/cookie engine/motor illness/disease gift/present journey/trip"
    ),
    ("Ana", "Boris", "Chen", "Dora", "Emil"),
    ("blue", "late", "sold", "broken", "expensive", "lost", "new", "rented", "heavy", "perfect"),
    _words(
        "the a it we you they today tomorrow maybe please thanks okay later again still just really about with from "
        "look think know want need tell write read send check find start finish plan idea meeting list note page "
        "morning evening weather coffee train lunch music garden river window table paper letter number answer "
        "question"
    ),
)
JUDGED: Final = Vocabulary(
    21,
    _pairs(
        "bicycle/bike jumper/sweater aubergine/eggplant lorry/truck tin/can curtain/drape petrol/gasoline "
        "torch/flashlight rubber/eraser queue/line nappy/diaper lift/elevator pavement/sidewalk tap/faucet "
        "spanner/wrench wallet/purse rucksack/backpack mobile/cellphone kettle/boiler timetable/schedule"
    ),
    ("Farid", "Greta", "Hugo", "Ines", "Jonas"),
    ("green", "early", "borrowed", "torn", "cheap", "found", "ancient", "stolen", "light", "useless"),
    _words(
        "this an he she who there yesterday soon perhaps sure hello fine then always never only quite over under into "
        "watch guess learn hope call say draw sing bring count keep open close ask talk visit name story rule "
        "night noon rain tea bus dinner dance forest lake door chair pencil stamp figure reply reason "
        "minute corner"
    ),
)
SETS: Final = {"tuned": TUNED, "judged": JUDGED}
#: Beside the worker's own, the offset that is usual for long lists.
OFFSETS: Final = (RANK_OFFSET, 60)


@dataclass(frozen=True)
class Fact:
    """What was said once, and how it is asked for: in the same words, in others, or by a code."""

    said: str
    asked: str
    kind: str


def facts(chance: random.Random, of: Vocabulary = TUNED) -> list[Fact]:
    """A hundred of them: 40 asked for in the same words, 30 in other words, 30 by a code that has no meaning."""
    pairs = [(owner, words) for owner in of.owners for words in of.synonyms]
    chance.shuffle(pairs)
    found = []
    for number, (owner, (thing, other)) in enumerate(pairs[:FACTS]):
        value = chance.choice(of.values)
        if number < 40:
            found.append(Fact(f"the {thing} of {owner} is {value}", f"how is the {thing} of {owner}?", "same words"))
        elif number < 70:
            found.append(Fact(f"the {thing} of {owner} is {value}", f"how is the {other} of {owner}?", "other words"))
        else:
            code = f"{chance.choice('QXZ')}{chance.randrange(1000, 9999)}{chance.choice('KVW')}"
            found.append(Fact(f"ticket {code} means it is {value}", f"what did {code} mean?", "code"))
    return found


def conversation(chance: random.Random, messages: int, planted: Sequence[Fact], of: Vocabulary = TUNED) -> list[str]:
    """So many messages, the facts at places of their own. The others name the same people and things, apart."""
    texts = [_chatter(chance, of) for _ in range(messages)]
    for place, fact in zip(chance.sample(range(messages), len(planted)), planted, strict=True):
        before, after = (" ".join(chance.choices(of.common, k=6)) for _ in range(2))
        texts[place] = f"{before}, {fact.said}, {after}"
    return texts


def _chatter(chance: random.Random, of: Vocabulary) -> str:
    words = chance.choices(of.common, k=chance.randint(5, 40))
    if chance.random() < 0.1:
        words.insert(chance.randrange(len(words)), chance.choice(of.owners))
    elif chance.random() < 0.2:
        words.insert(chance.randrange(len(words)), chance.choice(chance.choice(of.synonyms)))
    return " ".join(words)


# -- embeddings


@cache
def _direction(concept: str) -> tuple[float, ...]:
    chance = random.Random(hashlib.sha256(concept.encode()).digest())
    return tuple(chance.gauss(0, 1) for _ in range(DIMENSIONS))


_CONCEPTS: Final = {word: pair[0] for one in SETS.values() for pair in one.synonyms for word in pair}
_COMMON: Final = frozenset(word for one in SETS.values() for word in one.common)


def embedding(text: str) -> list[float]:
    """The sum of what its words mean: synonyms mean the same, common words little, and all codes alike nothing much."""
    total = [0.0] * DIMENSIONS
    for raw in text.lower().split():
        word = raw.strip(".,?!:")
        concept = "a code" if any(map(str.isdigit, word)) else _CONCEPTS.get(word, word)
        weight = 0.15 if word in _COMMON else 1.0
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
    client = OpenAIEmbedder(api_key=None, base_url=f"{server.url}/v1", model=Timed.model_name)
    try:
        yield client
    finally:
        await client.close()
        await server.stop()


#: A server on the same network is no quicker; meanwhile the worker looks words up.
ANSWER_SECONDS: Final = 0.02


class Timed:
    """An embedder in a server's place. ``seconds`` is how long it has taken, which is none of the worker's time."""

    model_name = "made-for-this-test"

    def __init__(self) -> None:
        self.seconds = 0.0

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        begun = time.perf_counter()
        vectors = [embedding(text) for text in texts]
        self.seconds += time.perf_counter() - begun + ANSWER_SECONDS
        await asyncio.sleep(ANSWER_SECONDS)
        return vectors

    async def close(self) -> None:
        """Nothing to free."""


# -- measuring


def measure(directory: Path, *, messages: int, vectors: bool, of: Vocabulary = JUDGED) -> dict[str, Any]:
    """Recall at 5 by each way, times in milliseconds, sizes in bytes."""
    chance = random.Random(of.seed)
    planted = facts(chance, of)
    texts = conversation(chance, messages, planted, of)
    path = directory / "agent.db"
    store = Store(path, clock=time.time, sha="", redact=Redactor())
    store.lease.take(1)
    inserted = _timed(lambda: _insert(store, texts)) / messages
    store.database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    bare = path.stat().st_size
    batches = _catch_up(store)
    store.database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    ids = {text: number for number, text in enumerate(texts, start=1)}
    wanted = [next(ids[text] for text in texts if fact.said in text) for fact in planted]
    ways: dict[str, Callable[[str], Sequence[Found]]] = {
        "words": lambda question: store.words.find(CHAT, question, limit=FOUND)
    }
    result: dict[str, Any] = {
        "messages": messages,
        "insert_ms": inserted,
        "index_ms": sum(batches) / messages,
        "index_batch_ms": batches,
        "words_bytes": path.stat().st_size - bare,
    }
    if vectors:
        index = VectorIndex(store.database, Timed.model_name)
        result |= _with_vectors(store, index, path, texts, ways)
        found, result["query_recollect_ms"] = asyncio.run(_recollected(store, index, planted))
        result["recall_recollect"] = _recall(found, wanted)
    answers = {way: _asked(find, planted) for way, find in ways.items()}
    for way, (found, times) in answers.items():
        result[f"recall_{way}"] = _recall(found, wanted)
        result[f"query_{way}_ms"] = times
    for offset in OFFSETS if vectors else ():
        both = [fused({way: answers[way][0][n] for way in ways}, offset) for n in range(len(planted))]
        found = [[Found(history_id, score) for history_id, score, _ in ranked] for ranked in both]
        result[f"recall_fused_{offset}"] = _recall(found, wanted)
    store.close()
    return result


def _with_vectors(
    store: Store,
    index: VectorIndex,
    path: Path,
    texts: Sequence[str],
    ways: dict[str, Callable[[str], Sequence[Found]]],
) -> dict[str, Any]:
    before = path.stat().st_size
    made = asyncio.run(_embedded(texts))
    took = []
    for start in range(0, len(texts), EMBEDDED):
        batch = {(start + n + 1, CHAT): vector for n, vector in enumerate(made[start : start + EMBEDDED])}
        took.append(_timed(lambda batch=batch: index.add(batch)))  # type: ignore[misc]
    store.database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    first = _timed(lambda: index.find(CHAT, made[0], limit=FOUND))
    ways["meaning"] = lambda question: index.find(CHAT, embedding(question), limit=FOUND)
    return {
        "vector_ms": sum(took) / len(texts),
        "vector_batch_ms": took,
        "vectors_bytes": path.stat().st_size - before,
        "first_query_meaning_ms": first,
    }


def measure_random(directory: Path, *, messages: int, dimensions: int) -> dict[str, Any]:
    """What searches among random vectors take, in milliseconds; the first, which reads all codes, by itself."""
    chance = random.Random(dimensions)
    store = Store(directory / "agent.db", clock=time.time, sha="", redact=Redactor())
    store.lease.take(1)
    with store.write():
        for number in range(1, messages + 1):
            code, vector = chance.randbytes(dimensions // 8), chance.randbytes(dimensions)
            store.database.execute("INSERT INTO recall_codes VALUES (?, ?, ?)", (number, CHAT, code))
            store.database.execute("INSERT INTO recall_vectors VALUES (?, ?, 'any', ?)", (number, CHAT, vector))
    index = VectorIndex(store.database, "any")
    asked = [[chance.gauss(0, 1) for _ in range(dimensions)] for _ in range(FACTS + 1)]
    first, *times = [_timed(lambda vector=vector: index.find(CHAT, vector, limit=FOUND)) for vector in asked]  # type: ignore[misc]
    index.close()
    store.close()
    return {"messages": messages, "first_query_meaning_ms": first, "query_meaning_ms": times, "peak_bytes": _peak()}


def _peak() -> int:
    """The most memory that this process ever had, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


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


def _catch_up(store: Store) -> list[float]:
    """Index all of it; milliseconds of each batch."""
    took = []
    left = BATCH
    while left == BATCH:
        begun = time.perf_counter()
        left = store.words.catch_up(BATCH)
        took.append((time.perf_counter() - begun) * 1000)
    return took


def _asked(
    find: Callable[[str], Sequence[Found]], planted: Sequence[Fact]
) -> tuple[list[Sequence[Found]], list[float]]:
    found, times = [], []
    for fact in planted:
        begun = time.perf_counter()
        found.append(find(fact.asked))
        times.append((time.perf_counter() - begun) * 1000)
    return found, times


async def _recollected(
    store: Store, index: VectorIndex, planted: Sequence[Fact]
) -> tuple[list[Sequence[Found]], list[float]]:
    """The way that a message in hand takes, with all that is in it but for the time of the embedder."""
    embedder = Timed()
    recaller = Recaller(store.words, store.history, index, embedder)
    found: list[Sequence[Found]] = []
    times: list[float] = []
    for fact in planted:
        before, begun = embedder.seconds, time.perf_counter()
        hits = (await recaller.recollect(CHAT, fact.asked)).hits
        times.append((time.perf_counter() - begun - (embedder.seconds - before)) * 1000)
        found.append([Found(hit.message.history_id, hit.score) for hit in hits])
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
    parser.add_argument("--set", choices=sorted(SETS), default="judged")
    parser.add_argument("--dimensions", type=int)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="recall-") as directory:
        here, messages = Path(directory), options.messages
        if options.dimensions:
            found = measure_random(here, messages=messages, dimensions=options.dimensions)
        else:
            found = measure(here, messages=messages, vectors=options.vectors, of=SETS[options.set])
    sys.stdout.write(json.dumps(found) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
