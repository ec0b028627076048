"""Images with extras: they have what was asked for, and nothing else grows."""

import json
from collections.abc import Iterator

import docker
import pytest

from supervisor.contract.providers import Extra
from supervisor.engine import Engine
from supervisor.images.builds import Deps, checkout_lock, ensure_deps, extras_in
from supervisor.paths import CHECKOUT
from tests.bench.recalling import measured
from worker.context.recalled import RANK_OFFSET

pytestmark = pytest.mark.engine
SDKS = {Extra.ANTHROPIC: "anthropic", Extra.GEMINI: "google.genai", Extra.EMBEDDINGS: "sqlite_vec"}

FINDS = f"""
import importlib, json
found = []
for name in {sorted(SDKS.values())}:
    try:
        importlib.import_module(name)
    except ImportError:
        continue
    found.append(name)
print(json.dumps(found))
"""


#: How much larger an image may be for each: about half as much again as it was when that was measured.
GROWTH = {Extra.ANTHROPIC: 25_000_000, Extra.GEMINI: 60_000_000, Extra.EMBEDDINGS: 1_000_000}
#: A build of one with many packages takes a minute or two: each is made without a cache.
LARGE = (Extra.ANTHROPIC, Extra.GEMINI)
EVERY = [pytest.param(extra, marks=pytest.mark.exhaustive if extra in LARGE else ()) for extra in Extra]


@pytest.fixture(scope="module")
def with_embeddings(engine: Engine, deps: Deps) -> Deps:
    """The smallest extra."""
    return ensure_deps(engine, print, checkout_lock([Extra.EMBEDDINGS]))


@pytest.fixture
def client() -> Iterator[docker.DockerClient]:
    found = docker.from_env()
    yield found
    found.close()


def importable(client: docker.DockerClient, image_id: str) -> set[str]:
    output = client.containers.run(image_id, ["python", "-c", FINDS], network_mode="none", remove=True)
    return set(json.loads(output))


@pytest.mark.parametrize("extra", EVERY, ids=str)
def test_an_image_has_the_extras_that_it_was_made_with(
    engine: Engine, deps: Deps, client: docker.DockerClient, extra: Extra
) -> None:
    """The plain one none; the other exactly its own, and is larger by little more than that."""
    plain = engine.image(deps.image_id)
    extended = engine.image(ensure_deps(engine, print, checkout_lock([extra])).image_id)
    assert plain is not None
    assert extended is not None
    assert (extras_in(plain), extras_in(extended)) == ((), (extra,))
    assert importable(client, plain.id) == set()
    assert importable(client, extended.id) == {SDKS[extra]}
    assert 0 < extended.size_bytes - plain.size_bytes < GROWTH[extra]


def test_vectors_work_in_the_image(with_embeddings: Deps, client: docker.DockerClient) -> None:
    """The worker's own tests of them, of which none is left out there but the one about their absence."""
    output = client.containers.run(
        with_embeddings.image_id,
        ["python", "-m", "pytest", "-q", "--noconftest", "-p", "no:cacheprovider", "tests/worker/test_vectors.py"],
        volumes={str(CHECKOUT): {"bind": "/app", "mode": "ro"}},
        network_mode="none",
        user="0",
        remove=True,
    )
    assert b"7 passed, 1 skipped" in output


def test_facts_are_recalled_in_the_image(with_embeddings: Deps) -> None:
    """By words, by meaning through the real client and sqlite-vec, and by both together better than by either."""
    found = measured(with_embeddings.image_id, messages=2000)
    assert found["recall_words"] >= 0.7
    assert found["recall_meaning"] >= 0.7
    assert found[f"recall_fused_{RANK_OFFSET}"] >= max(found["recall_words"], found["recall_meaning"], 0.9)
    assert found["recall_recollect"] == found[f"recall_fused_{RANK_OFFSET}"], "the worker's own way is just that"
