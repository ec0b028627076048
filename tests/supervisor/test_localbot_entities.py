"""Telegram's HTML, parsed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.localbot.entities import Entity, parse_html, utf16_length


@pytest.mark.parametrize(
    ("source", "text", "entities"),
    [
        ("plain &amp; &quot;quoted&quot; &nbsp;", 'plain & "quoted" &nbsp;', []),
        ("&#65;&#x42;", "AB", []),
        ("<b></b>x", "x", []),
        ("<STRONG>x</strong>", "x", [{"type": "bold", "offset": 0, "length": 1}]),
        (
            '<a href="https://example.org/?a=1&amp;b=2">here</a>',
            "here",
            [{"type": "text_link", "offset": 0, "length": 4, "url": "https://example.org/?a=1&b=2"}],
        ),
        ('<a href="javascript:x">here</a>', "here", []),
        (
            '<pre><code class="language-python">x = 1</code></pre>',
            "x = 1",
            [{"type": "pre", "offset": 0, "length": 5, "language": "python"}],
        ),
        (
            "<blockquote expandable>a<i>b</i></blockquote>",
            "ab",
            [
                {"type": "expandable_blockquote", "offset": 0, "length": 2},
                {"type": "italic", "offset": 1, "length": 1},
            ],
        ),
        ('<span class="tg-spoiler">x</span>', "x", [{"type": "spoiler", "offset": 0, "length": 1}]),
    ],
)
def test_html(source: str, text: str, entities: list[Entity]) -> None:
    """Tags, references and attributes are read as Telegram reads them."""
    assert parse_html(source) == (text, entities)


@given(before=st.text("a\u00e9\U0001f600 "), inside=st.text("a\u00e9\U0001f600 ", min_size=1))
def test_offsets_are_utf16_units(before: str, inside: str) -> None:
    """An entity covers its words for whoever counts in UTF-16."""
    text, (entity,) = parse_html(f"{before}<b>{inside}</b>")
    units = text.encode("utf-16-le")
    covered = units[entity["offset"] * 2 : (entity["offset"] + entity["length"]) * 2]
    assert covered.decode("utf-16-le") == inside
    assert utf16_length(text) * 2 == len(units)
