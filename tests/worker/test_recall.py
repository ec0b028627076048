"""Messages of earlier times: found by words in any language, shown to the model, never in the way of a reply."""

import sqlite3
import unicodedata
from contextlib import closing
from pathlib import Path
from typing import Literal

import pytest

from tests.worker.fakes import completion
from tests.worker.support import World, asynchronous, open_store, until, world
from tests.worker.test_turns import openai, said
from worker.context.recalled import BUDGET_TOKENS, HEADING, Hit, fused, within_budget
from worker.context.tokens import total_tokens
from worker.models.base import Message, Speaker
from worker.store import Store
from worker.store.recall import BATCH_CHARS, Found, Remembered
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


@pytest.mark.parametrize(
    ("text", "other", "question"),
    [
        ("मैंने कल एक दिन की छुट्टी ली", "उसने मंदिर में दान दिया", "दिन"),  # Hindi: day, not gift
        ("हिन्दी में पढ़ना अच्छा लगता है", "हद से आगे न जाना", "हिन्दी कौन पढ़ता है"),
        ("চাবিটা টেবিলের নিচে আছে", "চাবুক দেখে ঘোড়া ভয় পায়", "চাবিটা কোথায়"),  # Bengali
        ("আজ দিন ভালো গেল", "সে দান করেছে", "দিন"),
        ("விசை மேசையின் கீழ் உள்ளது", "இசை கேட்கப் பிடிக்கும்", "விசை எங்கே"),  # Tamil: key, not music
        ("இந்த கல் கனமானது", "நாளை காலை வருவேன்", "கல்"),
        ("ปีหน้าเราจะย้ายบ้าน", "ปูตัวนี้ใหญ่มาก", "ปี"),  # Thai: year, not crab
        ("กุญแจอยู่ใต้พรม", "พรุ่งนี้ฝนจะตก", "กุญแจอยู่ไหน"),
        ("الْمِفْتَاحُ تَحْتَ السَّجَّادَةِ", "القهوة جاهزة الآن", "أين المفتاح"),  # Arabic, with its vowels and without
        ("المفتاح تحت السجادة", "القهوة جاهزة الآن", "الْمِفْتَاحُ"),
        ("הַמַּפְתֵּחַ מִתַּחַת לַשָּׁטִיחַ", "הקפה מוכן", "איפה המפתח"),  # Hebrew, with its points and without
        ("המפתח מתחת לשטיח", "הקפה מוכן", "הַמַּפְתֵּחַ"),
        ("鍵はマットの下にあります", "昼食はうどんでした", "鍵はどこですか"),
        ("データは東京のサーバーにある", "明日は雨が降る", "ﾃﾞｰﾀ"),  # half as wide
        ("Chìa khóa ở dưới tấm thảm", "Hôm nay trời mưa to", "chìa khoá ở đâu"),
        ("Chìa khóa ở dưới tấm thảm", "Hôm nay trời mưa to", "tham"),
        ("ёлка стоит в углу", "елей на столе", "елка"),  # Russian, Greek and Arabic with marks that are often left out
        ("καλημέρα σας", "καλή νύχτα", "καλημερα"),
        ("أين الكتاب", "من هناك", "اين"),
        ("noch 5½ Tage", "noch 51 Tage", "5"),
        ("das Café an der Ecke", "der Tee ist kalt", "cafe"),
        ("das Cafe an der Ecke", "der Tee ist kalt", "Café"),
        ("کلید را می‌خواهم", "هوا سرد است", "خواهم"),  # Persian parts words by a sign that is not seen
        ("ඒක ශ්‍රී ලංකාවේ තියෙනවා", "හෙට වහිනවා", "ශ්රී"),  # Sinhala joins letters by one
        ("উদ্‌যাপন হবে শনিবার", "আজ বৃষ্টি", "উদ্যাপন"),  # and Bengali parts them in one word
    ],
)
@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_words_are_whole_however_they_are_typed(
    tmp_path: Path, form: Literal["NFC", "NFD"], text: str, other: str, question: str
) -> None:
    """With all their vowel signs, and whether or not with points and accents; also when they come in parts."""
    store = store_with(tmp_path, other, unicodedata.normalize(form, text))
    for asked in (question, unicodedata.normalize("NFC", question), unicodedata.normalize("NFD", question)):
        assert [found.history_id for found in store.words.find(1, asked, limit=3)] == [2]


