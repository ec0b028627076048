"""What recall finds, and what it costs: a made conversation with a hundred facts in it, in the worker's own image.

In the image, because vectors need an SQLite that can load extensions, which not every machine's Python has.
"""

import json
from collections.abc import Callable, Iterator
from typing import Any, Final

import docker

from supervisor.contract.providers import Extra
from supervisor.engine import Engine
from supervisor.images.builds import checkout_lock, ensure_deps
from supervisor.paths import CHECKOUT
from tests.bench.figures import By, Figure, kibibytes, megabytes, percent, seconds
from tests.support.recall_set import ANSWER_SECONDS, DIMENSIONS, OFFSETS
from worker.context.recalled import RANK_OFFSET

MANY: Final = 100_000
FEW: Final = 10_000
QUERY_LIMIT_SECONDS: Final = 0.020
INDEX_LIMIT_SECONDS: Final = 0.002
#: A worker that stands by waits two seconds for a lock before it gives up.
LOCK_LIMIT_SECONDS: Final = 0.5
#: What embeddings models give by default, beside the few dimensions of the made set.
WIDE: Final = 1536
MILLISECOND: Final = 1e-3

Say = Callable[[str], None]


def measured(image_id: str, *options: str, messages: int) -> dict[str, Any]:
    """What ``tests.support.recall_set`` prints in a container of this image, with no network."""
    client = docker.from_env()
    try:
        output: bytes = client.containers.run(
            image_id,
            ["python", "-m", "tests.support.recall_set", "--messages", str(messages), "--vectors", *options],
            volumes={str(CHECKOUT): {"bind": "/app", "mode": "ro"}},
            tmpfs={"/tmp": "size=2g"},
            user="0",
            network_mode="none",
            remove=True,
        )
    finally:
        client.close()
    found: dict[str, Any] = json.loads(output)
    return found


def measure(engine: Engine, say: Say) -> Iterator[Figure]:
    """Recall at five over ten thousand messages, times and sizes over a hundred thousand."""
    image_id = ensure_deps(engine, say, checkout_lock([Extra.EMBEDDINGS])).image_id
    say(f"Recall over {FEW:,} and {MANY:,} messages...")
    yield from _recall(image_id)
    many = measured(image_id, messages=MANY)
    wide = measured(image_id, "--dimensions", str(WIDE), messages=MANY)
    yield from _queries(many, wide)
    yield from _indexing(many)


def _recall(image_id: str) -> Iterator[Figure]:
    judged, tuned = (measured(image_id, "--set", which, messages=FEW) for which in ("judged", "tuned"))
    how = f"a hundred facts planted in {FEW:,} messages: 40 asked for in the same words, 30 in others, 30 by a code"
    yield Figure("recall@5 by words", (judged["recall_words"] * 100,), percent, how)
    yield Figure("recall@5 by meaning", (judged["recall_meaning"] * 100,), percent, how)
    for offset in OFFSETS:
        there = percent(tuned[f"recall_fused_{offset}"] * 100)
        about = f"offset {offset}; on the set by which the worker's, {RANK_OFFSET}, was chosen: {there}"
        yield Figure(f"recall@5 fused, offset {offset}", (judged[f"recall_fused_{offset}"] * 100,), percent, about)


def _queries(many: dict[str, Any], wide: dict[str, Any]) -> Iterator[Figure]:
    asked = (
        ("by words", many["query_words_ms"], "of one chat"),
        ("by meaning", many["query_meaning_ms"], f"of {DIMENSIONS} dimensions"),
        (
            "by both, as the worker asks",
            many["query_recollect_ms"],
            f"of {DIMENSIONS} dimensions, beside an embedder that takes {ANSWER_SECONDS * 1000:g} ms",
        ),
        (f"by meaning, {WIDE} dimensions", wide["query_meaning_ms"], "with vectors at random"),
    )
    for way, taken, of in asked:
        times = tuple(value * MILLISECOND for value in taken)
        about = f"{len(times)} questions over {MANY:,} messages {of}"
        yield Figure(f"query {way}", times, seconds, about, limit=QUERY_LIMIT_SECONDS, by=By.P95)
    first = (wide["first_query_meaning_ms"] * MILLISECOND,)
    yield Figure("first query by meaning", first, seconds, f"reads {MANY:,} codes of {WIDE} dimensions, in a thread")
    yield Figure("memory with these codes", (wide["peak_bytes"],), megabytes, "of a process that does nothing else")


def _indexing(many: dict[str, Any]) -> Iterator[Figure]:
    insert = seconds(many["insert_ms"] * MILLISECOND)
    for way, key in (("words", "index"), ("meaning", "vector")):
        cost, about = (many[f"{key}_ms"] * MILLISECOND,), f"a message, beside its insert of {insert}"
        yield Figure(f"index by {way}", cost, seconds, about, limit=INDEX_LIMIT_SECONDS)
        batches = tuple(value * MILLISECOND for value in many[f"{key}_batch_ms"])
        about = "the longest batch of a back-fill, with all that is done outside of its lock"
        yield Figure(f"write lock, {way}", batches, seconds, about, limit=LOCK_LIMIT_SECONDS, by=By.MOST)
    for way in ("words", "vectors"):
        size = (many[f"{way}_bytes"] / MANY,)
        yield Figure(f"size of the index, {way}", size, kibibytes, f"on the disk, a message; {MANY:,} of 22 words")
