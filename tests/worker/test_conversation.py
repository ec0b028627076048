"""A conversation that is longer than the window: summed up, cut, or tried with less, and never lost."""

import json
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest

from tests.worker.fakes import FakeOpenAI, completion
from tests.worker.httpserver import Request, Response
from tests.worker.support import World, asynchronous, open_store, until, world
from tests.worker.test_turns import openai
from worker.context.summary import INSTRUCTION, checked, files_of
from worker.models.base import Message, Speaker, ToolCall, ValidationError
from worker.store.summaries import Covered, Files, Summary

LONG: Final = "a rather long story that goes on and on and is told in many words. " * 90
TOO_LONG: Final = Response({"error": {"message": "too long", "code": "context_length_exceeded"}}, status=400)


class Teller(FakeOpenAI):
    """Tells long stories, and sums up with ``summary``."""

    def __init__(self, path: Path, summary: str) -> None:
        super().__init__(path, completion(LONG))
        self._summary = summary
        self.asked_to_sum_up: list[str] = []
        self.server._handler = self._tell

    async def _tell(self, request: Request) -> Response:
        body = json.loads(request.body)
        if body["messages"][0]["content"] == INSTRUCTION:
            self.asked_to_sum_up.append(body["messages"][1]["content"])
            return completion(self._summary)
        self.requests.append(body)
        return completion(LONG)


async def talk(here: World, teller: Teller, *texts: str) -> None:
    settings: dict[str, Any] = {
        "autonous_model_provider": "openai",
        "openai_api_key": "sk-test",
        "autonous_openai_uds": str(teller.server.path),
        "autonous_model_context_window": 24_000,
    }
    await teller.server.start()
    try:
        async with here.active_worker(**settings):
            for number, text in enumerate(texts, start=1):
                await here.telegram.say(text)
                await until(partial(_replied, here, number))
    finally:
        await teller.server.stop()


def _replied(here: World, number: int) -> bool:
    return here.rows("SELECT COUNT(*) FROM outbox WHERE status = 'sent'") == [(number,)]


@asynchronous
async def test_the_older_part_is_summed_up_and_the_former_summary_merged() -> None:
    """The model is shown the summary in its place; it is billed, history keeps every word, a fresh start ends it."""
    async with world() as here:
        teller = Teller(here.directory / "openai.sock", "## Goal\nTell stories.\n## Constraints\nNo dragons.")
        stories = [f"Story {number}: {LONG}" for number in range(9)]
        await talk(here, teller, *stories, "/new", "hello")
        assert len(teller.asked_to_sum_up) > 1
        assert "No dragons." not in teller.asked_to_sum_up[0]
        assert "<former-summary>" in teller.asked_to_sum_up[1]
        assert "No dragons." in teller.asked_to_sum_up[1]
        assert "Story 0" in teller.asked_to_sum_up[0]
        last = json.dumps(teller.requests[8]["messages"])
        assert "No dragons." in last
        assert "Story 8" in last
        assert "Story 0" not in last
        assert "No dragons." not in json.dumps(teller.requests[9]["messages"])
        assert here.rows("SELECT COUNT(*) FROM history")[0][0] == 20
        summed_up = [event for event in here.events("context.compacted") if "summary" in event["rules"]]
        assert len(summed_up) == here.rows("SELECT COUNT(*) FROM summaries")[0][0] == len(teller.asked_to_sum_up)
        assert all(event["input_tokens"] and event["after_tokens"] < event["before_tokens"] for event in summed_up)
        assert len(summed_up) == here.rows("SELECT COUNT(*) FROM turns WHERE NOT kept")[0][0]


@asynchronous
async def test_a_summary_that_fails_is_cut_instead() -> None:
    """The conversation is cut by force, and no other summary is asked for at once."""
    async with world() as here:
        teller = Teller(here.directory / "openai.sock", "")
        await talk(here, teller, *[f"Story {number}: {LONG}" for number in range(8)])
        assert len(teller.asked_to_sum_up) == 1
        cut = here.events("context.compacted")
        assert "empty" in cut[0]["summary_error"]
        assert cut[-1]["rules"][-1] == "token_budget"
        assert "older messages are left out" in json.dumps(teller.requests[-1]["messages"])
        assert here.rows("SELECT COUNT(*) FROM summaries") == [(0,)]


@pytest.mark.parametrize(("text", "replaced"), [("", 1000), (" \n", 1000), ("x" * 400, 100)])
def test_what_is_no_summary_is_not_used(text: str, replaced: int) -> None:
    """Nothing, or what is not shorter than what it stands for; one that is too long is cut."""
    with pytest.raises(ValidationError):
        checked(text, replaced, longest=10_000)
    assert len(checked("x" * 4000, 1000, longest=2000)) == 2000


@asynchronous
async def test_what_the_provider_finds_too_long_is_tried_once_more_with_less() -> None:
    """Once within the turn; then it is a failed attempt like any."""
    async with world() as here, openai(here, TOO_LONG, completion("fits")) as (fake, model):
        async with here.active_worker(**model):
            await here.telegram.say("hello")
            await until(lambda: here.telegram.texts() == ["fits"])
        assert len(fake.requests) == 2
        assert here.rows("SELECT attempts FROM inbox") == [(1,)]
        assert len(here.events("turn.completed")) == 1
    async with world() as here, openai(here, TOO_LONG, TOO_LONG, completion("fits")) as (fake, model):
        async with here.active_worker(**model):
            await here.telegram.say("hello")
            await until(lambda: here.telegram.texts() == ["fits"])
        assert here.rows("SELECT attempts FROM inbox") == [(2,)]


def test_a_summary_says_what_it_stands_for(tmp_path: Path) -> None:
    """The newest one counts, in its chat, until the chat's context is begun anew."""
    store = open_store(tmp_path / "agent.db")
    store.lease.take(1)
    first = Summary("one", Covered(3), Files(("a",), ("b",)))
    second = Summary("two", Covered(5, run_id=2, turn_id=9))
    for summary in (first, second):
        store.summaries.add(1, summary, context_after=0)
    assert store.summaries.latest(1, context_after=0) == second
    assert store.summaries.latest(1, context_after=4) is None
    assert store.summaries.latest(2, context_after=0) is None


def test_files_are_known_from_the_calls() -> None:
    """What was changed is not listed as read as well; each stands once."""
    calls = [("read", "a"), ("read", "b"), ("edit", "b"), ("read", "a"), ("write", "c"), ("time", "d")]
    said = [
        Message(Speaker.ASSISTANT, "", (ToolCall(str(n), name, {"path": path}),))
        for n, (name, path) in enumerate(calls)
    ]
    assert files_of(said) == Files(read=("a",), changed=("b", "c"))
