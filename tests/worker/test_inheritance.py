"""What the supervisor took in while no worker ran: taken over before the first poll, and answered once."""

import json

import pytest

from supervisor.contract import KeptUpdate
from tests.worker.fakes import OWNER
from tests.worker.support import World, asynchronous, until, world
from worker.agent import inheritance
from worker.agent.commands import HELP_TEXT

STRANGER = 666


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A supervisor that is away is asked again soon."""
    monkeypatch.setattr(inheritance, "ASK_AGAIN_SECONDS", 0.02)


def kept(number: int, text: str, *, user: int = OWNER, answered: bool = False) -> KeptUpdate:
    """A message as the Bot API writes it, in the supervisor's hands."""
    sender = {"id": user, "is_bot": False, "first_name": "X"}
    message = {"message_id": number, "date": 1_700_000_000, "chat": {"id": user, "type": "private"}, "from": sender}
    raw = json.dumps({"update_id": number, "message": {**message, "text": text}})
    return KeptUpdate(id=number - 500, raw=raw, answered=answered)


def inbox(here: World) -> list[tuple[object, ...]]:
    return here.rows("SELECT update_id, text, kind FROM inbox ORDER BY id")


@asynchronous
async def test_what_was_kept_is_answered_in_order_and_polling_goes_on_behind_it() -> None:
    """Stored before the first poll, whose offset lies behind it; told as taken once that is safe."""
    async with world() as here:
        here.supervisor.kept = [kept(501, "first"), kept(502, "/help"), kept(503, "second")]
        async with here.active_worker(autonous_dummy_provider_script="msg:one,msg:two,msg:three"):
            await until(lambda: sorted(here.telegram.texts()) == sorted([HELP_TEXT, "one", "two"]))
            assert [text for text in here.telegram.texts() if text != HELP_TEXT] == ["one", "two"]
            assert here.telegram.polls[0] == 504
            assert here.supervisor.taken == [1, 2, 3]
            await here.telegram.say("third")
            await until(lambda: here.telegram.texts()[-1] == "three")


@asynchronous
async def test_what_the_supervisor_answered_is_only_stored() -> None:
    """A command that was obeyed in the rescue is not obeyed again, and still moves the offset."""
    async with world() as here:
        here.supervisor.kept = [kept(501, "/help", answered=True)]
        async with here.active_worker():
            await until(lambda: here.telegram.polls)
            assert here.telegram.polls[0] == 502
            await here.telegram.say("now")
            await until(here.telegram.texts)
            assert here.telegram.texts() == ["dummy-ok"]
        assert inbox(here)[0] == (501, "/help", "command")


@asynchronous
async def test_a_stranger_among_what_was_kept_gets_no_service() -> None:
    """Who may use the bot is asked of everything that comes in, whoever polled it."""
    async with world() as here:
        here.supervisor.kept = [kept(501, "let me in", user=STRANGER)]
        async with here.active_worker():
            await until(lambda: here.supervisor.taken == [1])
        assert inbox(here) == [(501, "", "refused")]
        assert here.telegram.texts(STRANGER) == []


@asynchronous
async def test_it_is_answered_once_though_the_supervisor_tells_it_again(impatient: None) -> None:
    """The word of what was taken got lost: the same is stored and answered no second time, and told again."""
    async with world() as here:
        here.supervisor.kept = [kept(501, "once")]
        here.supervisor.fails.append("/v1/kept/taken")
        async with here.active_worker(tg_timeout=0):
            await until(lambda: here.supervisor.taken == [1])
            await here.telegram.say("last")
            await until(lambda: here.telegram.texts() == ["dummy-ok", "dummy-ok"])
        assert [text for _, text, _ in inbox(here)] == ["once", "last"]


@asynchronous
async def test_a_supervisor_that_is_away_is_asked_again_and_keeps_nobody_waiting(impatient: None) -> None:
    """Messages are answered meanwhile; what was kept is, too, as soon as the supervisor is back."""
    async with world() as here:
        here.supervisor.kept = [kept(501, "kept")]
        here.supervisor.fails.extend(["/v1/kept"] * 10_000)
        async with here.active_worker(tg_timeout=0):
            await here.telegram.say("polled")
            await until(lambda: here.telegram.texts() == ["dummy-ok"])
            assert here.supervisor.taken == []
            here.supervisor.fails.clear()
            await until(lambda: here.telegram.texts() == ["dummy-ok", "dummy-ok"])
        assert [text for _, text, _ in inbox(here)] == ["polled", "kept"]


@asynchronous
async def test_nobody_is_asked_when_the_grant_says_that_nothing_was_kept() -> None:
    """The question would be asked while nobody polls."""
    async with world() as here:
        here.supervisor.kept = [kept(501, "not there for this test")]
        async with here.active_worker(kept=False):
            await here.telegram.say("hello")
            await until(lambda: here.telegram.texts() == ["dummy-ok"])
        assert [text for _, text, _ in inbox(here)] == ["hello"]


@asynchronous
async def test_what_the_grant_speaks_of_is_asked_for() -> None:
    """As by a supervisor that says nothing of it."""
    async with world() as here:
        here.supervisor.kept = [kept(501, "kept")]
        async with here.active_worker(kept=True):
            await until(lambda: here.telegram.texts() == ["dummy-ok"])
        assert here.supervisor.taken == [1]


@asynchronous
async def test_a_supervisor_that_keeps_nothing_is_asked_once() -> None:
    """One of before that route was invented answers that there is no such thing."""
    async with world() as here:
        here.supervisor.unknown.add("/v1/kept")
        async with here.active_worker():
            await here.telegram.say("hello")
            await until(lambda: here.telegram.texts() == ["dummy-ok"])


@asynchronous
async def test_what_cannot_be_read_holds_nobody_up() -> None:
    """It is left out, and the rest is taken over."""
    async with world() as here:
        here.supervisor.kept = [
            KeptUpdate(id=1, raw='{"update_id": "x"}'),
            KeptUpdate(id=2, raw="{"),
            kept(503, "fine"),
        ]
        async with here.active_worker():
            await until(lambda: here.telegram.texts() == ["dummy-ok"])
            assert here.supervisor.taken == [1, 2, 3]
