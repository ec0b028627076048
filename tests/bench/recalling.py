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
from tests.bench.figures import By, Figure, kibibytes, percent, seconds

MANY: Final = 100_000
FEW: Final = 10_000
QUERY_LIMIT_SECONDS: Final = 0.020
INDEX_LIMIT_SECONDS: Final = 0.002
MILLISECOND: Final = 1e-3

Say = Callable[[str], None]


def measured(image_id: str, *, messages: int) -> dict[str, Any]:
    """What ``tests.support.recall_set`` prints in a container of this image, with no network."""
    client = docker.from_env()
    try:
        output: bytes = client.containers.run(
            image_id,
            ["python", "-m", "tests.support.recall_set", "--messages", str(messages), "--vectors"],
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
    few, many = (measured(image_id, messages=messages) for messages in (FEW, MANY))
    how = f"a hundred facts planted in {FEW:,} messages: 40 asked for in the same words, 30 in others, 30 by a code"
    for way in ("words", "meaning", "fused"):
        yield Figure(f"recall@5 by {way}", (few[f"recall_{way}"] * 100,), percent, how)
    for way, limit in (("words", QUERY_LIMIT_SECONDS), ("meaning", None)):
        times = tuple(value * MILLISECOND for value in many[f"query_{way}_ms"])
        about = f"{len(times)} questions over {MANY:,} messages of one chat"
        if limit is None:
            about += "; in a thread of its own, so nothing waits for it but the answer"
        yield Figure(f"query by {way}", times, seconds, about, limit=limit, by=By.P95)
    insert = seconds(many["insert_ms"] * MILLISECOND)
    for way, key in (("words", "index_ms"), ("meaning", "vector_ms")):
        cost, about = (many[key] * MILLISECOND,), f"a message, beside its insert of {insert}"
        yield Figure(f"index by {way}", cost, seconds, about, limit=INDEX_LIMIT_SECONDS)
    for way in ("words", "vectors"):
        size = (many[f"{way}_bytes"] / MANY,)
        yield Figure(f"size of the index, {way}", size, kibibytes, f"on the disk, a message; {MANY:,} of 22 words")
