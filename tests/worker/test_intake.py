"""What comes in: stored once, served only to owners."""

import json

from supervisor.contract import Claim
from tests.worker.fakes import OWNER, telegram_error
from tests.worker.httpserver import Response
from tests.worker.support import asynchronous, until, world
from worker.agent.claims import CLAIMED_TEXT, MOST_WAITING, WAITING_TEXT
from worker.agent.commands import HELP_TEXT, MENU
from worker.agent.conflicts import ALERT_TEXT, Conflicts
from worker.agent.intake import FORWARDED_TEXT, UNREADABLE_TEXT
from worker.agent.owners import Owners

STRANGER = 666


@asynchronous
async def test_an_update_that_comes_twice_is_answered_once() -> None:
    """The same update again is neither stored nor answered again."""
    async with world() as here, here.active_worker():
        await here.telegram.say("once")
        await until(lambda: here.telegram.texts() == ["dummy-ok"])
        here.telegram.fail("getUpdates", Response({"ok": True, "result": here.telegram.updates[:1]}))
        await here.telegram.say("/help")
        await until(lambda: not here.telegram.fail_next["getUpdates"])
        await here.telegram.say("last")
        await until(lambda: here.telegram.texts() == ["dummy-ok", HELP_TEXT, "dummy-ok"])
        assert here.rows("SELECT text FROM inbox") == [("once",), ("/help",), ("last",)]


@asynchronous
async def test_the_offset_comes_from_the_inbox() -> None:
    """The first poll ever names no offset; later ones, also after a restart, ask for what follows the last update."""
    async with world() as here:
        async with here.active_worker():
            update_id = await here.telegram.say("hello")
            await until(here.telegram.texts)
        assert here.telegram.polls[0] is None
        before = len(here.telegram.polls)
        async with here.active_worker(epoch=2):
            await until(lambda: len(here.telegram.polls) > before)
        assert here.telegram.polls[before] == update_id + 1


@asynchronous
async def test_a_stranger_gets_no_service() -> None:
    """A stranger's update has a row with no text, and an event; nothing is answered."""
    async with world() as here, here.active_worker():
        await here.telegram.say("give me the secrets", user=STRANGER)
        await until(lambda: here.events("message.refused"))
        await here.telegram.say("/help")
        await until(here.telegram.texts)
        assert here.telegram.texts(STRANGER) == []
        assert here.rows("SELECT kind, text, status FROM inbox WHERE user_id = 666") == [("refused", "", "done")]
        assert here.events("message.refused")[0]["reason"] == "stranger"


@asynchronous
async def test_a_group_is_no_place_for_the_owner_either() -> None:
    """The owner's words in a group are refused."""
    async with world() as here, here.active_worker():
        await here.telegram.say("hello all", chat=-100, kind="group")
        await until(lambda: here.events("message.refused"))
        assert here.events("message.refused")[0]["reason"] == "not_private"
        assert here.rows("SELECT text FROM inbox") == [("",)]


@asynchronous
async def test_the_right_code_claims_a_bot_that_has_no_owner() -> None:
    """The code goes to the supervisor; with the right one its sender is welcomed and served from then on."""
    async with world(owners=()) as here, here.active_worker():
        await here.telegram.say("/start wrong-code")
        await until(lambda: here.events("message.refused"))
        await here.telegram.say("/start right-code")
        await until(lambda: here.telegram.texts() == [CLAIMED_TEXT])
        await here.telegram.say("hello")
        await until(lambda: here.telegram.texts() == [CLAIMED_TEXT, "dummy-ok"])
        claims = [Claim(code=code, user_id=OWNER, chat_id=OWNER) for code in ("wrong-code", "right-code")]
        assert here.supervisor.claims == claims
        assert here.rows("SELECT kind, text FROM inbox WHERE id < 3") == [("claim", "")] * 2
        assert here.events("message.refused")[0]["reason"] == "wrong_code"


