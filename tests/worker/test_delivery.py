"""What goes out: in order, whole, and accounted for."""

import time

import pytest

from supervisor.contract import Role, WorkerState
from tests.worker.fakes import OWNER, TOKEN, FakeTelegram, telegram_error
from tests.worker.httpserver import Response
from tests.worker.support import World, asynchronous, open_store, short_directory, until, world
from worker.agent import courier
from worker.agent.courier import uncertain_notice
from worker.commander.base import Ambiguous, Incoming, UpdateKind
from worker.commander.telegram import TelegramCommander
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
async def test_a_wrong_token_or_address_costs_no_answer() -> None:
    """What Telegram says of the bot and not of the chat is put right some day: until then the answer waits."""
    async with world() as here:
        wrong = telegram_error(401, "Unauthorized"), telegram_error(404, "Not Found")
        here.telegram.fail("sendMessage", *wrong)
        async with here.active_worker():
            await here.telegram.say("hello")
            await until(lambda: here.telegram.texts() == ["dummy-ok"])
            await until(lambda: here.rows("SELECT status FROM outbox") == [("sent",)])


@pytest.mark.parametrize("status", [502, 504])
def test_a_gateway_that_fails_leaves_a_doubt(status: int) -> None:
    """It may have passed the message on: not sent again blindly, and the chat is told."""

    @asynchronous
    async def run() -> None:
        async with world() as here:
            here.telegram.fail("sendMessage", Response({}, status=status))
            async with here.active_worker():
                await here.telegram.say("hello")
                await until(lambda: here.telegram.texts() == [uncertain_notice(1)])
                assert here.rows("SELECT status FROM outbox WHERE id = 1") == [("ambiguous",)]

    run()


@pytest.mark.parametrize(
    "answer",
    [
        Response(b"<html>Welcome to this network</html>"),
        Response(b"\xff", status=500),
        Response({"ok": True}),
        Response({"ok": True, "result": {"chat": {"id": OWNER, "type": "private"}}}),
        Response({"ok": True, "result": [1]}),
        Response(b"no gzip", headers={"Content-Encoding": "gzip"}),
    ],
)
def test_an_answer_that_cannot_be_read_leaves_a_doubt(answer: Response) -> None:
    """Telegram may have taken the message: it is not sent again, whatever in the answer is broken."""

    @asynchronous
    async def run() -> None:
        with short_directory() as directory:
            telegram = FakeTelegram(directory / "telegram.sock")
            await telegram.server.start()
            telegram.fail("sendMessage", answer)
            socket = str(telegram.server.path)
            commander = TelegramCommander(token=TOKEN, base_url=None, socket=socket, poll_timeout=0)
            with pytest.raises(Ambiguous):
                await commander.send(OWNER, "hello")
            await commander.close()
            await telegram.server.stop()

    run()


@asynchronous
async def test_an_uncertain_send_is_told_and_not_repeated() -> None:
    """The connection broke in the middle of a send: recorded, not sent again, and the chat is told."""
    async with world() as here:
        here.telegram.fail("sendMessage", Response(hang_up=True))
        async with here.active_worker():
            await here.telegram.say("hello")
            await until(lambda: here.telegram.texts() == [uncertain_notice(1)])
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
            await until(lambda: len(here.events("reply.sent")) == 2)
            assert [event["delivery"] for event in here.events("reply.sent")] == ["rejected", "sent"]
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


@asynchronous
async def test_markdown_goes_out_as_html_and_plain_when_refused() -> None:
    """The answer is formatted; when Telegram does not take the entities it goes out as it was written."""
    async with world() as here, here.active_worker(autonous_dummy_provider_script="msg:**yes** & no"):
        await here.telegram.say("one")
        await until(lambda: here.telegram.texts() == ["yes & no"])
        here.telegram.fail("sendMessage", telegram_error(400, "Bad Request: can't parse entities: oops"))
        await here.telegram.say("two")
        await until(lambda: here.telegram.texts() == ["yes & no", "**yes** & no"])
        modes = [call.get("parse_mode") for call in here.telegram.called("sendMessage")]
        assert modes == ["HTML", "HTML", None]
        assert here.rows("SELECT DISTINCT text FROM history WHERE role = 'assistant'") == [("**yes** & no",)]


@asynchronous
async def test_the_answer_takes_the_place_of_the_preview() -> None:
    """An edit whose outcome nobody knows is simply made again: one message, with the answer, and no doubt."""
    async with world() as here:
        answered_before_the_crash(here)
        here.telegram.sent.append((OWNER, "so far"))
        here.telegram.fail("editMessageText", Response(hang_up=True))
        async with here.active_worker(epoch=2):
            await until(lambda: here.rows("SELECT status FROM outbox") == [("sent",)])
            assert here.telegram.texts() == ["the answer"]
        here.telegram.calls.clear()
        store = open_store(here.database)
        store.lease.take(3)
        store.database.execute("UPDATE outbox SET status = 'pending', parts_sent = 0")
        store.close()
        async with here.active_worker(epoch=4):  # Telegram says that nothing is modified, and that is fine
            await until(lambda: here.rows("SELECT status FROM outbox") == [("sent",)])
            assert len(here.telegram.called("editMessageText")) == 1
            assert here.telegram.texts() == ["the answer"]


