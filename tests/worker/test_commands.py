"""Commands: answered at once, whatever waits."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.worker.fakes import OWNER
from tests.worker.support import World, asynchronous, open_store, until, world
from worker.agent.commands import HELP_TEXT, MENU, NEW_TEXT, NOTHING_TO_STOP_TEXT, START_TEXT, DirectCommands
from worker.agent.dead_letters import AUTOMATIC_REPLAYS, DeadLetters
from worker.agent.notices import SPOILT, STOPPED
from worker.agent.recalling import Recalling
from worker.agent.relaying import Relaying
from worker.commander.base import Incoming, UpdateKind
from worker.context import Recaller
from worker.models.base import Message, Speaker
from worker.store import InboxStatus, Store
from worker.vitals import Vitals


class Nothing:
    def stop(self, chat_id: int, *, up_to: int) -> bool:
        return False


def dead_letters(store: Store, cooldown: float | None = None) -> DeadLetters:
    return DeadLetters(store=store, process_event=1, cooldown_seconds=cooldown, queued=lambda _: None)


def direct_commands(store: Store) -> DirectCommands:
    """Of a worker that runs alone."""
    return DirectCommands(
        store=store,
        status=lambda chat_id: f"fine in {chat_id}",
        runs=Nothing(),
        dead_letters=dead_letters(store),
        relaying=Relaying(supervisor=None, own={}, store=store, vitals=Vitals(), answered=lambda _: None),
        recalling=Recalling(
            memory=Recaller(store.words, store.history), store=store, vitals=Vitals(), answered=lambda _: None
        ),
    )


@pytest.fixture
def store(tmp_path: Any) -> Any:
    store = open_store(tmp_path / "agent.db")
    store.lease.take(1)
    yield store
    store.close()


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("/help", HELP_TEXT),
        ("/HELP@some_bot me", HELP_TEXT),
        ("/start", START_TEXT),
        ("/status", "fine in 1"),
        ("/replay 7", "There is no such message that was given up. /dead lists them."),
        ("/replay_7", "There is no such message that was given up. /dead lists them."),
        ("/again", "There is no answer of that number that may be missing."),
        ("/dead", "No message of yours was given up."),
        ("/unknown", None),
        ("/unknown_7", None),
        ("help", None),
        ("say /help", None),
        ("/", None),
    ],
)
def test_what_is_a_command(store: Store, text: str, answer: str | None) -> None:
    """Only a known command at the start is answered without the model."""
    commands = direct_commands(store)
    found = commands.find(text)
    assert (found is None) == (answer is None)
    if found is not None:
        command, argument = found
        assert command(1, argument).text == answer


@pytest.mark.parametrize("command", ["/replay {}", "/replay_{}", "/again {}", "/again_{}", "/forget #{}", "/forget_{}"])
@pytest.mark.parametrize("number", ["9223372036854775807", "9223372036854775808", "99999999999999999999", "9" * 4300])
def test_no_number_is_too_large(store: Store, command: str, number: str) -> None:
    """What no row can have as its number is told to be none, like any other."""
    found = direct_commands(store).find(command.format(number))
    assert found is not None
    assert found[0](1, found[1]).text.startswith("There is no ")


@asynchronous
async def test_a_command_that_breaks_down_takes_nothing_with_it() -> None:
    """Its row keeps the error, its author gets an apology; the rest of its batch is served, and nothing comes twice."""
    async with world() as here, here.active_worker():
        await until(lambda: here.supervisor.beats[-1].polls_ok)
        here.execute("ALTER TABLE chats RENAME COLUMN anew_after TO gone")
        async with here.telegram.at_once():
            await here.telegram.say("/status")
            await here.telegram.say("/new")
            await here.telegram.say("/help")
        await until(lambda: len(here.telegram.texts()) == 3)
        status, apology, help_text = here.telegram.texts()
        assert ("revision" in status, apology, help_text) == (True, SPOILT, HELP_TEXT)
        errors = [error for (error,) in here.rows("SELECT error FROM inbox ORDER BY id")]
        assert (errors[0], "gone" in errors[1] or "anew_after" in errors[1], errors[2]) == ("", True, "")
        assert here.rows("SELECT COUNT(*) FROM inbox WHERE status = 'done'") == [(3,)]
        await until(lambda: here.supervisor.beats[-1].internal_errors == 1)


def test_the_menu_names_what_there_is(store: Store) -> None:
    """Every entry of the menu is a command, and the help names it."""
    commands = direct_commands(store)
    for name in MENU:
        assert commands.find(f"/{name}") is not None
        assert f"/{name} " in HELP_TEXT


@asynchronous
async def test_stop_ends_the_run_within_a_second() -> None:
    """The run in hand is over, its author is told, and the next message is served."""
    async with world() as here, here.active_worker(autonous_dummy_provider_script="sleep:60000,ok"):
        await here.telegram.say("long")
        await until(lambda: here.events("turn.started"))
        await here.telegram.say("next")
        await until(lambda: len(here.rows("SELECT 1 FROM inbox")) == 2)
        begun = time.monotonic()
        await here.telegram.say("/stop")
        await until(lambda: len(here.telegram.texts()) == 2)
        assert time.monotonic() - begun < 1
        stopped, answer = here.telegram.texts()
        assert "topped" in stopped
        assert answer == "dummy-ok"
        assert here.rows("SELECT text, status FROM inbox ORDER BY id") == [
            ("long", "done"),
            ("next", "done"),
            ("/stop", "done"),
        ]


@asynchronous
async def test_there_may_be_nothing_to_stop() -> None:
    """Without a run in hand /stop says so."""
    async with world() as here, here.active_worker():
        await here.telegram.say("/stop")
        await until(lambda: here.telegram.texts() == [NOTHING_TO_STOP_TEXT])


@asynchronous
async def test_stop_also_ends_a_wait_for_the_next_attempt() -> None:
    """A message that failed and waits for its retry counts as in hand."""
    worker: dict[str, Any] = {
        "autonous_dummy_provider_script": "err:provider_api,ok",
        "autonous_control_retry_base_seconds": 60,
    }
    async with world() as here, here.active_worker(**worker):
        await here.telegram.say("broken")
        await until(lambda: here.events("retry.scheduled"))
        await here.telegram.say("/stop")
        await until(here.telegram.texts)
        await here.telegram.say("fine")
        await until(lambda: here.telegram.texts()[-1] == "dummy-ok")
        assert here.rows("SELECT text, status FROM inbox WHERE text = 'broken'") == [("broken", "done")]


@asynchronous
async def test_stop_also_ends_what_has_not_begun() -> None:
    """A message that waits for a slot, and one of the same batch; not one that comes after it."""
    worker: dict[str, Any] = {"autonous_dummy_provider_script": "sleep:60000,ok", "autonous_max_concurrent_chats": 1}
    async with world(owners=(OWNER, 43)) as here, here.active_worker(**worker):
        await here.telegram.say("takes the only slot", user=43)
        await until(lambda: here.events("turn.started"))
        await here.telegram.say("waits")
        await until(lambda: len(here.rows("SELECT 1 FROM inbox")) == 2)
        await here.telegram.say("/stop")
        await until(lambda: here.telegram.texts() == [STOPPED])
        async with here.telegram.at_once():
            await here.telegram.say("of one batch")
            await here.telegram.say("/stop")
            await here.telegram.say("after it")
        await until(lambda: here.telegram.texts() == [STOPPED, STOPPED])
        await here.telegram.say("/stop", user=43)
        await until(lambda: here.telegram.texts() == [STOPPED, STOPPED, "dummy-ok"])
        assert here.rows("SELECT text FROM history WHERE role = 'user' ORDER BY id")[-1] == ("after it",)


@asynchronous
async def test_new_begins_a_fresh_conversation() -> None:
    """After /new the model is shown nothing of what was said before; the history keeps it."""
    async with world() as here, here.active_worker():
        await here.telegram.say("remember 42")
        await until(lambda: here.telegram.texts() == ["dummy-ok"])
        await here.telegram.say("/new")
        await until(lambda: here.telegram.texts()[1:] == [NEW_TEXT])
        await here.telegram.say("what was it?")
        await until(lambda: len(here.telegram.texts()) == 3)
        assert [event["original_count"] for event in here.events("context.assembled")] == [0, 0]
        assert here.rows("SELECT COUNT(*) FROM history WHERE role = 'user'") == [(2,)]


@asynchronous
async def test_a_run_that_new_overtakes_belongs_to_what_was_before() -> None:
    """It goes on and its answer comes; the new conversation begins after it, in order."""
    async with world() as here, here.active_worker(autonous_dummy_provider_script="sleep:400,msg:two,msg:three"):
        await here.telegram.say("long")
        await until(lambda: here.events("turn.started"))
        await here.telegram.say("/new")
        await until(lambda: here.telegram.texts() == [NEW_TEXT])
        await here.telegram.say("fresh")
        await until(lambda: here.telegram.texts()[1:] == ["dummy-after-sleep", "two"])
        await here.telegram.say("and now?")
        await until(lambda: here.telegram.texts()[3:] == ["three"])
        assert [event["original_count"] for event in here.events("context.assembled")] == [0, 0, 2]


@asynchronous
async def test_a_dead_letter_is_listed_and_replayed() -> None:
    """/dead names it, one tap on /replay_<id> serves it again with all its attempts, and then it is dead no more."""
    worker: dict[str, Any] = {
        "autonous_dummy_provider_script": "err:validation,err:validation,ok",
        "autonous_control_max_retries": 1,
    }
    async with world() as here, here.active_worker(**worker):
        await here.telegram.say("poison")
        await until(lambda: here.events("retry.exhausted"))
        await here.telegram.say("/dead")
        await until(lambda: len(here.telegram.texts()) == 2)
        assert "/replay_1 - " in here.telegram.texts()[1]
        assert "poison" in here.telegram.texts()[1]
        await here.telegram.say("/status")
        await until(lambda: "given up: 1" in here.telegram.texts()[-1])
        await here.telegram.say("/replay_1")
        await until(lambda: here.telegram.texts()[-1] == "dummy-ok")
        assert here.rows("SELECT status, attempts, replays FROM inbox WHERE id = 1") == [("done", 1, 1)]
        assert [event["reason"] for event in here.events("retry.scheduled") if "reason" in event] == ["replay"]
        await here.telegram.say("/replay_1")
        await until(lambda: "no such message" in here.telegram.texts()[-1])


@asynchronous
async def test_dead_letters_come_back_by_themselves_when_configured() -> None:
    """After the cool-down a dead message is tried again, without anybody asking."""
    worker: dict[str, Any] = {
        "autonous_dummy_provider_script": "err:validation,ok",
        "autonous_control_max_retries": 0,
        "autonous_control_dead_replay_seconds": 0.2,
    }
    async with world() as here, here.active_worker(**worker):
        await here.telegram.say("poison")
        await until(lambda: here.events("retry.exhausted"))
        await until(lambda: here.telegram.texts()[-1:] == ["dummy-ok"])
        assert here.events("retry.scheduled")[-1]["reason"] == "cooled_down"


def dead(store: Store, update_id: int) -> int:
    update = Incoming(update_id, UpdateKind.MESSAGE, OWNER, OWNER, True, "x", None)
    store.inbox.add("test", update, kind="message", text="x", status=InboxStatus.QUEUED)
    task = store.inbox.claim(OWNER)
    assert task is not None
    store.inbox.dead(task, "broken")
    return task.id


def test_dead_letters_come_back_a_few_times_only(tmp_path: Any) -> None:
    """Not before the cool-down, not in another chat's name, and not for ever."""
    now = 1_700_000_000.0
    clock: Callable[[], float] = lambda: now  # noqa: E731
    store = open_store(tmp_path / "agent.db", clock=clock)
    store.lease.take(1)
    row_id = dead(store, 1)
    assert not store.inbox.replay(OWNER + 1, row_id)
    assert store.inbox.replay_dead(dead_for_seconds=60, at_most=AUTOMATIC_REPLAYS) == []
    for _ in range(AUTOMATIC_REPLAYS):
        now += 60
        assert store.inbox.replay_dead(dead_for_seconds=60, at_most=AUTOMATIC_REPLAYS) == [(OWNER, row_id)]
        task = store.inbox.claim(OWNER)
        assert task is not None
        assert task.attempts == 1
        store.inbox.dead(task, "broken")
    now += 60
    assert store.inbox.replay_dead(dead_for_seconds=60, at_most=AUTOMATIC_REPLAYS) == []
    assert store.inbox.replay(OWNER, row_id)
    store.close()