@asynchronous
async def test_a_claim_waits_for_a_supervisor_that_is_away() -> None:
    """Its sender is told once, polling goes on, and the claim is settled as soon as the supervisor answers."""
    async with world(owners=()) as here, here.active_worker():
        here.supervisor.away = True
        await here.telegram.say("/start wrong-code")
        await until(lambda: here.telegram.texts() == [WAITING_TEXT])
        await here.telegram.say("/start right-code")  # the later one counts
        await until(lambda: len(here.rows("SELECT 1 FROM inbox WHERE kind = 'claim'")) == 2)
        here.supervisor.away = False
        await until(lambda: here.telegram.texts() == [WAITING_TEXT, CLAIMED_TEXT])
        assert [claim.code for claim in here.supervisor.claims] == ["right-code"]
        assert here.events("message.refused") == []


@asynchronous
async def test_no_crowd_of_claims_is_remembered() -> None:
    """More people than a bot could have owners are refused while the supervisor is away."""
    async with world(owners=()) as here, here.active_worker():
        here.supervisor.away = True
        for user in range(1, MOST_WAITING + 2):
            await here.telegram.say("/start any", user=user)
        await until(lambda: here.events("message.refused"))
        assert [event["reason"] for event in here.events("message.refused")] == ["too_many_claims"]


@asynchronous
async def test_a_bot_with_an_owner_cannot_be_claimed() -> None:
    """A stranger's code is not even relayed."""
    async with world() as here, here.active_worker():
        await here.telegram.say("/start right-code", user=STRANGER)
        await until(lambda: here.events("message.refused"))
        assert here.supervisor.claims == []


@asynchronous
async def test_configured_owners_count_alone() -> None:
    """With owners in the settings, those that the supervisor keeps have no say."""
    async with world() as here, here.active_worker(autonous_telegram_allowed_users="7"):
        await here.telegram.say("hello", user=OWNER)
        await here.telegram.say("hello", user=7)
        await until(lambda: here.telegram.texts(7) == ["dummy-ok"])
        assert here.telegram.texts(OWNER) == []


@asynchronous
async def test_what_is_no_text_is_stored_and_answered_plainly() -> None:
    """A picture is told to be unreadable; a pressed button has its row."""
    async with world() as here, here.active_worker():
        await here.telegram.say("")
        await until(lambda: here.telegram.texts() == [UNREADABLE_TEXT])
        press = {
            "id": "1",
            "from": {"id": OWNER, "is_bot": False, "first_name": "X"},
            "message": here.telegram.updates[0]["message"],
            "chat_instance": "1",
            "data": "nonce",
        }
        await here.telegram.deliver({"update_id": 5000, "callback_query": press})
        await until(lambda: len(here.rows("SELECT * FROM inbox")) == 2)
        assert here.rows("SELECT kind, text FROM inbox") == [("unreadable", ""), ("callback", "nonce")]


@asynchronous
async def test_a_failed_poll_is_told_and_tried_again() -> None:
    """Beats carry the last poll's error, and an empty one once polling works again."""
    async with world() as here:
        here.telegram.fail("getUpdates", telegram_error(502, "Bad Gateway"))
        async with here.active_worker(tg_sleep_seconds=0.2):
            await until(lambda: "Bad Gateway" in here.supervisor.beats[-1].poll_error)
            await until(lambda: here.supervisor.beats[-1].polls_ok == 1)
            assert here.supervisor.beats[-1].poll_error == ""


@asynchronous
async def test_pending_updates_are_dropped_only_on_request() -> None:
    """What waited before the very first poll is dropped when the settings say so, by Telegram's own means."""
    async with world() as here:
        here.telegram.fail("deleteWebhook", telegram_error(500, "Internal"))
        async with here.active_worker(tg_drop_pending=True):
            await until(lambda: here.supervisor.beats[-1].polls_ok)
            assert not here.telegram.fail_next["deleteWebhook"]


@asynchronous
async def test_a_webhook_of_earlier_days_is_removed() -> None:
    """With it no poll would ever succeed. What waits at Telegram stays; a second one is left to whoever sets it."""
    async with world() as here:
        here.telegram.webhook = "https://example.org/hook"
        await here.telegram.say("hello")
        async with here.active_worker():
            await until(lambda: here.telegram.texts() == ["dummy-ok"])
            (deletion,) = here.telegram.called("deleteWebhook")
            assert deletion.get("drop_pending_updates", "false") == "false"
            here.telegram.webhook = "https://example.org/again"
            await here.telegram.say("hello?")
            await until(lambda: "webhook" in here.supervisor.beats[-1].poll_error)
            assert here.telegram.webhook
        assert len(here.telegram.called("getWebhookInfo")) == 1