def test_signs_that_are_no_words() -> None:
    """What only chooses a drawing, or is not seen, is left out; what is no letter parts words."""
    text = "1\ufe0f\u20e3 \u2764\ufe0f soft\u00adware don't snake_case \u202babc\u202c"
    assert terms(text) == ["1", "software", "don", "t", "snake", "case", "abc"]
    assert indexed("\u0301 \ufe0f \u200d \u200b") == ""


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


#: How the revisions before took words, and kept them.
FORMER = (
    "CREATE VIRTUAL TABLE IF NOT EXISTS recall_words USING fts5"
    "(words, chat_id UNINDEXED, tokenize = 'porter unicode61 remove_diacritics 2')"
)
FORMER_CATCHES_UP = """INSERT INTO recall_words (rowid, words, chat_id) SELECT id, text, chat_id FROM history
    WHERE id > (SELECT COALESCE(MAX(rowid), 0) FROM recall_words)
    AND id NOT IN (SELECT history_id FROM recall_forgotten)"""


def in_former(store: Store) -> list[int]:
    return [row for (row,) in store.database.cursor("SELECT rowid FROM recall_words ORDER BY rowid").fetchall()]


def test_the_revision_before_goes_on_with_its_own_index(tmp_path: Path) -> None:
    """Each finds what came while the other was in service, and what either is told to forget is in neither."""
    with closing(store_with(tmp_path, "दिन one", "दिन two", "दिन three")) as store:
        store.database.execute(FORMER)
        store.database.execute(FORMER_CATCHES_UP)
        assert in_former(store) == [1, 2, 3]
        assert store.words.forget(1, 2)
        assert in_former(store) == [1, 3]
        store.history.add(1, Message(Speaker.USER, "दिन four"))
        store.database.execute(FORMER_CATCHES_UP)
        store.database.execute("DELETE FROM recall_words WHERE rowid = 3")
        store.database.execute("INSERT INTO recall_forgotten VALUES (3, 1, 0)")
        assert in_former(store) == [1, 4]
    with closing(open_store(tmp_path / "agent.db")) as store:
        store.lease.take(2)
        assert store.words.catch_up(10) == 1
        assert {found.history_id for found in store.words.find(1, "दिन", limit=9)} == {1, 4}


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


def test_long_messages_are_indexed_in_short_transactions(tmp_path: Path) -> None:
    """However many are asked for, and one at least."""
    store = store_with(tmp_path)
    store.history.add(1, *[Message(Speaker.USER, f"long{number} " * 700) for number in range(7)])
    store.history.add(1, Message(Speaker.USER, "詩" * BATCH_CHARS))
    assert [store.words.catch_up(100) for _ in range(5)] == [4, 3, 1, 0, 0]


def all_indexed(here: World, messages: int) -> bool:
    counts = here.rows("SELECT (SELECT COUNT(*) FROM history), (SELECT COUNT(*) FROM recall_whole_words)")
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
                    lambda number=number: all_indexed(here, 2 * number)  # type: ignore[misc]
                )
            recalled = [text for role, text in said(fake, 2) if text.startswith(HEADING)]
            assert "4711" in recalled[0]
            shown = here.events("context.assembled")[2]["recalled"]
            assert [(hit["id"], hit["by"]) for hit in shown] == [(1, ["words"])]
            await here.telegram.say("/new")
            await here.telegram.say("and the anchor?")
            await until(lambda: len(fake.requests) == 4)
        assert not [text for role, text in said(fake, 3) if "4711" in text]
