"""A conversation that is longer than the window: summed up, cut, or tried with less, and never lost."""

import asyncio
import json
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest

from tests.worker.fakes import OWNER, FakeOpenAI, completion
from tests.worker.httpserver import Request, Response
from tests.worker.support import World, asynchronous, open_store, until, world
from tests.worker.test_turns import openai
from worker import app
from worker.agent import conversation
from worker.agent.conversation import COOLDOWN_SECONDS, Cooldown
from worker.context.summary import INSTRUCTION, checked, files_of
from worker.context.window import LearnedWindow
from worker.models.base import CompletionResponse, Message, Speaker, ToolCall, ValidationError
from worker.models.catalog import Prices, facts
from worker.store.summaries import Covered, Files, Summary

LONG: Final = "a rather long story that goes on and on and is told in many words. " * 90
#: A model whose price is known.
PRICED: Final = "gpt-5.4-mini"
TOO_LONG: Final = Response({"error": {"message": "too long", "code": "context_length_exceeded"}}, status=400)


class Teller(FakeOpenAI):
    """Tells long stories, or another one, and sums up with ``summary``.

    It refuses what has more than ``window`` tokens, of four characters each.
    """

    def __init__(self, path: Path, summary: str, *, story: str = LONG, window: int = 10**9) -> None:
        super().__init__(path, completion(story))
        self._summary = summary
        self._story = story
        self._window = window
        self.refused: list[int] = []
        self.hanging = False
        self.asked_to_sum_up: list[str] = []
        self.server._handler = self._tell

    async def _tell(self, request: Request) -> Response:
        body = json.loads(request.body)
        tokens = len(request.body) // 4
        if tokens > self._window:
            self.refused.append(tokens)
            return TOO_LONG
        if body["messages"][0]["content"] == INSTRUCTION:
            self.asked_to_sum_up.append(body["messages"][1]["content"])
            if self.hanging:
                await asyncio.sleep(60)
            return counted(self._summary, tokens)
        self.requests.append(body)
        return counted(self._story, tokens)


def counted(text: str, tokens: int) -> Response:
    """An answer to so many tokens."""
    answer = completion(text)
    assert isinstance(answer.body, dict)
    usage = {"prompt_tokens": tokens, "completion_tokens": 3, "total_tokens": tokens + 3}
    return Response({**answer.body, "usage": usage})


async def talk(here: World, teller: Teller, *texts: str, epoch: int = 1, **more: Any) -> None:
    settings: dict[str, Any] = {
        "autonous_model_provider": "openai",
        "openai_api_key": "sk-test",
        "autonous_openai_uds": str(teller.server.path),
        "autonous_model_context_window": 24_000,
        **more,
    }
    await teller.server.start()
    try:
        async with here.active_worker(epoch=epoch, **settings):
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
        assert len(summed_up) == here.rows("SELECT COUNT(*) FROM summaries")[0][0]
        assert len(summed_up) <= len(teller.asked_to_sum_up), "what is too long for one request is asked for in pieces"
        assert all(event["input_tokens"] and event["after_tokens"] < event["before_tokens"] for event in summed_up)
        assert len(summed_up) == here.rows("SELECT COUNT(*) FROM turns WHERE NOT kept")[0][0]


