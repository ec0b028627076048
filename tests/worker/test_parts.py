"""The small pure parts: retry arithmetic, context, the dummy commander."""

import asyncio
from pathlib import Path

import pytest

from tests.worker.support import open_store
from worker import scripts
from worker.commander.base import Ambiguous, CommanderError, Unreachable
from worker.commander.dummy import DummyCommander
from worker.context import (
    InTurn,
    LastMessages,
    LongMessages,
    PlainAssembler,
    PromptUnreadable,
    RecentHistory,
    SystemPrompt,
)
from worker.control.retry import RetryPolicy
from worker.models.base import Message, Speaker


@pytest.mark.parametrize(("attempt", "wait"), [(1, 1), (2, 2), (3, 4), (6, 32), (7, 60), (5000, 60)])
def test_waits_double_up_to_the_maximum(attempt: int, wait: float) -> None:
    """wait = min(base * 2^(n-1), max)."""
    assert RetryPolicy(max_retries=3, base_seconds=1, max_seconds=60).wait_seconds(attempt) == wait


def test_n_retries_are_n_plus_one_attempts() -> None:
    """The last retry is the last attempt."""
    policy = RetryPolicy(max_retries=3, base_seconds=1, max_seconds=60)
    assert [policy.exhausted(attempts) for attempts in (1, 2, 3, 4)] == [False, False, False, True]


def test_context_is_the_last_messages_between_prompt_and_question(tmp_path: Path) -> None:
    """Provider and compressor keep the newest, in order; the assembler frames them; a window of 0 keeps none."""
    store = open_store(tmp_path / "agent.db")
    store.lease.take(1)
    past = [Message(Speaker.USER, str(number)) for number in range(5)]
    store.history.add(1, *past)
    store.history.add(2, Message(Speaker.USER, "another chat"))
    assert RecentHistory(store.history, 3).recent(1) == past[2:]
    assert RecentHistory(store.history, 0).recent(1) == []
    assert LastMessages(2).compress(past) == past[3:]
    assert LastMessages(0).compress(past) == []
    assert PlainAssembler().assemble("system", past[4:], "question") == [
        Message(Speaker.SYSTEM, "system"),
        past[4],
        Message(Speaker.USER, "question"),
    ]


def test_only_rules_that_changed_something_are_named() -> None:
    """In the order in which they were used."""
    past = [Message(Speaker.USER, "x" * length) for length in (900, 10, 1000)]
    for shown, limit, names in (
        (3, 2000, []),
        (3, 500, ["long_message"]),
        (2, 2000, ["max_messages"]),
        (1, 500, ["max_messages", "long_message"]),
    ):
        last, short = LastMessages(shown), LongMessages(limit)
        both = InTurn(last, short, max_messages=shown)
        assert both.compress(past) == (short.compress(last.compress(past)), names)


def test_where_the_system_prompt_comes_from(tmp_path: Path) -> None:
    """The file wins over the environment, the environment over the built-in text; an unreadable file is told."""
    assert SystemPrompt.load(tmp_path, None).origin == "built_in"
    assert SystemPrompt.load(tmp_path, "from outside") == SystemPrompt("from outside", "environment")
    (tmp_path / "AUTONOUS.md").write_text("from the file\n")
    assert SystemPrompt.load(tmp_path, "from outside") == SystemPrompt("from the file", "file")
    (tmp_path / "AUTONOUS.md").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(PromptUnreadable, match=r"AUTONOUS\.md"):
        SystemPrompt.load(tmp_path, None)


def test_the_dummy_commander_follows_its_scripts() -> None:
    """Polls give messages of the owner with rising update ids, or fail; sends follow a script of their own."""
    commander = DummyCommander(scripts.parse("msg:one,ok,err:boom,msg:two"), scripts.parse("ok,err:ambiguous,sleep:1"))

    async def play() -> None:
        (first,) = await commander.poll(7, at_once=True)
        assert (first.update_id, first.text, first.chat_id, first.private) == (7, "one", 1, True)
        assert first.user_id in commander.owners
        assert await commander.poll(8, at_once=False) == []
        with pytest.raises(Unreachable, match="boom"):
            await commander.poll(8, at_once=False)
        ids = [(await commander.poll(8, at_once=False))[0].update_id for _ in range(2)]
        assert ids == [8, 9]
        await commander.show_working(1)
        assert await commander.send(1, "x") == 1
        with pytest.raises(Ambiguous):
            await commander.send(1, "y")
        assert await commander.show(1, "takes no step of the script") == 2
        assert await commander.show(1, "takes none either", 2) == 2
        assert await commander.send(1, "z", replaces=2) == 2
        assert await commander.send(1, "z") == 3

    assert issubclass(Unreachable, CommanderError)
    asyncio.run(play())