@asynchronous
async def test_a_preview_that_is_gone_is_no_obstacle() -> None:
    """When the message cannot be edited, the answer is sent as a new one."""
    async with world() as here:
        answered_before_the_crash(here)
        here.telegram.fail("editMessageText", telegram_error(400, "Bad Request: message to edit not found"))
        async with here.active_worker(epoch=2):
            await until(lambda: here.telegram.texts() == ["the answer"])


def answered_before_the_crash(here: World) -> None:
    """Leave an answer that no one has sent, to a message whose run is shown in the bot's first message."""
    store = open_store(here.database)
    store.lease.take(1)
    update = Incoming(1, UpdateKind.MESSAGE, OWNER, OWNER, True, "hello", None)
    store.inbox.add("test", update, kind="message", text="hello", status=InboxStatus.QUEUED)
    task = store.inbox.claim(OWNER)
    assert task is not None
    store.inbox.previewed(task, 1)
    store.inbox.done(task)
    store.outbox.add(OWNER, "the answer", kind=ReplyKind.ANSWER, inbox_id=task.id)
    store.close()


@asynchronous
async def test_an_answer_in_doubt_is_sent_again_on_request() -> None:
    """What may be missing is kept, and comes when its reader says that it is; then it cannot be asked for again."""
    async with world() as here:
        # The notice itself is not certain at first either: better twice than not at all.
        here.telegram.fail("sendMessage", Response(hang_up=True), Response(hang_up=True))
        async with here.active_worker():
            await here.telegram.say("hello")
            await until(lambda: here.telegram.texts() == [uncertain_notice(1)])
            await here.telegram.say("/again_1")
            await until(lambda: here.telegram.texts()[1:] == ["dummy-ok"])
            await here.telegram.say("/again 1")
            await until(lambda: len(here.telegram.texts()) == 3)
            assert "no answer of that number" in here.telegram.texts()[2]


@asynchronous
async def test_no_secret_leaves_in_a_reply() -> None:
    """A model that knows a secret cannot say it, not even across two parts."""
    padding = "x" * (4096 - 20)
    async with world() as here, here.active_worker(autonous_dummy_provider_script=f"msg:{padding}{TOKEN}"):
        await here.telegram.say("tell me")
        await until(lambda: here.events("reply.sent"))
        said = "".join(here.telegram.texts())
        assert said == f"{padding}[redacted]"


@asynchronous
async def test_what_is_out_is_not_sent_again_because_it_could_not_be_recorded() -> None:
    """The database takes nothing for a while after the send: neither an answer nor a part of one comes twice."""
    long, script = "word " * 1000, f"msg:{'word ' * 1000}end,ok"
    async with world(owners=(OWNER, 43)) as here, here.active_worker(autonous_dummy_provider_script=script):
        full = "SELECT RAISE(ABORT, 'database or disk is full')"
        here.execute(f"CREATE TRIGGER full BEFORE UPDATE ON outbox BEGIN {full}; END")
        await here.telegram.say("tell me a lot")
        await until(lambda: here.telegram.sent)
        await here.telegram.say("and me", user=43)
        await until(lambda: len(here.telegram.sent) == 2)
        await until(lambda: here.supervisor.beats[-1].internal_errors >= 3)  # one of them has failed twice by now
        here.execute("DROP TRIGGER full")
        await until(lambda: here.rows("SELECT DISTINCT status FROM outbox") == [("sent",)])
        assert "".join(here.telegram.texts()) == f"{long}end"
        assert here.telegram.texts(43) == ["dummy-ok"]
        assert len(here.events("reply.sent")) == 2


@asynchronous
async def test_a_send_that_a_drain_cuts_has_a_moment_to_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """What Telegram takes in that moment is recorded, no further part is begun, and the next worker sends the rest."""
    text = "word " * 1000
    async with world() as here:
        monkeypatch.setattr(courier, "GRACE_SECONDS", 3.0)  # no machine is too busy for this test
        here.telegram.slow["sendMessage"] = 0.3
        async with here.active_worker(autonous_dummy_provider_script=f"msg:{text}end"):
            await here.telegram.say("tell me a lot")
            await until(lambda: here.telegram.sent)
            await here.supervisor.order(Role.DRAIN, deadline=0)
            await here.supervisor.reaches(WorkerState.RELEASED)
            assert len(here.telegram.sent) == 1
            assert here.rows("SELECT status, parts_sent, error FROM outbox") == [("pending", 1, "")]
        async with here.active_worker(epoch=2):
            await until(lambda: here.rows("SELECT status FROM outbox") == [("sent",)])
            assert "".join(here.telegram.texts()) == f"{text}end"


@asynchronous
async def test_a_send_that_outlives_the_drain_is_in_doubt() -> None:
    """Telegram may have taken it: the next worker says so, and does not send it again."""
    async with world() as here:
        here.telegram.slow["sendMessage"] = 60
        async with here.active_worker():
            await here.telegram.say("hello")
            await until(lambda: here.telegram.sent)
            begun = time.monotonic()
            await here.supervisor.order(Role.DRAIN, deadline=0)
            await here.supervisor.reaches(WorkerState.RELEASED)
            assert time.monotonic() - begun < 3
            assert here.rows("SELECT status FROM outbox ORDER BY id") == [("ambiguous",), ("pending",)]
        here.telegram.slow.clear()
        async with here.active_worker(epoch=2):
            await until(lambda: here.telegram.texts() == ["dummy-ok", uncertain_notice(1)])
