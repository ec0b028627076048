"""What only the supervisor answers reaches it as it was meant, and no model sees it."""

from pathlib import Path

import pytest

from supervisor.contract import Command, Press, Role, WorkerState
from tests.worker.fakes import OWNER
from tests.worker.support import asynchronous, open_store, until, world
from worker.agent.granting import GRANTING
from worker.agent.intake import FORWARDED_TEXT
from worker.agent.relaying import ALONE_TEXT, AWAY_TEXT, RELAYED, STAGE
from worker.store.presses import WAITING_SECONDS


@pytest.mark.parametrize("name", sorted(RELAYED.keys() - {STAGE, *GRANTING}))
@asynchronous
async def test_a_direct_command_is_the_supervisors_to_answer(name: str) -> None:
    """Its answer goes to the chat; no run is begun."""
    async with world() as here, here.active_worker():
        await here.telegram.say(f"/{name} 1a2b3c4d")
        await until(lambda: here.telegram.texts() == ["about 1a2b3c4d"])
        assert here.supervisor.commands == [Command(name=name, argument="1a2b3c4d", user_id=OWNER, chat_id=OWNER)]
        assert here.events("agent.started") == []


@pytest.mark.parametrize(
    ("text", "argument"),
    [
        ("rollback 1a2b3c4d", "1a2b3c4d"),
        ("Rollback 1a2b", "1a2b"),
        ("/rollback_1a2b3c4d", "1a2b3c4d"),
        ("rollback 123e4567-e89b-42d3-a456-426614174000", "123e4567-e89b-42d3-a456-426614174000"),
        ("rollback the last change", None),
        ("please rollback 1a2b3c4d", None),
        ("approve 1a2b3c4d", None),
    ],
)
@asynchronous
async def test_a_rollback_needs_no_slash(text: str, argument: str | None) -> None:
    """The word and a tx_id; anything else is for the model."""
    async with world() as here, here.active_worker():
        await here.telegram.say(text)
        await until(here.telegram.texts)
        assert [command.argument for command in here.supervisor.commands] == ([argument] if argument else [])


@asynchronous
async def test_only_an_owners_own_words_command() -> None:
    """Forwarded, edited, from a group or from a stranger: nothing is relayed."""
    async with world() as here, here.active_worker():
        origin = {"type": "hidden_user", "date": 1, "sender_user_name": "Eve"}
        await here.telegram.say("/rollback 1a2b3c4d", forward_origin=origin)
        await here.telegram.say("rollback 1a2b3c4d", forward_origin=origin)
        await here.telegram.say("/rollback 1a2b3c4d", user=666)
        await here.telegram.say("/rollback 1a2b3c4d", chat=-5, kind="group")
        message = {"message_id": 1, "date": 1, "chat": {"id": OWNER, "type": "private"}, "text": "/rollback 1a2b"}
        sender = {"id": OWNER, "is_bot": False, "first_name": "X"}
        await here.telegram.deliver({"update_id": 1900, "edited_message": {**message, "from": sender, "edit_date": 2}})
        await here.telegram.say("/help")
        await until(lambda: len(here.telegram.texts()) == 3)
        assert FORWARDED_TEXT in here.telegram.texts()
        assert here.supervisor.commands == []


@asynchronous
async def test_commands_overtake_the_queue() -> None:
    """While a run is under way they are answered at once."""
    async with world() as here, here.active_worker(autonous_dummy_provider_script="sleep:60000"):
        await here.telegram.say("think")
        await until(lambda: here.events("agent.started"))
        await here.telegram.say("/history")
        await until(lambda: "about " in here.telegram.texts())


@asynchronous
async def test_a_command_that_was_not_relayed_is_left_to_the_next_worker() -> None:
    """Its worker let go first: the one after it passes it on, once."""
    async with world() as here:
        async with here.active_worker():
            pass
        here.execute(
            "INSERT INTO relays (chat_id, user_id, name, argument, created_at) VALUES (?, ?, 'show', '1a2b', 1)",
            OWNER,
            OWNER,
        )
        async with here.active_worker(epoch=2):
            await until(lambda: here.telegram.texts() == ["about 1a2b"])
            await here.supervisor.order(Role.STANDBY)
            await here.supervisor.reaches(WorkerState.STANDBY)
            await here.supervisor.order(Role.ACTIVE, epoch=3)
            await here.telegram.say("/revision")
            await until(lambda: len(here.telegram.texts()) == 2)
        assert [command.name for command in here.supervisor.commands] == ["show", "revision"]


