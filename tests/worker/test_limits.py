"""What keeps a worker within bounds: limits, stalls, the circuit, the day's budget, each with its events."""

from typing import Any

import pytest

from tests.worker.fakes import FakeOpenAI, completion
from tests.worker.httpserver import Response
from tests.worker.support import asynchronous, open_store, until, world
from tests.worker.test_turns import CALLS, Clockwork, asks, openai
from worker.agent.notices import STOPPED

BRIEF: dict[str, Any] = {"autonous_control_retry_base_seconds": 0.001}


@pytest.mark.parametrize("turns", [1, 4])
def test_n_turns_are_exactly_n_model_calls(turns: int) -> None:
    """A model that never answers is called n times; the user is told how far it got, and why it ended."""

    @asynchronous
    async def run() -> None:
        talking = completion("still looking", tool_calls=CALLS)
        async with world() as here, Clockwork().serve(here) as settings, openai(here, talking) as (fake, model):
            async with here.active_worker(**settings, **model, autonous_control_max_turns=turns):
                await here.telegram.say("look")
                await until(here.telegram.texts)
            assert len(fake.requests) == turns
            (reached,) = here.events("control.limit_reached")
            assert (reached["limit_type"], reached["value"], reached["threshold"]) == ("max_turns", turns, turns)
            (told,) = here.telegram.texts()
            assert "AUTONOUS_CONTROL_MAX_TURNS" in told
            assert "still looking" in told
            assert "time" in told
            assert [event["error_class"] for event in here.events("agent.failed")] == ["limit"]
            assert here.rows("SELECT status, attempts FROM inbox") == [("done", 1)]
            assert here.rows("SELECT role, text FROM history") == [("user", "look"), ("notice", told)]

    run()


@asynchronous
async def test_an_answer_in_the_last_turn_is_no_limit() -> None:
    """With two turns allowed, an answer in the second is an answer."""
    script = f"{asks('time')},msg:done"
    async with world() as here, Clockwork().serve(here) as settings:
        limits: dict[str, Any] = {"autonous_control_max_turns": 2, "autonous_dummy_provider_script": script}
        async with here.active_worker(**settings, **limits):
            await here.telegram.say("look")
            await until(lambda: here.telegram.texts() == ["done"])
        assert here.events("control.limit_reached") == []


@asynchronous
async def test_wall_time_cuts_the_model_call() -> None:
    """The deadline ends a call that hangs, and a tool that hangs; nothing is tried again."""
    clockwork = Clockwork("hang")
    async with world() as here, clockwork.serve(here) as settings:
        limits: dict[str, Any] = {
            "autonous_control_max_wall_time_seconds": 0.15,
            "autonous_dummy_provider_script": f"sleep:60000,{asks('time')}",
        }
        async with here.active_worker(**settings, **limits):
            for number in (1, 2):
                await here.telegram.say("hang")
                await until(lambda number=number: len(here.telegram.texts()) == number)  # type: ignore[misc]
            await until(lambda: clockwork.cancelled)
        for reached in here.events("control.limit_reached"):
            assert (reached["limit_type"], reached["threshold"]) == ("max_wall_time_seconds", 0.15)
            assert 0.15 <= reached["value"] < 0.6
        assert [event["code"] for event in here.events("tool_call.failed")] == ["limit"]
        assert here.events("retry.scheduled") == []


@asynchronous
async def test_tokens_are_counted_over_all_turns() -> None:
    """Ten tokens a call: with 20 allowed the third call is not made; an answer that costs more is given, and noted."""
    async with world() as here, Clockwork().serve(here) as settings:
        async with openai(here, *[completion("hm", tool_calls=CALLS)] * 2, completion("cheap?")) as (fake, model):
            async with here.active_worker(**settings, **model, autonous_control_max_tokens=20):
                await here.telegram.say("one")
                await until(lambda: here.events("reply.sent"))
                assert len(fake.requests) == 2
            async with here.active_worker(epoch=2, **settings, **model, autonous_control_max_tokens=5):
                await here.telegram.say("two")
                await until(lambda: here.telegram.texts()[1:] == ["cheap?"])
        values = [(event["limit_type"], event["value"], event["threshold"]) for event in here.events(LIMIT)]
        assert values == [("max_tokens", 20, 20), ("max_tokens", 10, 5)]


