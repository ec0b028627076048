"""What a chat sees while a run is under way, over the real client and a Bot API on a socket."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from supervisor.contract import Redactor
from tests.worker.fakes import OWNER, TOKEN, telegram_error
from tests.worker.httpserver import Response
from tests.worker.support import World, asynchronous, open_store, until, world
from worker.agent.preview import LONGEST_PREVIEW, Preview, Previews
from worker.agent.seen import Seen
from worker.commander.base import Incoming, UpdateKind
from worker.commander.telegram import TelegramCommander
from worker.store import InboxStatus, Store, Task


class Stage:
    """A world with a commander and a store, and no worker in it."""

    def __init__(self, here: World, store: Store, commander: TelegramCommander) -> None:
        self.telegram = here.telegram
        self.rows = here.rows
        self.store = store
        self.commander = commander

    def previews(self, **settings: Any) -> Previews:
        settings = {"delay": 0.0, "interval": 0.02, **settings}
        return Previews(commander=self.commander, store=self.store, redact=Redactor([TOKEN]), **settings)

    def queue(self, update_id: int = 1) -> None:
        update = Incoming(update_id, UpdateKind.MESSAGE, OWNER, OWNER, True, "do it", None)
        self.store.inbox.add("test", update, kind="message", text="do it", status=InboxStatus.QUEUED)

    def task(self) -> Task:
        self.queue()
        task = self.store.inbox.claim(OWNER)
        assert task is not None
        return task


@asynccontextmanager
async def stage() -> AsyncIterator[Stage]:
    async with world() as here:
        store = open_store(here.database)
        store.lease.take(1)
        commander = TelegramCommander(token=TOKEN, base_url=None, socket=str(here.telegram.server.path), poll_timeout=1)
        try:
            yield Stage(here, store, commander)
        finally:
            await commander.close()
            store.close()


@asynchronous
async def test_one_message_is_edited_and_becomes_the_answer() -> None:
    """The text grows in one message, whose place the answer takes; typing is shown again after each change."""
    async with stage() as here:
        task = here.task()
        async with here.previews().of(task) as observer:
            observer.text_delta("Let me ")
            await until(lambda: here.telegram.texts() == ["Let me"])
            observer.text_delta("see.")
            observer.tool_started("time", {"secret": "not shown"})
            await until(lambda: here.telegram.texts() == ["Let me see.\n\n⚙ time …"])
            observer.tool_finished("time", True)
            observer.text_delta("It is late. ")
            await until(lambda: here.telegram.texts() == ["Let me see.\n\nIt is late."])
        here.store.outbox.add(OWNER, "It is late.", inbox_id=task.id)
        reply = here.store.outbox.next(OWNER)
        assert reply is not None
        assert reply.replaces == 1
        assert len(here.telegram.called("sendMessage")) == 1
        assert len(here.telegram.called("sendChatAction")) >= 2
        here.store.outbox.add(OWNER, "and a notice", inbox_id=task.id)
        assert here.rows("SELECT replaces_message_id FROM outbox") == [(1,), (None,)]


@asynchronous
async def test_edits_keep_to_their_interval() -> None:
    """However fast the text grows, there are few edits, and the latest text counts."""
    async with stage() as here, here.previews(interval=0.1).of(here.task()) as observer:
        begun = time.monotonic()
        for number in range(100):
            observer.text_delta(f"{number} ")
            await asyncio.sleep(0.002)
        await until(lambda: here.telegram.texts()[0].endswith(" 99"))
        assert len(here.telegram.called("editMessageText")) <= (time.monotonic() - begun) / 0.1 + 2


@asynchronous
async def test_a_short_run_is_not_previewed() -> None:
    """What is over before the delay leaves no message."""
    async with stage() as here:
        async with here.previews(delay=30.0).of(here.task()) as observer:
            observer.text_delta("quick one ")
            await until(lambda: here.telegram.called("sendChatAction"))
        assert here.telegram.sent == []


@asynchronous
async def test_a_preview_obeys_telegram() -> None:
    """After a 429 the preview waits for the given time; refused for good it ends, and the run does not notice."""
    async with stage() as here:
        here.telegram.fail("sendMessage", telegram_error(429, "Too Many Requests", retry_after=0.2))
        here.telegram.fail("editMessageText", telegram_error(400, "Bad Request: message to edit not found"))
        async with here.previews().of(here.task()) as observer:
            observer.text_delta("one ")
            await until(lambda: here.telegram.called("sendMessage"))
            assert here.telegram.texts() == []
            await until(lambda: here.telegram.texts() == ["one"])
            observer.text_delta("two ")
            await until(lambda: here.telegram.called("editMessageText"))
            observer.text_delta("three ")
            await asyncio.sleep(0.1)
            assert len(here.telegram.called("editMessageText")) == 1


@asynchronous
async def test_a_preview_that_may_stand_already_is_not_repeated() -> None:
    """The connection broke while the first message went out: there is no second one."""
    async with stage() as here:
        here.telegram.fail("sendMessage", Response(hang_up=True))
        async with here.previews().of(here.task()) as observer:
            observer.text_delta("one ")
            await until(lambda: here.telegram.called("sendMessage"))
            observer.text_delta("two ")
            await asyncio.sleep(0.1)
            assert len(here.telegram.called("sendMessage")) == 1


@asynchronous
async def test_the_next_attempt_goes_on_with_the_same_message() -> None:
    """A run that was cut, in whichever worker it goes on, edits the message that is there."""
    async with stage() as here:
        task = here.task()
        async with here.previews().of(task) as observer:
            observer.text_delta("first try ")
            await until(here.telegram.texts)
        here.store.inbox.give_back(task)
        again = here.store.inbox.claim(OWNER)
        assert again is not None
        async with here.previews().of(again) as observer:
            observer.text_delta("second try ")
            await until(lambda: here.telegram.texts() == ["second try"])


def test_a_secret_is_not_shown_in_halves() -> None:
    """The last word is held back until it is whole, so that a secret is known when it is shown."""
    preview = Preview(Redactor([TOKEN]))
    for piece in ("the token: ", TOKEN[:20], TOKEN[20:]):
        preview.text_delta(piece)
        assert TOKEN[10:20] not in preview.text()
    preview.text_delta(" !")
    assert preview.text() == "the token: [redacted]"


def test_a_script_without_spaces_is_shown_as_it_grows() -> None:
    """Only what could be a part of a key waits for its end."""
    preview = Preview(Redactor([TOKEN]))
    preview.text_delta("我们的服务器在东京、密码是" + TOKEN[:20])
    assert preview.text() == "我们的服务器在东京、密码是"
    preview.text_delta(TOKEN[20:])
    preview.text_delta("。รหัสประตู")
    assert preview.text() == "我们的服务器在东京、密码是[redacted]。รหัสประตู"


def test_a_long_preview_shows_its_end() -> None:
    """One message has to hold it."""
    preview = Preview(Redactor())
    preview.text_delta("word " * 2000 + "end ")
    assert preview.text().endswith(" end")
    assert len(preview.text()) == LONGEST_PREVIEW + 2


@asynchronous
async def test_who_writes_during_a_run_sees_that_it_was_seen() -> None:
    """One sign for a run tells the latest place in line; with nothing in line there is none."""
    async with stage() as here:
        seen = Seen(commander=here.commander, store=here.store, delay=0.01, look=0.02)
        first = here.task()
        seen.queued(OWNER)
        await asyncio.sleep(0.1)
        assert here.telegram.texts() == []
        here.queue(2)
        seen.queued(OWNER)
        await until(here.telegram.texts)
        assert here.telegram.texts() == ["Seen: yours is next. /stop ends what I am doing now."]
        here.queue(3)
        seen.queued(OWNER)
        await until(lambda: "number 2 in line" in here.telegram.texts()[0])
        here.store.inbox.done(first)
        await asyncio.sleep(0.05)
        assert len(here.telegram.sent) == 1
        seen.drop()
