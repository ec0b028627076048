"""Texts on their way: splitting, Markdown as HTML, what a message holds besides words."""

import pytest
from telegram import Message

from tests.worker.fakes import rendered
from worker.commander.attachments import described, origin
from worker.commander.markup import to_html
from worker.commander.splitting import split, split_markdown, utf16_units


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("", []),
        ("short", ["short"]),
        ("0123456789", ["0123456789"]),
        ("01234567890", ["0123456789", "0"]),
        ("one two three", ["one two ", "three"]),
        ("one\ntwo three", ["one\n", "two three"]),
        ("😀😀😀😀😀😀", ["😀😀😀😀😀", "😀"]),
    ],
)
def test_splitting(text: str, pieces: list[str]) -> None:
    """Pieces end at a line, else at a word, else anywhere, and together are the text."""
    assert split(text, 10) == pieces


@pytest.mark.parametrize("splitting", [split, split_markdown])
def test_splitting_counts_utf16_units(splitting: object) -> None:
    """No piece is longer than the limit as Telegram counts, and nothing is lost."""
    text = "a😀 b\n" * 3000
    pieces = splitting(text, 4096)  # type: ignore[operator]
    assert "".join(pieces) == text
    assert max(map(utf16_units, pieces)) <= 4096


@pytest.mark.parametrize("inside", ["x = 1  # a line\n" * 1000, "y" * 9000, "line\n" * 10 + "z" * 9000])
def test_a_code_block_is_cut_into_code_blocks(inside: str) -> None:
    """Every piece is a code block of its own, of the same language, within the limit, and none is empty."""
    pieces = split_markdown(f"Look:\n```python\n{inside}\n```\nThat was it.", 4096)
    assert len(pieces) > 2
    shown = ""
    for piece in pieces:
        html = to_html(piece)
        assert html is not None
        assert html.count("<pre>") == html.count("</pre>") == 1
        assert 'class="language-python"' in html
        assert utf16_units(piece) <= 4096
        code = rendered(html.partition('python">')[2].partition("</code>")[0])
        assert code.strip()
        shown += code
    assert shown.replace("\n", "") == inside.replace("\n", "")


def test_a_code_block_in_a_list_is_cut_into_code_blocks() -> None:
    """However deep it stands: each piece opens and closes it, and the text after it is none of it."""
    text = "1. so:\n        ```py\n" + "        x = 1\n" * 900 + "        ```\nThat was **it**."
    pieces = split_markdown(text, 4096)
    assert len(pieces) > 2
    found = [to_html(piece) or "" for piece in pieces]
    assert all(html.count('<pre><code class="language-py">') == html.count("</code></pre>") == 1 for html in found)
    assert found[-1].endswith("\nThat was <b>it</b>.")


@pytest.mark.parametrize(
    ("markdown", "html"),
    [
        ("nothing special: 1 < 2 & 3 * 4 * 5, snake_case_name, 2**3**4 x", None),
        ("**bold** and *italic*, _too_, ~~gone~~", "<b>bold</b> and <i>italic</i>, <i>too</i>, <s>gone</s>"),
        ("__quite bold__ 1 < 2", "<b>quite bold</b> 1 &lt; 2"),
        (
            "`x` in worker/__init__.py, __init__ and pkg.__main__.x",
            "<code>x</code> in worker/__init__.py, __init__ and pkg.__main__.x",
        ),
        ("see src/_static_/a and *this*", "see src/_static_/a and <i>this</i>"),
        (
            "**https://docs.python.org/3/library/__future__.html** (https://x.y/_a_?b=1&c=*d*).",
            "<b>https://docs.python.org/3/library/__future__.html</b> (https://x.y/_a_?b=1&amp;c=*d*).",
        ),
        ("`a < b` and ``x`y``", "<code>a &lt; b</code> and <code>x`y</code>"),
        ("`**not bold**`", "<code>**not bold**</code>"),
        ("## Title **here** ##", "<b>Title here</b>"),
        ("[a **link**](https://x.y/?a=1&b=2)", '<a href="https://x.y/?a=1&amp;b=2">a <b>link</b></a>'),
        ("[no](javascript:alert(1))", None),
        ("```\na < b\n**x**\n```", "<pre>a &lt; b\n**x**</pre>"),
        ("~~~py\nx\n~~~", '<pre><code class="language-py">x</code></pre>'),
        ("```\nnever closed", "<pre>never closed</pre>"),
        (
            "1. so:\n      ```py\n      if x:\n          ```\n    y\n      ```\ndone",
            '1. so:\n<pre><code class="language-py">if x:\n    ```\ny</code></pre>\ndone',
        ),
    ],
)
def test_markdown_as_html(markdown: str, html: str | None) -> None:
    """What models write every day is formatted; all else stays as it is, escaped."""
    assert to_html(markdown) == html


def message(**fields: object) -> Message:
    found = Message.de_json(
        {"message_id": 1, "date": 1_700_000_000, "chat": {"id": 1, "type": "private"}, **fields}, None
    )
    assert found is not None
    return found


FILE = {"file_id": "f", "file_unique_id": "u"}


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"text": "hello"}, "hello"),
        (
            {"caption": "read", "document": {**FILE, "file_name": "a.pdf", "mime_type": "application/pdf"}},
            "read\n[attached document: a.pdf, application/pdf; you cannot open it]",
        ),
        (
            {"photo": [{**FILE, "width": 9, "height": 9}, {**FILE, "width": 90, "height": 60, "file_size": 5}]},
            "[attached photo, 90 x 60; you cannot see it]",
        ),
        ({"voice": {**FILE, "duration": 3, "file_size": 2048}}, "[attached voice: 2 KiB, 3 s; you cannot open it]"),
        ({"location": {"latitude": 1.5, "longitude": 2.5}}, "[location: latitude 1.5, longitude 2.5]"),
        ({"contact": {"first_name": "Ann", "phone_number": "1"}}, "[contact: Ann, 1]"),
        ({"new_chat_title": "x"}, ""),
    ],
)
def test_what_a_message_holds_is_named(fields: dict[str, object], text: str) -> None:
    """Captions are text, and files, pictures and places are named in words."""
    assert described(message(**fields)) == text


@pytest.mark.parametrize(
    ("where", "whose"),
    [
        ({"type": "user", "sender_user": {"id": 5, "is_bot": False, "first_name": "Bob"}}, "Bob"),
        ({"type": "hidden_user", "sender_user_name": "Somebody Shy"}, "Somebody Shy"),
        (
            {"type": "channel", "chat": {"id": -5, "type": "channel", "title": "News"}, "message_id": 1},
            "News",
        ),
    ],
)
def test_whose_words_are_forwarded(where: dict[str, object], whose: str) -> None:
    """A forwarded message tells who wrote it first, and any other one that it is nobody else's."""
    assert origin(message(text="x", forward_origin={"date": 1_700_000_000, **where})) == whose
    assert origin(message(text="x")) == ""
