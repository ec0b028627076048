"""A model's Markdown as Telegram's HTML.

Only what models write every day is known: code, bold, italic, strike-through, links, headings. Nothing has to be
right in every corner: what Telegram does not take as HTML is sent again as it was written.
"""

import html
import re
from typing import Final

#: Indented as deep as it may be: blocks stand in lists, and in lists in those.
FENCE: Final = re.compile(r"^(?P<indent>[ \t]*)(?P<marks>`{3,}|~{3,})[ \t]*(?P<info>[^`\n]*)$")

#: So much deeper than its first line the last one of a block does not stand.
DEEPER: Final = 4
_CODE: Final = re.compile(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)")
_LINK: Final = re.compile(r"\[([^\[\]\n]+)\]\((https?://[^\s()]*(?:\([^\s()]*\)[^\s()]*)*)\)")
#: An address as it is; what may end a sentence or a style around it is no part of it.
_ADDRESS: Final = re.compile(r"https?://[^\s<>\0]*[^\s<>\0.,:;!?()\[\]*_~'\"]")
_STYLES: Final = (
    (re.compile(r"(?<![0-9*])\*\*(?=\S)(.+?)(?<=\S)\*\*(?![0-9*])"), "b"),
    # Not in paths, and no single name: `__init__` is Python's.
    (re.compile(r"(?<![\w/.\\])__(?=\S)(?![a-z0-9_]+__)(.+?)(?<=\S)__(?![\w/\\]|\.\w)"), "b"),
    (re.compile(r"(?<![*\w])\*(?=[^\s*])([^*\n]+?)(?<=[^\s*])\*(?![*\w])"), "i"),
    (re.compile(r"(?<![_\w/.\\])_(?=[^\s_])([^_\n]+?)(?<=[^\s_])_(?![_\w/\\]|\.\w)"), "i"),
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
    opening: re.Match[str] | None = None
    found = False
    for line in text.replace(_HOLD, "").split("\n"):
        fence = FENCE.match(line)
        if opening:
            if closes(fence, opening):
                lines.append(_block(code, opening["info"]))
                opening = None
            else:
                indent = len(opening["indent"])
                code.append(line[:indent].lstrip() + line[indent:])
        elif fence:
            found, opening, code = True, fence, []
        else:
            lines.append(_line(line))
            found = found or "<" in lines[-1]
    if opening:
        lines.append(_block(code, opening["info"]))
    return "\n".join(lines) if found else None


def closes(fence: re.Match[str] | None, opening: re.Match[str]) -> bool:
    """Whether a line ends the code block that ``opening`` began; one that stands much deeper is part of the code."""
    if fence is None or fence["info"] or not fence["marks"].startswith(opening["marks"]):
        return False
    return len(fence["indent"]) < len(opening["indent"]) + DEEPER


def _block(code: list[str], info: str) -> str:
    inner = html.escape("\n".join(code), quote=False)
    words = info.split()
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
    line = _ADDRESS.sub(lambda m: hold(html.escape(m[0], quote=False)), line)
    line = html.escape(line, quote=False)
    if heading := _HEADING.match(line):
        line = f"<b>{heading[1].replace('**', '')}</b>"
    else:
        for pattern, tag in _STYLES:
            line = pattern.sub(rf"<{tag}>\1</{tag}>", line)
    while _HELD.search(line):
        line = _HELD.sub(lambda m: held[int(m[1])], line)
    return line