@asynchronous
async def test_a_press_of_the_supervisors_button_is_relayed() -> None:
    """With all that its nonce is bound to; who pressed sees the supervisor's words."""
    async with world() as here, here.active_worker():
        await here.telegram.press("s:nonce", 7)
        await until(lambda: here.telegram.called("answerCallbackQuery"))
        (answer,) = here.telegram.called("answerCallbackQuery")
        (press,) = here.supervisor.presses
        assert (answer["text"], answer["show_alert"]) == ("Approved.", "true")
        assert press == Press(
            data="s:nonce", user_id=OWNER, chat_id=OWNER, message_id=7, callback_id=answer["callback_query_id"]
        )


@asynchronous
async def test_a_press_that_was_not_relayed_is_left_to_the_next_worker() -> None:
    """Its worker ended while the supervisor had not answered: the one after it relays it, once, and answers it."""
    async with world() as here:
        here.supervisor.slow["/v1/press"] = 60
        async with here.active_worker():
            await here.telegram.press("s:nonce", 7)
            await here.telegram.press("w:nobody knows it any more", 7)
            await until(lambda: here.supervisor.presses)
        here.supervisor.slow.clear()
        for epoch in (2, 3):
            async with here.active_worker(epoch=epoch):
                await until(lambda: here.supervisor.beats[-1].polls_ok)
                await until(lambda: len(here.telegram.called("answerCallbackQuery")) == 2)
        assert [press.data for press in here.supervisor.presses] == ["s:nonce"] * 2
        assert here.telegram.called("answerCallbackQuery")[1]["text"] == "Approved."
        assert here.rows("SELECT COUNT(*) FROM presses WHERE answered_at IS NULL") == [(0,)]


@asynchronous
async def test_a_press_is_stored_with_its_update_or_not_at_all() -> None:
    """A press that cannot be kept is not acknowledged to Telegram either: it comes again."""
    async with world() as here:
        open_store(here.database).close()
        here.execute("CREATE TRIGGER full BEFORE INSERT ON presses BEGIN SELECT RAISE(ABORT, 'full'); END")
        async with here.active_worker():
            await here.telegram.press("s:nonce", 7)
            await until(lambda: len(here.telegram.polls) > 3)
            assert here.rows("SELECT COUNT(*) FROM inbox") == [(0,)]
            assert here.supervisor.presses == []
            here.execute("DROP TRIGGER full")
            await until(lambda: [press.data for press in here.supervisor.presses] == ["s:nonce"])


def test_no_press_waits_for_ever(tmp_path: Path) -> None:
    """After ten minutes it is no answer to anything any more."""
    now = 1_700_000_000.0
    store = open_store(tmp_path / "agent.db", clock=lambda: now)
    store.lease.take(1)
    press = Press(data="s:nonce", user_id=OWNER, chat_id=OWNER, message_id=7, callback_id="1")
    row_id = store.presses.add(press)
    assert store.presses.waiting() == [(row_id, press)]
    now += WAITING_SECONDS
    assert store.presses.waiting() == []
    store.close()


@asynchronous
async def test_a_supervisor_that_does_not_answer_is_told() -> None:
    """Here it is an older one that does not know the routes. The buttons stay: they may be pressed again."""
    async with world() as here, here.active_worker():
        here.supervisor.unknown = {"/v1/press", "/v1/command"}
        await here.telegram.press("s:nonce", 7)
        await here.telegram.say("/rollback 1a2b")
        await until(lambda: here.telegram.called("answerCallbackQuery") and here.telegram.texts())
        assert here.telegram.called("answerCallbackQuery")[0]["text"] == AWAY_TEXT
        assert here.telegram.texts() == [AWAY_TEXT]
        assert here.telegram.called("editMessageReplyMarkup") == []


@pytest.mark.parametrize("text", ["/grant /srv/x ro 1", "/grants", "/revoke 3"])
@asynchronous
async def test_a_grant_while_the_supervisor_is_away(text: str) -> None:
    """The same words as for any other command, not what the connection said."""
    async with world() as here, here.active_worker():
        here.supervisor.unknown = {"/v1/grants", "/v1/grants/3/revoke"}
        await here.telegram.say(text)
        await until(here.telegram.texts)
        assert here.telegram.texts() == [AWAY_TEXT]


@asynchronous
async def test_alone_there_is_nobody_to_ask() -> None:
    """A worker without a supervisor says so."""
    async with (
        world() as here,
        here.worker(autonous_supervisor_socket=None, autonous_telegram_allowed_users=frozenset({OWNER})),
    ):
        await here.telegram.say("/history")
        await until(lambda: here.telegram.texts() == [ALONE_TEXT])