@asynchronous
async def test_a_summary_is_billed_to_its_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its event says what it cost, where the price is known; that is in the sum of the run, and of no other."""
    # The list's prices hold at the provider itself, and this server is another.
    monkeypatch.setattr(app, "make_prices", lambda _, model: Prices(model.provider, model.model_name))
    async with world() as here:
        teller = Teller(here.directory / "openai.sock", "## Goal\nTell stories.")
        await talk(here, teller, *[f"Story {number}: {LONG}" for number in range(9)], openai_model=PRICED)
        price = facts("openai", PRICED).price
        assert price is not None
        summed_up, completed = here.events("context.compacted"), here.events("agent.completed")
        turns = {event["task_id"]: event for event in here.events("turn.completed")}
        assert 1 <= len(summed_up) < len(completed) == len(turns) == 9
        for event in summed_up:
            expected = price.of(CompletionResponse("", event["input_tokens"], event["output_tokens"]))
            assert event["cost_usd"] == pytest.approx(expected, abs=1e-6)
            assert event["cost_usd"] > 0
        for event in completed:
            own = [turns[event["task_id"]], *(one for one in summed_up if one["task_id"] == event["task_id"])]
            for what in ("input_tokens", "output_tokens", "cost_usd"):
                assert event[what] == pytest.approx(sum(one[what] for one in own), abs=1e-6)


@asynchronous
async def test_one_message_that_is_too_long_is_cut_and_the_event_says_so() -> None:
    """Also where there is room for it: how much there was before and after, and by which rule."""
    async with world() as here:
        teller = Teller(here.directory / "openai.sock", "", story="Once.")
        await talk(here, teller, LONG * 2, "and now?", "go on")
        assert "are cut here" in json.dumps(teller.requests[1]["messages"])
        first, second = here.events("context.compacted")
        for event in (first, second):
            assert event["rules"] == ["long_message"]
            assert event["compressed_count"] == event["original_count"]
            assert 0 < event["before_tokens"] - event["after_tokens"] <= len(LONG * 2) // 4
            assert "cost_usd" not in event


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


@asynchronous
async def test_a_summary_that_is_late_is_cut_instead() -> None:
    """The conversation goes on without it."""
    async with world() as here:
        teller = Teller(here.directory / "openai.sock", "## Goal\nTell.")
        teller.hanging = True
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(conversation, "SUMMARY_SECONDS", 0.05)
            await talk(here, teller, *[f"Story {number}: {LONG}" for number in range(8)])
        assert "longer than 0.05 s" in here.events("context.compacted")[0]["summary_error"]
        assert here.rows("SELECT COUNT(*) FROM summaries") == [(0,)]


def test_after_its_rest_a_summary_may_be_asked_for_again() -> None:
    """Five minutes after one that failed, and not before."""
    now = 1000.0
    cooldown = Cooldown(lambda: now)
    assert cooldown.over
    cooldown.begin()
    now += COOLDOWN_SECONDS - 1
    assert not cooldown.over
    now += 1
    assert cooldown.over


@asynchronous
async def test_what_is_shown_no_more_is_summed_up_first() -> None:
    """Where only so many recent messages are shown, a summary stands for those before them, however short they are."""
    async with world() as here:
        teller = Teller(here.directory / "openai.sock", "## Constraints\nNo dragons.", story="Once.")
        texts = ["Never a dragon.", *(f"Story {number}?" for number in range(1, 12))]
        await talk(here, teller, *texts, tg_history_window=4)
        assert "Never a dragon." in teller.asked_to_sum_up[0]
        assert len(teller.asked_to_sum_up) == 2
        assert "No dragons." in teller.asked_to_sum_up[1]
        shown = [json.dumps(request["messages"]) for request in teller.requests]
        assert ["No dragons." in messages for messages in shown] == [False] * 6 + [True] * 6
        assert all(f"Story {number}?" in shown[number + 1] for number in range(1, 11))
        compacted = here.events("context.compacted")
        assert [event["rules"] for event in compacted] == [["summary"]] * 2


@asynchronous
async def test_an_answer_that_was_cut_says_so() -> None:
    """The chat is told where the provider's limit ended it; the history keeps what the model said."""
    cut = completion("half of i")
    assert isinstance(cut.body, dict)
    cut.body["choices"][0]["finish_reason"] = "length"
    async with world() as here, openai(here, cut) as (_, model):
        async with here.active_worker(**model):
            await here.telegram.say("hello")
            await until(here.telegram.texts)
        assert here.telegram.texts()[0].startswith("half of i\n\n(the answer ends here")
        assert here.rows("SELECT text FROM history WHERE role = 'assistant'") == [("half of i",)]


