"""Pressed buttons: each reaches the one who made it, once, and is answered."""

import asyncio

from supervisor.contract import Press, Pressed
from tests.worker.fakes import OWNER, FakeTelegram
from tests.worker.support import asynchronous, open_store, short_directory, until, world
from worker.agent.presses import EXPIRED, FAILED, Presses
from worker.commander.base import Incoming, UpdateKind
from worker.commander.telegram import TelegramCommander
from worker.vitals import Vitals

TOKEN = "123456789:test-token-that-nobody-may-see"


def pressed(data: str) -> Incoming:
    return Incoming(1, UpdateKind.CALLBACK, OWNER, OWNER, True, data, None, message_id=7, callback_id="c1")


@asynchronous
async def test_a_press_goes_by_its_prefix_and_is_answered() -> None:
    """Only the handler of its prefix is told; a defect there is answered, too, and counted."""
    with short_directory() as directory:
        telegram = FakeTelegram(directory / "telegram.sock")
        await telegram.server.start()
        commander = TelegramCommander(
            token=TOKEN, base_url=None, socket=str(directory / "telegram.sock"), poll_timeout=0
        )
        vitals, told, store = Vitals(), [], open_store(directory / "agent.db")
        presses = Presses(commander=commander, store=store, vitals=vitals)

        async def note(press: Press) -> Pressed:
            told.append(press)
            return Pressed(text="Done.", alert=True)

        async def break_down(press: Press) -> Pressed:
            raise RuntimeError("a defect")

        presses.handle("a:", note)
        presses.handle("b:", break_down)
        for data in ("a:1", "b:1", "c:1"):
            presses.take(pressed(data))()
        await until(lambda: len(telegram.called("answerCallbackQuery")) == 3)
        assert [press.data for press in told] == ["a:1"]
        answers = {fields["text"]: fields.get("show_alert") for fields in telegram.called("answerCallbackQuery")}
        assert answers.keys() == {"Done.", FAILED.text, EXPIRED.text}
        assert answers["Done."] == "true"
        assert vitals.internal_errors == 1
        # Nobody knows the third one: its message loses its buttons.
        assert [fields["message_id"] for fields in telegram.called("editMessageReplyMarkup")] == ["7"]
        await presses.close()
        store.close()
        await commander.close()
        await telegram.server.stop()


@asynchronous
async def test_a_stranger_presses_nothing() -> None:
    """A press of somebody else is stored without its data, told in an event, and not answered."""
    async with world() as here, here.active_worker():
        await here.telegram.press("w:token", 1, user=666)
        await until(lambda: here.events("message.refused"))
        await here.telegram.press("w:token", 1)
        await until(lambda: here.telegram.called("answerCallbackQuery"))
        await asyncio.sleep(0.05)
        assert len(here.telegram.called("answerCallbackQuery")) == 1
        assert here.rows("SELECT kind, text FROM inbox") == [("refused", ""), ("callback", "w:token")]
