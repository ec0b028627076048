"""What goes out: in order, whole, and accounted for."""

from tests.worker.fakes import OWNER, TOKEN, telegram_error
from tests.worker.httpserver import Response
from tests.worker.support import asynchronous, open_store, until, world
from worker.agent.courier import UNCERTAIN_NOTICE
from worker.store import InboxStatus
from worker.store.outbox import ReplyKind


@asynchronous
async def test_an_answer_survives_the_worker_that_made_it() -> None:
    """A worker that died after the model's answer and before sending it: the next one sends it, and asks no model."""
    async with world() as here:
        store = open_store(here.database)
        store.lease.take(1)
        store.outbox.add(OWNER, "from the grave", kind=ReplyKind.ANSWER)
        store.close()
        async with here.active_worker(epoch=2):
            await until(lambda: here.rows("SELECT status FROM outbox") == [("sent",)])
            assert here.telegram.texts() == ["from the grave"]
            assert here.events("agent.started") == []
            assert here.events("reply.sent")[0]["chat_id"] == OWNER


@asynchronous
async def test_a_long_answer_comes_in_parts() -> None:
    """An answer over Telegram's limit arrives whole and in order, as one reply."""
    async with world() as here:
        text = "word " * 2000
        async with here.active_worker(autonous_dummy_provider_script=f"msg:{text}end"):
            await here.telegram.say("tell me a lot")
            await until(lambda: here.events("reply.sent"))
            assert "".join(here.telegram.texts()) == f"{text}end"
            assert here.events("reply.sent")[0]["parts"] == 3
            assert here.rows("SELECT text FROM history WHERE role = 'assistant'") == [(f"{text}end",)]


@asynchronous
async def test_telegrams_retry_after_is_obeyed() -> None:
    """A message that Telegram refused for its rate is sent after the given time, once."""
    async with world() as here:
        here.telegram.fail("sendMessage", telegram_error(429, "Too Many Requests", retry_after=0.3))
        async with here.active_worker():
            await here.telegram.say("hello")
            await until(lambda: here.events("agent.completed"))
            assert here.telegram.texts() == []
            await until(lambda: here.telegram.texts() == ["dummy-ok"])


@asynchronous
async def test_a_refused_connection_is_tried_again() -> None:
    """What surely did not reach Telegram is sent again."""
    async with world() as here:
        here.telegram.fail("sendMessage", telegram_error(500, "Internal Server Error"))
        async with here.active_worker():
            await here.telegram.say("hello")
            await until(lambda: here.telegram.texts() == ["dummy-ok"])


@asynchronous
async def test_an_uncertain_send_is_told_and_not_repeated() -> None:
    """The connection broke in the middle of a send: recorded, not sent again, and the chat is told."""
    async with world() as here:
        here.telegram.fail("sendMessage", Response(hang_up=True))
        async with here.active_worker():
            await here.telegram.say("hello")
            await until(lambda: here.telegram.texts() == [UNCERTAIN_NOTICE])
            await until(lambda: len(here.events("reply.sent")) == 2)
            assert here.rows("SELECT status FROM outbox ORDER BY id") == [("ambiguous",), ("sent",)]
            assert here.events("reply.sent")[0]["delivery"] == "ambiguous"


@asynchronous
async def test_a_chat_that_takes_no_answer_blocks_nothing() -> None:
    """An answer that Telegram refuses for good is given up, and the next one is sent."""
    async with world() as here:
        here.telegram.fail("sendMessage", telegram_error(403, f"Forbidden: {TOKEN}"))
        async with here.active_worker(autonous_dummy_provider_script="msg:first,msg:second"):
            await here.telegram.say("one")
            await here.telegram.say("two")
            await until(lambda: here.telegram.texts() == ["second"])
            (status, error), _ = here.rows("SELECT status, error FROM outbox ORDER BY id")
            assert status == "rejected"
            assert TOKEN not in error


@asynchronous
async def test_a_message_that_a_dead_worker_had_claimed_is_answered() -> None:
    """A run that was cut by a crash is done again by the next worker."""
    async with world() as here:
        async with here.active_worker(autonous_dummy_provider_script="sleep:60000"):
            await here.telegram.say("hello")
            await until(lambda: here.events("turn.started"))
            row = here.rows("SELECT status FROM inbox")
        store = open_store(here.database)
        store.lease.take(2)
        claimed = store.inbox.claim(OWNER)
        store.close()
        assert row == [(InboxStatus.IN_PROGRESS,)]
        assert claimed is not None
        async with here.active_worker(epoch=3):
            await until(lambda: here.telegram.texts() == ["dummy-ok"])
            assert here.rows("SELECT status, attempts FROM inbox") == [("done", claimed.attempts + 1)]