LIMIT = "control.limit_reached"


@asynchronous
async def test_the_days_budget() -> None:
    """Warned once at 80 %; used up, nobody asks the model any more, also after a restart."""
    async with world() as here, openai(here, completion("answer")) as (fake, model):
        budget = {**model, "autonous_budget_tokens_per_day": 30}
        async with here.active_worker(**budget):
            for number in range(1, 4):
                await here.telegram.say(f"message {number}")
                await until(lambda number=number: here.telegram.texts().count("answer") == number)  # type: ignore[misc]
            await until(lambda: len(here.events("reply.sent")) == 4)
        async with here.active_worker(epoch=2, **budget):
            await here.telegram.say("one more")
            await until(lambda: len(here.telegram.texts()) == 5)
        assert len(fake.requests) == 3
        warning, stop = here.events(LIMIT)
        assert (warning["value"], warning["threshold"], warning["budget"], warning["warning"]) == (30, 24, 30, True)
        assert (stop["limit_type"], stop["value"], stop["threshold"]) == ("budget_tokens_per_day", 30, 30)
        told = [text for text in here.telegram.texts() if text != "answer"]
        assert all("AUTONOUS_BUDGET_TOKENS_PER_DAY" in text for text in told)


@asynchronous
async def test_attempts_that_all_end_alike_are_a_stall() -> None:
    """The third attempt in the same state is the last one, though more are allowed; both events tell of it."""
    worker = {**BRIEF, "autonous_dummy_provider_script": "err:provider_api", "autonous_control_max_retries": 9}
    async with world() as here, here.active_worker(**worker):
        await here.telegram.say("hello")
        await until(here.telegram.texts)
        (stalled,) = here.events("progress.stalled")
        assert (stalled["k"], stalled["attempts"]) == (3, 3)
        states = {event["state_fingerprint"] for event in here.events("retry.scheduled")}
        assert states == {stalled["state_fingerprint"]}
        assert [event["stalled"] for event in here.events("retry.exhausted")] == [True]
        assert here.rows("SELECT status, attempts FROM inbox") == [("dead", 3)]


@asynchronous
async def test_exhaustion_is_judged_before_stall() -> None:
    """Where the third attempt is the last one anyway, it is no stall; and a state that changes is none."""
    worker = {**BRIEF, "autonous_control_max_retries": 2}
    async with world() as here:
        async with here.active_worker(**worker, autonous_dummy_provider_script="err:db"):
            await here.telegram.say("hello")
            await until(lambda: here.events("reply.sent"))
            assert here.rows("SELECT status, attempts FROM inbox") == [("dead", 3)]
        script = "err:provider_api,err:validation,err:provider_api,err:validation,ok"
        settings = {**BRIEF, "autonous_control_max_retries": 5, "autonous_dummy_provider_script": script}
        async with here.active_worker(epoch=2, **settings):
            await here.telegram.say("hello")
            await until(lambda: here.telegram.texts()[1:] == ["dummy-ok"])
        assert here.events("progress.stalled") == []
        assert [event["stalled"] for event in here.events("retry.exhausted")] == [False]


@asynchronous
async def test_a_model_that_turns_in_circles_is_stopped() -> None:
    """The same call three times in a row is not made a third time: the message is dead, and its author knows."""
    clockwork = Clockwork()
    async with world() as here, clockwork.serve(here) as settings:
        circles: dict[str, Any] = {
            **settings,
            "autonous_control_no_progress_k": 3,
            "autonous_dummy_provider_script": asks("time"),
        }
        async with here.active_worker(**circles):
            await here.telegram.say("hello")
            await until(here.telegram.texts)
        assert clockwork.begun == 2
        assert here.events("progress.stalled")[0]["k"] == 3
        assert here.events("retry.exhausted")[0]["stalled"]
        assert here.rows("SELECT status, attempts FROM inbox") == [("dead", 1)]
        assert "same tool call 3 times" in here.telegram.texts()[0]