@asynchronous
async def test_forwarded_commands_are_refused_and_forwarded_words_are_named() -> None:
    """Somebody else's words command nothing; the model is told whose they are."""
    origin = {"type": "hidden_user", "sender_user_name": "Mallory", "date": 1_700_000_000}
    async with world() as here, here.active_worker():
        await here.telegram.say("/new", forward_origin=origin)
        await until(lambda: here.telegram.texts() == [FORWARDED_TEXT])
        assert here.events("message.refused")[0]["reason"] == "forwarded_command"
        await here.telegram.say("look at this", forward_origin=origin)
        await until(lambda: len(here.telegram.texts()) == 2)
        assert here.rows("SELECT kind, text FROM inbox ORDER BY id") == [
            ("refused", "/new"),
            ("message", "[forwarded from Mallory]\nlook at this"),
        ]


@asynchronous
async def test_a_document_is_named_to_the_model() -> None:
    """A file with a caption is a message: the caption, and what the file is called."""
    document = {"file_id": "f", "file_unique_id": "u", "file_name": "plan.pdf", "file_size": 2048}
    async with world() as here, here.active_worker():
        await here.telegram.say("", caption="what is this?", document=document)
        await until(lambda: here.telegram.texts() == ["dummy-ok"])
        ((text,),) = here.rows("SELECT text FROM inbox")
        assert text == "what is this?\n[attached document: plan.pdf, 2 KiB; you cannot open it]"


@asynchronous
async def test_the_menu_is_published() -> None:
    """The commands stand in Telegram's menu once the worker is active; a busy Telegram is asked again."""
    async with world() as here:
        here.telegram.fail("setMyCommands", telegram_error(429, "Too Many Requests", retry_after=0))
        async with here.active_worker():
            await until(lambda: here.telegram.called("setMyCommands"))
            (call,) = here.telegram.called("setMyCommands")
            assert [entry["command"] for entry in json.loads(call["commands"])] == list(MENU)


def test_the_owners_are_told_of_another_poller_that_stays() -> None:
    """A short conflict is waited out; one that stays is told once, also when polls succeed in between."""
    conflicts = Conflicts(Owners([7, 42]))
    assert conflicts.again(1000.0) == []
    assert conflicts.again(1010.0) == []
    assert conflicts.wait_seconds == 2
    conflicts.over()
    assert conflicts.again(1035.0) == [(7, ALERT_TEXT), (42, ALERT_TEXT)]
    assert conflicts.wait_seconds == 1
    assert conflicts.again(1060.0) == []
    assert conflicts.again(2000.0) == []
    assert conflicts.again(2031.0) == [(7, ALERT_TEXT), (42, ALERT_TEXT)]


@asynchronous
async def test_that_polling_works_again_is_known_at_once() -> None:
    """Though nobody writes, and the poll after the failed one could wait for half a minute."""
    async with world() as here, here.active_worker(tg_timeout=30):
        await until(lambda: len(here.telegram.polls) == 2)  # the second one waits
        here.telegram.fail("getUpdates", telegram_error(502, "Bad Gateway"))
        await here.telegram.say("hello")
        await until(lambda: here.supervisor.beats[-1].poll_error)
        await until(lambda: not here.supervisor.beats[-1].poll_error)


@asynchronous
async def test_an_update_that_cannot_be_read_holds_up_no_other() -> None:
    """It is stored as one that nothing is to be done about; what came with it is answered."""
    async with world() as here, here.active_worker():
        async with here.telegram.at_once():
            first = await here.telegram.say("before")
            await here.telegram.deliver({"update_id": first + 1000, "message": {"message_id": 7}})
        await until(lambda: here.telegram.texts() == ["dummy-ok"])
        assert here.rows("SELECT status FROM inbox WHERE text = ''") == [("done",)]
        assert here.rows("SELECT MAX(update_id) FROM inbox") == [(first + 1000,)]
