"""A model's Markdown as Telegram's HTML.

Only what models write every day is known: code, bold, italic, strike-through, links, headings. Nothing has to be
right in every corner: what Telegram does not take as HTML is sent again as it was written.
"""

import html
import re
from typing import Final

FENCE: Final = re.compile(r"^ {0,3}(?P<marks>`{3,}|~{3,})[ \t]*(?P<info>[^`\n]*)$")

_CODE: Final = re.compile(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)")
_LINK: Final = re.compile(r"\[([^\[\]\n]+)\]\((https?://[^\s()]*(?:\([^\s()]*\)[^\s()]*)*)\)")
_STYLES: Final = (
    (re.compile(r"(?<![0-9*])\*\*(?=\S)(.+?)(?<=\S)\*\*(?![0-9*])"), "b"),
    (re.compile(r"(?<!\w)__(?=\S)(.+?)(?<=\S)__(?!\w)"), "b"),
    (re.compile(r"(?<![*\w])\*(?=[^\s*])([^*\n]+?)(?<=[^\s*])\*(?![*\w])"), "i"),
    (re.compile(r"(?<![_\w])_(?=[^\s_])([^_\n]+?)(?<=[^\s_])_(?![_\w])"), "i"),
    (re.compile(r"~~(?=\S)(.+?)(?<=\S)~~"), "s"),
)
_HEADING: Final = re.compile(r"^ {0,3}#{1,6}[ \t]+(.+?)(?:[ \t]+#+)?[ \t]*$")
#: Stands for a piece of finished HTML while the rest is worked on; Telegram strips this character anyway.
_HOLD: Final = "\0"
_HELD: Final = re.compile(f"{_HOLD}(\\d+){_HOLD}")


def to_html(text: str) -> str | None:
    """The HTML, None when there is nothing in the text to be formatted. It shows no more characters than the text."""
    lines: list[str] = []
    code: list[str] = []
    language = closing = ""
    found = False
    for line in text.replace(_HOLD, "").split("\n"):
        fence = FENCE.match(line)
        if closing:
            if fence and fence["marks"].startswith(closing) and not fence["info"]:
                lines.append(_block(code, language))
                closing = ""
            else:
                code.append(line)
        elif fence:
            found, closing, language, code = True, fence["marks"], fence["info"].strip(), []
        else:
            lines.append(_line(line))
            found = found or "<" in lines[-1]
    if closing:
        lines.append(_block(code, language))
    return "\n".join(lines) if found else None


def _block(code: list[str], language: str) -> str:
    inner = html.escape("\n".join(code), quote=False)
    words = language.split()
    if not words:
        return f"<pre>{inner}</pre>"
    return f'<pre><code class="language-{html.escape(words[0])}">{inner}</code></pre>'


def _line(line: str) -> str:
    """One line outside of code blocks, escaped; every ``<`` in it is a tag's."""
    held: list[str] = []

    def hold(piece: str) -> str:
        held.append(piece)
        return f"{_HOLD}{len(held) - 1}{_HOLD}"

    line = _CODE.sub(lambda m: hold(f"<code>{html.escape(m[2], quote=False)}</code>"), line)
    line = _LINK.sub(
        lambda m: hold(f'<a href="{html.escape(m[2])}">') + m[1] + hold("</a>"),
        line,
    )
    line = html.escape(line, quote=False)
    if heading := _HEADING.match(line):
        line = f"<b>{heading[1].replace('**', '')}</b>"
    else:
        for pattern, tag in _STYLES:
            line = pattern.sub(rf"<{tag}>\1</{tag}>", line)
    while _HELD.search(line):
        line = _HELD.sub(lambda m: held[int(m[1])], line)
    return line
