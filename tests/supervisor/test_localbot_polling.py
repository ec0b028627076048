"""Polling the local bot with python-telegram-bot: long polls, offsets, conflicts, aborted polls, restarts."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator

import pytest
from telegram import Bot, Update
from telegram.error import Conflict, InvalidToken, NetworkError, RetryAfter
from telegram.ext import ApplicationBuilder, CommandHandler, ContextTypes

from supervisor.localbot.faults import FaultKind
from tests.supervisor.localbot_support import TOKEN, Running, local_bot, short_directory, wait_until

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def running() -> Iterator[Running]:
    with short_directory() as directory, local_bot(directory) as running:
        yield running


@pytest.fixture
async def bot(running: Running) -> AsyncIterator[Bot]:
    async with running.bot() as bot:
        yield bot


async def test_bot_knows_itself(bot: Bot) -> None:
    """getMe gives the id that the token begins with."""
    me = await bot.get_me()
    assert (me.id, me.is_bot) == (int(TOKEN.split(":")[0]), True)


async def test_wrong_token_is_refused(running: Running) -> None:
    """A wrong token is 401, which the library calls InvalidToken."""
    with pytest.raises(InvalidToken, match="rejected by the server"):
        await running.bot("4711:other").initialize()
    assert running.user.calls()[-1].status == 401


async def test_update_carries_the_text_and_its_command(bot: Bot, running: Running) -> None:
    """A user's text arrives with its chat, its sender and the command marked as Telegram marks it."""
    sent = running.user.send("/start code", chat_id=7, user_id=7, first_name="Ada")
    (update,) = await bot.get_updates()
    assert update.update_id == sent.update_id
    assert update.message is not None
    assert update.message.text == "/start code"
    assert update.message.from_user is not None
    assert (update.message.chat.id, update.message.chat.type, update.message.from_user.full_name) == (
        7,
        "private",
        "Ada",
    )
    assert [(e.type, e.offset, e.length) for e in update.message.entities] == [("bot_command", 0, 6)]


async def test_update_stays_until_its_offset_is_confirmed(bot: Bot, running: Running) -> None:
    """The same update comes again until a poll asks for the ones behind it; ids rise by one."""
    first = running.user.send("one").update_id
    second = running.user.send("two").update_id
    assert first is not None
    assert second == first + 1
    for _ in range(2):
        assert [u.update_id for u in await bot.get_updates()] == [first, second]
    assert [u.update_id for u in await bot.get_updates(offset=second)] == [second]
    assert [u.update_id for u in await bot.get_updates()] == [second]
    assert await bot.get_updates(offset=second + 1) == ()
    assert running.user.send("three").update_id == second + 1


async def test_limit_and_negative_offset(bot: Bot, running: Running) -> None:
    """A limit takes the oldest; a negative offset takes the newest and forgets the others."""
    ids = [running.user.send(str(n)).update_id for n in range(4)]
    assert [u.update_id for u in await bot.get_updates(limit=2)] == ids[:2]
    assert [u.update_id for u in await bot.get_updates(offset=-1)] == ids[3:]
    assert [u.update_id for u in await bot.get_updates()] == ids[3:]


async def test_allowed_updates_hold_for_later_updates(bot: Bot, running: Running) -> None:
    """A kind that is not allowed is not queued, and the setting stays until another one is sent."""
    await bot.get_updates(allowed_updates=["callback_query"])
    assert running.user.send("unwanted").update_id is None
    await bot.get_updates()
    assert running.user.send("still unwanted").update_id is None
    await bot.get_updates(allowed_updates=[])
    assert running.user.send("wanted").update_id is not None


async def test_long_poll_wakes_at_once(bot: Bot, running: Running) -> None:
    """A waiting poll has the update within 50 ms of its arrival (best of five, for a loaded machine)."""
    waits, offset = [], 0
    for n in range(5):
        poll = asyncio.create_task(bot.get_updates(offset=offset, timeout=10))
        await asyncio.to_thread(running.await_poll)
        started = time.perf_counter()
        await asyncio.to_thread(running.user.send, str(n))
        (update,) = await poll
        waits.append(time.perf_counter() - started)
        offset = update.update_id + 1
    assert min(waits) < 0.05


async def test_long_poll_ends_empty_after_its_timeout(bot: Bot) -> None:
    """Without news a poll lasts as long as it asked for."""
    started = time.perf_counter()
    assert await bot.get_updates(timeout=1) == ()
    assert 0.9 < time.perf_counter() - started < 3


async def test_newer_poller_ends_the_older(running: Running) -> None:
    """Of two pollers the older gets the 409, and the newer gets the update."""
    async with running.bot() as older, running.bot() as newer:
        old = asyncio.create_task(older.get_updates(timeout=10))
        await asyncio.to_thread(running.await_poll)
        new = asyncio.create_task(newer.get_updates(timeout=10))
        with pytest.raises(Conflict, match="terminated by other getUpdates request"):
            await old
        await asyncio.to_thread(running.user.send, "hello")
        assert len(await new) == 1
    first, second = running.user.polls()
    assert (first.outcome, second.outcome) == ("conflict", "answered")
    assert first.mark != second.mark
    assert first.ended is not None
    assert second.started <= first.ended