@asynchronous
async def test_a_replayed_message_starts_anew() -> None:
    """A dead message that is queued again has all its attempts, and remembers nothing of the stall."""
    worker = {**BRIEF, "autonous_control_max_retries": 1, "autonous_control_no_progress_k": 2}
    async with world() as here:
        async with here.active_worker(**worker, autonous_dummy_provider_script="err:provider_api"):
            await here.telegram.say("hello")
            await until(lambda: here.events("reply.sent"))
        store = open_store(here.database)
        store.lease.take(2)
        ((chat_id, row_id),) = here.rows("SELECT chat_id, id FROM inbox")
        assert store.inbox.replay(chat_id, row_id)
        store.close()
        async with here.active_worker(epoch=3, **worker, autonous_dummy_provider_script="err:provider_api,ok"):
            await until(lambda: here.telegram.texts()[1:] == ["dummy-ok"])
        assert here.rows("SELECT status, attempts FROM inbox") == [("done", 2)]


@asynchronous
async def test_the_circuit_opens_probes_and_closes() -> None:
    """Two provider errors open it; one run probes after the cool-down, fails, and the next probe closes it."""
    script = "err:provider_api,err:provider_api,err:provider_api,ok"
    worker = {
        **BRIEF,
        "autonous_dummy_provider_script": script,
        "autonous_control_circuit_threshold": 2,
        "autonous_control_circuit_cooldown_seconds": 0.1,
        "autonous_control_no_progress_k": 99,
    }
    async with world() as here, here.active_worker(**worker):
        await here.telegram.say("hello")
        await until(lambda: here.telegram.texts() == ["dummy-ok"])
        sql = "SELECT event_type FROM events WHERE event_type LIKE 'circuit.%' ORDER BY id"
        names = [name.partition(".")[2] for (name,) in here.rows(sql)]
        assert names == ["opened", "half_open", "opened", "half_open", "closed"]
        first, again = here.events("circuit.opened")
        assert (first["error_class"], first["threshold"], first["cooldown_seconds"]) == ("provider_api", 2, 0.1)
        assert (first["reopened"], again["reopened"]) == (False, True)
        assert here.events("circuit.closed")[0] == {**here.events("circuit.half_open")[0], "recovered": True}


@asynchronous
async def test_an_owner_is_heard_while_the_circuit_is_open() -> None:
    """The model is out of order: what needs none is answered at once, and /stop ends the wait for it."""
    worker = {
        **BRIEF,
        "autonous_dummy_provider_script": "err:provider_api",
        "autonous_control_circuit_threshold": 1,
        "autonous_control_circuit_cooldown_seconds": 60,
    }
    async with world() as here, here.active_worker(**worker):
        await here.telegram.say("hello")
        await until(lambda: here.events("circuit.opened"))
        await here.telegram.say("/status")
        await until(lambda: len(here.telegram.texts()) == 1)
        await here.telegram.say("/stop")
        await until(lambda: here.telegram.texts()[1:] == [STOPPED])
        assert here.rows("SELECT DISTINCT status FROM inbox") == [("done",)]


@asynchronous
async def test_one_run_probes_for_all() -> None:
    """While the circuit is half open a second chat waits for the outcome of the one probe."""
    busy = Response({"error": {"message": "overloaded"}}, status=500)
    async with world(owners=(42, 43)) as here, openai(here, busy, completion("fine")) as (fake, model):
        worker = {
            **model,
            "autonous_control_retry_base_seconds": 0.05,
            "autonous_control_circuit_threshold": 1,
            "autonous_control_circuit_cooldown_seconds": 0.1,
        }
        async with here.active_worker(**worker):
            await here.telegram.say("one")
            await until(lambda: here.events("circuit.opened"))
            await here.telegram.say("two", user=43)
            await until(lambda: len(here.telegram.sent) == 2)
        assert here.events("circuit.half_open") != []
        assert _asked(fake)[0] == "one"
        assert len(here.events("circuit.closed")) == 1


def _asked(fake: FakeOpenAI) -> list[Any]:
    messages: list[Any] = [request["messages"] for request in fake.requests]
    return [message[-1]["content"] for message in messages]