@asynchronous
async def test_commands_overtake_the_queue() -> None:
    """A command is answered while a message of the same chat is still being worked on."""
    async with world() as here, here.active_worker(autonous_dummy_provider_script="sleep:60000"):
        await busy(here)
        await here.telegram.say("/status")
        await until(here.telegram.texts)
        status = here.telegram.texts()[0]
        assert "model: dummy dummy" in status
        assert "in hand: one message" in status
        assert "in line: 1" in status


async def busy(here: World) -> None:
    await here.telegram.say("long")
    await until(lambda: here.events("turn.started"))
    await here.telegram.say("waits")


def test_what_was_said_is_found_and_can_be_forgotten(tmp_path: Path) -> None:
    """A chat sees its own messages by their words, and what it forgets is not found again, in no way."""
    store = open_store(tmp_path / "agent.db")
    store.lease.take(1)
    for chat_id, text in ((1, "the green gate code is 4711"), (2, "another green gate"), (1, "something else")):
        store.history.add(chat_id, Message(Speaker.USER, text))
    assert store.words.catch_up(10) == 3
    commands = direct_commands(store)

    def ask(text: str) -> str:
        found = commands.find(text)
        assert found is not None
        return found[0](1, found[1]).text

    shown = ask("/recall green gates")
    assert "4711" in shown
    assert "another" not in shown
    assert "/forget_1" in shown
    assert "no message of that number" in ask("/forget_2")
    assert "no message of that number" in ask("/forget x")
    assert "#1" in ask("/forget_1")
    assert "Nothing" in ask("/recall green gates")
    assert store.words.catch_up(10) == 0
    assert len(store.history.recent(1, 10)) == 2
    assert "WORDS" in ask("/recall")
