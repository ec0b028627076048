"""Telegram's HTML: the text without its tags, the entities in UTF-16 units, and the errors that Telegram gives."""

import html
import re
from dataclasses import dataclass
from typing import Any, Final

from supervisor.localbot.errors import BadRequest

_TAG: Final = re.compile(
    r"<(?P<end>/?)(?P<name>[A-Za-z][A-Za-z0-9-]*)"
    r"(?P<attributes>(?:\s+[\w-]+(?:\s*=\s*(?:\"[^\"]*\"|'[^']*'|[^\s>\"']+))?)*)\s*>"
)
_ATTRIBUTE: Final = re.compile(r"([\w-]+)(?:\s*=\s*(?:\"([^\"]*)\"|'([^']*)'|([^\s>\"']+)))?")
_REFERENCE: Final = re.compile(r"&(?:lt|gt|amp|quot|#\d{1,7}|#[xX][0-9a-fA-F]{1,6});")  # Telegram knows no others
_KINDS: Final = {
    "b": "bold",
    "strong": "bold",
    "i": "italic",
    "em": "italic",
    "u": "underline",
    "ins": "underline",
    "s": "strikethrough",
    "strike": "strikethrough",
    "del": "strikethrough",
    "span": "spoiler",
    "tg-spoiler": "spoiler",
    "tg-emoji": "custom_emoji",
    "a": "text_link",
    "code": "code",
    "pre": "pre",
    "blockquote": "blockquote",
}
_COMMAND: Final = re.compile(r"/[A-Za-z0-9_]{1,32}(?:@\w+)?(?!\S)")

Entity = dict[str, Any]


@dataclass(frozen=True)
class _Open:
    """A tag that waits for its end."""

    name: str
    attributes: dict[str, str]
    offset: int  # in the text, UTF-16 units


def utf16_length(text: str) -> int:
    """The length of a text as Telegram counts it."""
    return len(text) + sum(character > "\uffff" for character in text)


def commands(text: str) -> list[Entity]:
    """The entity of a command at the start of a user's text, as Telegram marks it."""
    found = _COMMAND.match(text)
    return [{"type": "bot_command", "offset": 0, "length": found.end()}] if found else []


def parse_html(source: str) -> tuple[str, list[Entity]]:
    """Text and entities of Telegram's HTML. ``BadRequest`` "can't parse entities: ..." when it is none."""
    text, length, position = "", 0, 0
    waiting: list[_Open] = []
    entities: list[Entity] = []
    while True:
        start = source.find("<", position)
        piece = _plain(source[position:] if start < 0 else source[position:start])
        text, length = text + piece, length + utf16_length(piece)
        if start < 0:
            break
        tag = _tag_at(source, start)
        if tag["end"]:
            opened = _matching(waiting, tag["name"].lower(), _bytes_before(source, start))
            entities += _entity(opened, text, length)
        else:
            waiting.append(_Open(tag["name"].lower(), _attributes(tag["attributes"]), length))
        position = tag.end()
    if waiting:
        raise BadRequest(f"can't parse entities: Can't find end tag corresponding to start tag \"{waiting[-1].name}\"")
    return text, _tidy(entities)


def _plain(piece: str) -> str:
    return _REFERENCE.sub(lambda reference: html.unescape(reference[0]), piece)


def _bytes_before(source: str, index: int) -> int:
    return len(source[:index].encode())


def _tag_at(source: str, start: int) -> re.Match[str]:
    tag = _TAG.match(source, start)
    if tag is None or tag["name"].lower() not in _KINDS:
        name = re.match(r"</?([^\s>]*)", source[start:])
        raise BadRequest(
            f'can\'t parse entities: Unsupported start tag "{name[1] if name else ""}" '
            f"at byte offset {_bytes_before(source, start)}"
        )
    return tag


def _matching(waiting: list[_Open], name: str, where: int) -> _Open:
    if not waiting:
        raise BadRequest(f"can't parse entities: Unexpected end tag at byte offset {where}")
    opened = waiting.pop()
    if opened.name != name:
        raise BadRequest(
            f"can't parse entities: Unmatched end tag at byte offset {where}, "
            f'expected "</{opened.name}>", found "</{name}>"'
        )
    return opened


def _attributes(source: str) -> dict[str, str]:
    return {name.lower(): _plain(double or single or bare) for name, double, single, bare in _ATTRIBUTE.findall(source)}


def _entity(opened: _Open, text: str, end: int) -> list[Entity]:
    if end == opened.offset:
        return []
    entity: Entity = {"type": _KINDS[opened.name], "offset": opened.offset, "length": end - opened.offset}
    match opened.name:
        case "a":
            inner = text.encode("utf-16-le")[opened.offset * 2 :].decode("utf-16-le")
            entity["url"] = opened.attributes.get("href") or inner
            if not re.match(r"https?://|tg://|mailto:", entity["url"]):
                return []
        case "span" if opened.attributes.get("class") != "tg-spoiler":
            raise BadRequest('can\'t parse entities: Tag "span" must have class "tg-spoiler"')
        case "tg-emoji":
            entity["custom_emoji_id"] = opened.attributes.get("emoji-id", "")
        case "blockquote" if "expandable" in opened.attributes:
            entity["type"] = "expandable_blockquote"
        case "code" if opened.attributes.get("class", "").startswith("language-"):
            entity["language"] = opened.attributes["class"].removeprefix("language-")
    return [entity]


def _tidy(entities: list[Entity]) -> list[Entity]:
    """Sorted; the language of a ``code`` goes to the ``pre`` that it fills, or is dropped."""
    blocks = {(e["offset"], e["length"]): e for e in entities if e["type"] == "pre"}
    kept = []
    for entity in entities:
        if entity["type"] == "code":
            language = entity.pop("language", "")
            block = blocks.get((entity["offset"], entity["length"]))
            if block is not None:
                block.update({"language": language} if language else {})
                continue
        kept.append(entity)
    return sorted(kept, key=lambda e: (e["offset"], -e["length"]))
