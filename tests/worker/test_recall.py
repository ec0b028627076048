"""Messages of earlier times: found by words in any language, shown to the model, never in the way of a reply."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.worker.fakes import completion
from tests.worker.support import World, asynchronous, open_store, until, world
from tests.worker.test_turns import openai, said
from worker.context.recalled import BUDGET_TOKENS, HEADING, Hit, fused, within_budget
from worker.context.tokens import total_tokens
from worker.models.base import Message, Speaker
from worker.store import Store
from worker.store.recall import Found, Remembered
from worker.store.terms import indexed, terms


def store_with(path: Path, *texts: str) -> Store:
    store = open_store(path / "agent.db")
    store.lease.take(1)
    store.history.add(1, *[Message(Speaker.USER, text) for text in texts])
    while store.words.catch_up(100):
        pass
    return store


@pytest.mark.parametrize(
    ("text", "question"),
    [
        ("The deployments of Tuesday failed", "which deployment failed?"),
        ("Der Schlüssel liegt unter der Matte", "wo ist der schlussel"),
        ("我们的服务器在东京", "东京的机器"),
        ("会議は京都で行います", "京都"),
        ("รหัสประตูคือสี่เจ็ด", "รหัสประตู"),
        ("서울에서 만나요", "서울"),
        ("Пароль хранится в сейфе", "где пароль"),
        ('a "quoted" AND odd: NEAR( text*', 'NEAR( "quoted" OR -odd*'),
    ],
)
def test_a_message_is_found_in_any_language(tmp_path: Path, text: str, question: str) -> None:
    """By any form of a word, with and without accents, where no spaces are set, and whatever signs it has."""
    store = store_with(tmp_path, "nothing of that kind", text, "and nothing here")
    assert [found.history_id for found in store.words.find(1, question, limit=3)][:1] == [2]
    assert store.words.find(2, question, limit=3) == []
    assert store.words.find(1, question, limit=3, after=2) == []


def test_words_without_spaces_are_pairs() -> None:
    """Every two neighbouring signs are a word, so that words of two signs are found."""
    assert indexed("a東京都b").split() == ["a", "東京", "京都", "b"]
    assert terms("Tokyo, 東 TOKYO?") == ["tokyo", "東"]


def test_common_words_tell_nothing(tmp_path: Path) -> None:
    """What stands in every fifth message or more is not looked for; the rare word decides."""
    store = store_with(tmp_path, *(f"the weather of day {number}" for number in range(60)), "the anchor")
    assert store.words.find(1, "the weather", limit=3) == []
    assert [found.history_id for found in store.words.find(1, "the weather and the anchor", limit=3)] == [61]


def test_what_an_older_revision_left_out_is_indexed(tmp_path: Path) -> None:
    """Nothing but the number of a message says that it is not indexed; notices are not."""
    store = store_with(tmp_path, "one")
    store.history.add(1, Message(Speaker.USER, "two"))
    store.history.add_notice(1, "Stopped.")
    assert (store.words.catch_up(10), store.words.catch_up(10)) == (1, 0)


def test_a_lock_that_passes_is_no_lack_of_an_index(tmp_path: Path) -> None:
    """While another worker holds the database nothing is found; afterwards everything is."""
    store = open_store(tmp_path / "agent.db")
    store.lease.take(1)
    store.history.add(1, Message(Speaker.USER, "the anchor"))
    store.database.execute("PRAGMA busy_timeout = 0")
    with closing(sqlite3.connect(store.database.path)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert store.words.catch_up(10) == 0
        assert store.words.find(1, "anchor", limit=1) == []
        other.rollback()
    assert store.words.catch_up(10) == 1
    assert [found.history_id for found in store.words.find(1, "anchor", limit=1)] == [1]


def test_rankings_are_fused_by_their_ranks() -> None:
    """What both ways find comes before what one of them finds, whatever their scores mean."""
    ranked = fused({"words": [Found(1, 99.0), Found(2, 98.0)], "meaning": [Found(3, 0.9), Found(2, 0.8)]})
    assert [(history_id, by) for history_id, _, by in ranked] == [
        (2, ("words", "meaning")),
        (3, ("meaning",)),
        (1, ("words",)),
    ]


def test_what_is_recalled_has_a_budget() -> None:
    """The best are shown until it is used up."""
    hits = [Hit(Remembered(number, "user", "long " * 2000, 0.0), 1.0, ("words",)) for number in range(20)]
    kept = within_budget(hits)
    assert kept == hits[: len(kept)]
    assert 1 < len(kept) < len(hits)
    assert total_tokens([Message(Speaker.USER, hit.line) for hit in kept]) <= BUDGET_TOKENS


def all_indexed(here: World, messages: int) -> bool:
    counts = here.rows("SELECT (SELECT COUNT(*) FROM history), (SELECT COUNT(*) FROM recall_words)")
    return counts == [(messages, messages)]


@asynchronous
async def test_the_model_is_shown_what_belongs_to_the_message() -> None:
    """Outside of the recent messages, with its number in the event; a fresh start hides it."""
    async with world() as here, openai(here, completion("noted")) as (fake, model):
        async with here.active_worker(**model, tg_history_window=2):
            for number, text in enumerate(("the anchor weighs 4711 kg", "hello", "how heavy is the anchor?"), start=1):
                await here.telegram.say(text)
                await until(lambda number=number: len(here.events("reply.sent")) == number)  # type: ignore[misc]
                await until(
                    lambda: here.rows("SELECT COUNT(*) FROM recall_words") == here.rows("SELECT COUNT(*) FROM history")
                )
            recalled = [text for role, text in said(fake, 2) if text.startswith(HEADING)]
            assert "4711" in recalled[0]
            shown = here.events("context.assembled")[2]["recalled"]
            assert [(hit["id"], hit["by"]) for hit in shown] == [(1, ["words"])]
            await here.telegram.say("/new")
            await here.telegram.say("and the anchor?")
            await until(lambda: len(fake.requests) == 4)
        assert not [text for role, text in said(fake, 3) if "4711" in text]
