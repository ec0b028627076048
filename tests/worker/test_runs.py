"""Runs: their order, their retries, their events."""

from typing import Any

from supervisor.contract import ids
from tests.worker.fakes import OWNER
from tests.worker.support import SHA, asynchronous, open_store, until, world


@asynchronous
async def test_the_whole_tree_of_events() -> None:
    """One answered message leaves one tree, from the supervisor's event down to the reply, each with the sha."""
    async with world() as here, here.active_worker():
        await here.telegram.say("hello")
        await until(lambda: here.events("reply.sent"))
        rows = here.rows("SELECT id, parent_id, event_type FROM events ORDER BY id")
        types = {event_id: event_type for event_id, _, event_type in rows}
        assert [(types.get(parent, parent), event_type) for _, parent, event_type in rows] == [
            (77, "process.started"),
            ("process.started", "system_prompt.loaded"),
            ("process.started", "agent.started"),
            ("agent.started", "context.assembled"),
            ("agent.started", "turn.started"),
            ("turn.started", "turn.completed"),
            ("agent.started", "agent.completed"),
            ("agent.started", "reply.sent"),
        ]
        assert all(ids.side(event_id) is ids.Side.WORKER for event_id in types)
        assert all(here.events(event_type)[0]["sha"] == SHA for event_type in types.values())
        turn = here.events("turn.completed")[0]
        assert (turn["model_name"], turn["input_tokens"], turn["output_tokens"]) == ("dummy", 1, 1)
        assert here.rows("SELECT DISTINCT instr(payload, ': ') FROM events") == [(0,)]


@asynchronous
async def test_a_failed_attempt_is_retried() -> None:
    """After an error the message is tried again; the failed attempt leaves no history."""
    script = "err:provider_api,err:provider_api,ok"
    async with world() as here, here.active_worker(autonous_dummy_provider_script=script):
        await here.telegram.say("hello")
        await until(lambda: here.telegram.texts() == ["dummy-ok"])
        waits = [event["wait_seconds"] for event in here.events("retry.scheduled")]
        assert waits == [0.01, 0.02]
        assert [event["error_class"] for event in here.events("agent.failed")] == ["provider_api"] * 2
        assert here.rows("SELECT status, attempts FROM inbox") == [("done", 3)]
        assert here.rows("SELECT role, text FROM history") == [("user", "hello"), ("assistant", "dummy-ok")]


@asynchronous
async def test_what_exhausts_its_retries_is_dead_and_told() -> None:
    """Two retries are three claims; then the message is dead, its author is told, and the next one is served."""
    script = "err:validation,err:validation,err:validation,ok"
    worker: dict[str, Any] = {"autonous_dummy_provider_script": script, "autonous_control_max_retries": 2}
    async with world() as here, here.active_worker(**worker):
        await here.telegram.say("poison")
        await here.telegram.say("fine")
        await until(lambda: len(here.telegram.texts()) == 2)
        told, answer = here.telegram.texts()
        assert "gave up after 3 attempts" in told
        assert answer == "dummy-ok"
        assert here.rows("SELECT status, attempts FROM inbox") == [("dead", 3), ("done", 1)]
        assert len(here.events("retry.scheduled")) == 2
        assert here.events("retry.exhausted")[0]["error_class"] == "validation"
        assert here.rows("SELECT text FROM history") == [("fine",), ("dummy-ok",)]


@asynchronous
async def test_a_message_that_kills_every_worker_is_given_up() -> None:
    """Claims that no worker survived count as attempts."""
    async with world() as here:
        async with here.active_worker(autonous_dummy_provider_script="sleep:60000"):
            await here.telegram.say("poison")
            await until(lambda: here.events("turn.started"))
        store = open_store(here.database)
        store.lease.take(2)
        for _ in range(2):
            store.inbox.claim(OWNER)
        store.close()
        async with here.active_worker(epoch=3, autonous_control_max_retries=1):
            await until(lambda: here.rows("SELECT status FROM inbox") == [("dead",)])
            await until(lambda: "gave up" in "".join(here.telegram.texts()))


@asynchronous
async def test_a_chat_is_answered_in_order_and_chats_side_by_side() -> None:
    """One chat's second message waits for its first; another chat waits for neither, up to the limit."""
    script = "sleep:300,msg:quick,msg:last"
    async with world(owners=(OWNER, 43)) as here, here.active_worker(autonous_dummy_provider_script=script):
        await here.telegram.say("first")
        await until(lambda: here.events("turn.started"))
        await here.telegram.say("second")
        await here.telegram.say("from another", user=43)
        await until(lambda: len(here.telegram.sent) == 3)
        assert here.telegram.sent == [(43, "quick"), (OWNER, "dummy-after-sleep"), (OWNER, "last")]


@asynchronous
async def test_no_more_chats_at_once_than_allowed() -> None:
    """With a limit of one, the second chat is served after the first."""
    worker: dict[str, Any] = {"autonous_dummy_provider_script": "sleep:200,ok", "autonous_max_concurrent_chats": 1}
    async with world(owners=(OWNER, 43)) as here, here.active_worker(**worker):
        await here.telegram.say("first")
        await until(lambda: here.events("turn.started"))
        await here.telegram.say("second", user=43)
        await until(lambda: len(here.telegram.sent) == 2)
        assert here.telegram.sent == [(OWNER, "dummy-after-sleep"), (43, "dummy-ok")]


@asynchronous
async def test_an_empty_answer_is_an_error() -> None:
    """A blank answer is not sent; the attempt counts as failed."""
    script = "msgb64:IA==,ok"  # a single space
    async with world() as here, here.active_worker(autonous_dummy_provider_script=script):
        await here.telegram.say("hello")
        await until(lambda: here.telegram.texts() == ["dummy-ok"])
        assert here.events("agent.failed")[0]["error_class"] == "validation"


@asynchronous
async def test_a_beat_tells_that_the_model_fails() -> None:
    """From the first run that it failed to the first that it served; the supervisor then looks for itself."""
    async with world() as here, here.active_worker(autonous_dummy_provider_script="err:provider_api,ok"):
        await here.telegram.say("hello")
        await until(lambda: here.supervisor.beats[-1].model_error)
        await until(lambda: not here.supervisor.beats[-1].model_error)
        await until(lambda: here.telegram.texts() == ["dummy-ok"])  # a beat may be quicker than the answer
