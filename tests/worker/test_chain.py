"""A chain of models: who is asked, who spoke, and what it cost."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from tests.worker.fakes import completion
from tests.worker.httpserver import Response
from tests.worker.support import asynchronous, until, world
from tests.worker.test_turns import openai
from worker import scripts
from worker.control.circuit import CircuitPolicy
from worker.models import catalog
from worker.models.base import CompletionResponse, ContextOverflow, Message, OnText, ProviderApiError, ToolSpec
from worker.models.catalog import Prices
from worker.models.chain import Chain
from worker.models.dummy import DummyModel


class Model:
    """Answers its name, or fails as it is told."""

    provider = "test"

    def __init__(self, name: str) -> None:
        self.model_name = name
        self.error: Exception | None = None
        self.asked = 0
        self.closed = False

    async def complete(
        self, messages: Sequence[Message], tools: Sequence[ToolSpec] = (), on_text: OnText | None = None
    ) -> CompletionResponse:
        self.asked += 1
        if self.error is not None:
            raise self.error
        return CompletionResponse(self.model_name, 1, 1)

    async def close(self) -> None:
        self.closed = True


def test_the_next_model_is_asked_while_the_breaker_of_the_first_is_open() -> None:
    """The failure that opens it goes on at once; after the rest one call decides; who spoke is told."""
    now = 0.0
    first, second = Model("a"), Model("b")
    chain = Chain([first, second], CircuitPolicy(threshold=2, cooldown_seconds=10), lambda: now)

    async def ask() -> tuple[str, str]:
        answer = await chain.complete([])
        return answer.text, answer.spoken_by

    async def play() -> None:
        nonlocal now
        assert (chain.provider, chain.model_name) == ("test", "a")
        assert await ask() == ("a", "")
        first.error = ProviderApiError("down")
        with pytest.raises(ProviderApiError):
            await ask()
        assert await ask() == ("b", "test:b")
        assert await ask() == ("b", "test:b")
        assert first.asked == 3
        now = 11.0
        assert await ask() == ("b", "test:b")
        assert first.asked == 4
        now, first.error = 22.0, None
        assert await ask() == ("a", "")
        await chain.close()
        assert first.closed
        assert second.closed

    asyncio.run(play())


def test_a_scripted_outage_reaches_the_next_model() -> None:
    """The offline model fails as a provider does, so a chain can be rehearsed with it."""
    models = [DummyModel(scripts.parse("err:provider_api")), DummyModel(scripts.parse("msg:here"))]
    chain = Chain(models, CircuitPolicy(threshold=1, cooldown_seconds=10), lambda: 0.0)
    assert asyncio.run(chain.complete([])).text == "here"


def test_an_overflow_is_nobodys_failure() -> None:
    """It is the conversation's, and no other model is asked for it; when all are open the first one is."""
    first, second = Model("a"), Model("b")
    chain = Chain([first, second], CircuitPolicy(threshold=1, cooldown_seconds=10), lambda: 0.0)
    first.error = ContextOverflow("too long")

    async def play() -> None:
        with pytest.raises(ContextOverflow):
            await chain.complete([])
        assert second.asked == 0
        first.error = second.error = ProviderApiError("down")
        for _ in range(2):
            with pytest.raises(ProviderApiError):
                await chain.complete([])
        assert (first.asked, second.asked) == (3, 1)

    asyncio.run(play())


def test_windows_and_prices() -> None:
    """By name, dated or not; what is not known has a safe window and no price, and so has a server of one's own."""
    answer = CompletionResponse("", 1_000_000, 100_000, cached_tokens=400_000)
    assert catalog.facts("openai", "gpt-5.4-mini-2026-03-17") == catalog.facts("openai-responses", "gpt-5.4-mini")
    assert catalog.facts("openai", "my-own").window == 32_768
    assert catalog.facts("openai", "my-own").price is None
    assert Prices("openai", "gpt-5.4-mini")(answer) == pytest.approx(0.6 * 0.75 + 0.4 * 0.075 + 0.1 * 4.5)
    assert Prices("openai", "my-own")(answer) is None
    assert Prices("openai", "gpt-5.4-mini", elsewhere={"openai"})(answer) is None
    assert Prices("openai", "x")(CompletionResponse("", 10, 10, spoken_by="dummy:dummy")) == 0.0
    assert len(catalog.date()) == len("2026-11-22")


@asynchronous
async def test_a_reply_says_which_model_spoke() -> None:
    """When it was not the first; the history has the answer as it was given, and the events who gave it."""
    down = Response({"error": {"message": "down"}}, status=500)
    chain: dict[str, Any] = {"autonous_model_fallback": (("dummy", "dummy"),), "autonous_control_circuit_threshold": 1}
    async with world() as here, openai(here, down, completion("never asked")) as (fake, model):
        async with here.active_worker(**model, **chain, autonous_dummy_provider_script="msg:from the second"):
            await here.telegram.say("hello")
            await until(lambda: here.events("reply.sent"))
            await here.telegram.say("/cost")
            await until(lambda: any("today" in text for text in here.telegram.texts()))
        assert here.telegram.texts()[0].splitlines()[0] == "from the second"
        assert "dummy:dummy" in here.telegram.texts()[0]
        assert here.rows("SELECT text FROM history WHERE role = 'assistant'") == [("from the second",)]
        done = here.events("turn.completed")[0]
        assert (done["spoken_by"], done["model_name"], done["cost_usd"]) == ("dummy:dummy", "dummy", 0.0)
        assert here.events("agent.completed")[0]["cost_usd"] == 0.0
        assert "1 tokens in, 1 out, $0.0000" in here.telegram.texts()[1]
        assert len(fake.requests) == 1


@asynchronous
async def test_the_wait_that_a_provider_asks_for_is_kept() -> None:
    """A 429 that says how long: the next attempt comes no sooner, but within the longest wait."""
    slow = Response({"error": {"message": "slow down"}}, status=429, headers={"Retry-After": "3600"})
    waits: dict[str, Any] = {"autonous_control_retry_max_seconds": 0.3}
    async with world() as here, openai(here, slow, completion("at last")) as (_, model):
        async with here.active_worker(**model, **waits):
            await here.telegram.say("hello")
            await until(lambda: here.telegram.texts() == ["at last"])
        assert [event["wait_seconds"] for event in here.events("retry.scheduled")] == [0.3]


def test_what_a_provider_keeps_anew_has_a_price_of_its_own() -> None:
    """Anthropic's costs a quarter more than plain input; elsewhere it is plain input."""
    for provider, model, more in (("anthropic", "claude-sonnet-5-5", 1.25), ("openai", "gpt-5.4-mini", 1.0)):
        price = catalog.facts(provider, model).price
        assert price is not None
        answer = CompletionResponse("", 1_000_000, 0, cached_tokens=600_000, written_tokens=300_000)
        expected = 0.1 * price.input + 0.6 * price.cached + 0.3 * price.input * more
        assert price.of(answer) == pytest.approx(expected)