@asynchronous
async def test_the_stand_in_for_a_model_is_asked_for_no_summary() -> None:
    """Its script is for answers."""
    async with world() as here, here.active_worker(tg_history_window=2):
        for number in range(1, 9):
            await here.telegram.say(f"Story {number}?")
            await until(partial(_replied, here, number))
        assert here.rows("SELECT COUNT(*) FROM summaries") == [(0,)]
        assert not [event for event in here.events("context.compacted") if "summary_error" in event]


@asynchronous
async def test_a_window_that_is_smaller_than_it_is_said_to_be_is_learned() -> None:
    """What is tried once more is shorter than what was refused, and later requests fit at once."""
    async with world() as here:
        teller = Teller(here.directory / "openai.sock", "## Goal\nTell.", window=18_000)
        with closing(open_store(here.database)) as store:
            store.lease.take(1)
            store.history.add(OWNER, *[Message(Speaker.USER, f"Story {number}: {LONG}") for number in range(12)])
        large: dict[str, Any] = {"autonous_model_context_window": 400_000, "autonous_model_provider": "openai"}
        await talk(here, teller, "hello", "and now?", "go on", "and on", epoch=2, **large)
        assert len(teller.refused) == 1
        assert len(json.dumps(teller.requests[0])) < teller.refused[0] * 4
        assert here.rows("SELECT MAX(attempts) FROM inbox") == [(1,)]
        assert "Story 11" in json.dumps(teller.requests[0])


@asynchronous
async def test_a_retry_after_an_overflow_is_within_the_limits() -> None:
    """A summary that was made for it counts: what it used up is not spent twice."""
    async with world() as here:
        teller = Teller(here.directory / "openai.sock", "## Goal\nTell.", window=18_000)
        with closing(open_store(here.database)) as store:
            store.lease.take(1)
            store.history.add(OWNER, *[Message(Speaker.USER, f"Story {number}: {LONG}") for number in range(12)])
        limits: dict[str, Any] = {"autonous_model_context_window": 400_000, "autonous_control_max_tokens": 5000}
        await talk(here, teller, "hello", epoch=2, **limits)
        assert teller.asked_to_sum_up
        assert teller.requests == []
        (failed,) = here.events("agent.failed")
        assert failed["input_tokens"] > 5000, "what a summary cost is the run's, also when it came to nothing"
        assert [event["limit_type"] for event in here.events("control.limit_reached")] == ["max_tokens"]
        assert "AUTONOUS_CONTROL_MAX_TOKENS" in here.telegram.texts()[0]


def test_only_a_refusal_of_more_than_what_fits_tells_of_the_window() -> None:
    """What was refused is half at first; then it is known in the provider's own tokens how long it was."""
    window = LearnedWindow(100_000)
    window.refused(1, estimated=40_000, messages=36_000)
    assert window.ceiling(1) == 18_000
    assert window.ceiling(2) is None
    window.answered(1, estimated=20_000, factor=1.5)
    assert (window.ceiling(1), window.tokens) == (None, 57_000)
    window.refused(1, estimated=10_000, messages=9000)
    window.answered(1, estimated=20_000, factor=1.5)
    assert window.tokens == 57_000, "more than that has fitted"
    window.refused(1, estimated=60_000, messages=9000)
    window.answered(1, estimated=20_000, factor=4.0)
    assert window.tokens == 57_000, "it was longer than any window that is known"


@pytest.mark.parametrize(("text", "replaced"), [("", 1000), (" \n", 1000), ("x" * 400, 100)])
def test_what_is_no_summary_is_not_used(text: str, replaced: int) -> None:
    """Nothing, or what is not shorter than what it stands for; one that is too long is cut."""
    with pytest.raises(ValidationError):
        checked(text, replaced, longest=10_000)
    assert len(checked("x" * 4000, 1000, longest=2000).text) == 2000
    with pytest.raises(ValidationError):
        checked("x" * 4000, 1000, longest=2000, files=Files(read=tuple(f"src/a/long/path/{n}.py" for n in range(90))))


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