async def test_aborted_poll_is_freed_and_loses_nothing(running: Running) -> None:
    """A poller that goes away is noticed at once; the next one meets no conflict and gets every update."""
    async with running.bot() as bot:
        poll = asyncio.create_task(bot.get_updates(timeout=30))
        await asyncio.to_thread(running.await_poll)
        poll.cancel()
        await asyncio.gather(poll, return_exceptions=True)
        await asyncio.to_thread(wait_until, lambda: running.user.polls()[0].ended is not None, 1)
        await asyncio.to_thread(running.user.send, "hello")
        assert len(await bot.get_updates(timeout=1)) == 1
    assert [poll.outcome for poll in running.user.polls()] == ["gone", "answered"]


async def test_queue_survives_a_restart() -> None:
    """Unconfirmed updates, message ids and the chat are there again after a restart on the same file."""
    with short_directory() as directory:
        with local_bot(directory, directory / "bot.db") as running:
            first = running.user.send("one")
            second = running.user.send("two")
            async with running.bot() as bot:
                await bot.get_updates(offset=second.update_id)
        with local_bot(directory, directory / "bot.db") as running:
            third = running.user.send("three")
            async with running.bot() as bot:
                updates = await bot.get_updates()
    assert [u.update_id for u in updates] == [second.update_id, third.update_id]
    assert (first.message_id, second.message_id, third.message_id) == (1, 2, 3)


async def test_delete_webhook_drops_only_when_asked(bot: Bot, running: Running) -> None:
    """deleteWebhook keeps the queue unless it is told to drop it; getWebhookInfo counts it."""
    running.user.send("one")
    await bot.delete_webhook()
    assert (await bot.get_webhook_info()).pending_update_count == 1
    await bot.delete_webhook(drop_pending_updates=True)
    assert await bot.get_updates() == ()


async def test_ordered_faults_strike_and_pass(bot: Bot, running: Running) -> None:
    """Each kind of fault strikes its method as often as ordered, and no more."""
    running.user.fault(FaultKind.RETRY_AFTER, "sendMessage", seconds=7)
    with pytest.raises(RetryAfter) as limited:
        await bot.send_message(1, "hello")
    assert limited.value.retry_after == 7
    running.user.fault(FaultKind.ERROR, "sendMessage", status=502)
    with pytest.raises(NetworkError, match="Internal Server Error"):
        await bot.send_message(1, "hello")
    running.user.fault(FaultKind.DROP, "sendMessage")
    with pytest.raises(NetworkError, match=r"httpx\."):
        await bot.send_message(1, "hello")
    assert running.user.messages() == []
    running.user.fault(FaultKind.DROP_AFTER, "sendMessage")
    with pytest.raises(NetworkError, match=r"httpx\."):
        await bot.send_message(1, "ambiguous")
    running.user.fault(FaultKind.DELAY, "sendMessage", seconds=0.2)
    started = time.perf_counter()
    await bot.send_message(1, "late")
    assert time.perf_counter() - started >= 0.2
    assert [message.text for message in running.user.messages()] == ["ambiguous", "late"]
    assert [call.status for call in running.user.calls() if call.method == "sendMessage"] == [429, 502, 0, 0, 200]


async def test_cleared_faults_strike_no_more(bot: Bot, running: Running) -> None:
    """Orders can be taken back."""
    running.user.fault(FaultKind.ERROR, count=100)
    running.user.clear_faults()
    await bot.send_message(1, "hello")


async def test_any_update_can_be_passed_on(bot: Bot, running: Running) -> None:
    """An update that users cannot make here by text or button arrives as it was written."""
    user = {"id": 5, "is_bot": False, "first_name": "Eve"}
    chat = {"id": -9, "type": "group", "title": "Others"}
    running.user.update(
        "edited_message", {"message_id": 3, "date": 1, "edit_date": 2, "chat": chat, "from": user, "text": "x"}
    )
    (update,) = await bot.get_updates()
    assert update.edited_message is not None
    assert (update.edited_message.chat.type, update.edited_message.text) == ("group", "x")


async def test_library_application_runs_on_it(running: Running) -> None:
    """The library's own polling loop starts, answers a command and stops."""

    async def start(update: Update, _: ContextTypes.DEFAULT_TYPE) -> None:
        assert update.message is not None
        await update.message.reply_text("welcome")

    application = ApplicationBuilder().bot(running.bot()).build()
    application.add_handler(CommandHandler("start", start))
    async with application:
        assert application.updater is not None
        await application.start()
        await application.updater.start_polling(timeout=10)
        await asyncio.to_thread(running.user.send, "/start")
        reply = await asyncio.to_thread(running.user.wait_for, lambda message: message.text == "welcome", 5)
        await application.updater.stop()
        await application.stop()
    assert reply.message_id == 2
