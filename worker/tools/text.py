"""Files and output as text: what is in them, without what could play tricks on whoever reads it."""

import re
from dataclasses import dataclass
from typing import Final

BOM: Final = b"\xef\xbb\xbf"
#: A zero byte among the first of these tells that a file is no text.
LOOKED_AT: Final = 8192
#: Control characters are shown as their pictures, so that nothing that reads them obeys them.
_PICTURES: Final = {
    **{code: 0x2400 + code for code in range(0x20) if chr(code) not in "\t\n"},
    0x7F: 0x2421,
    **dict.fromkeys(range(0x80, 0xA0), 0xFFFD),
}
_PICTURES_IN_NAMES: Final = {**_PICTURES, 9: 0x2409, 10: 0x240A}
# CSI, OSC and the other strings, and what has one more character.
_ESCAPES: Final = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -/]*[0-~])")


def is_binary(data: bytes) -> bool:
    """Whether data, or the beginning of it, is no text."""
    return data.find(b"\0", 0, LOOKED_AT) >= 0


def shown(text: str) -> str:
    """A file's text as the model sees it; nothing is left out, and nothing has an effect."""
    return text if text.isprintable() else text.translate(_PICTURES)


def name(text: str) -> str:
    """A file's name on a line of its own; bytes that are no text become question marks."""
    if text.isprintable():
        return text
    return text.encode("utf-8", "replace").decode().translate(_PICTURES_IN_NAMES)


def output(data: bytes) -> str:
    """A command's output as it would be left on a screen: no colours, no codes, of a progress bar the last state."""
    text = data.decode("utf-8", "replace").replace("\r\n", "\n")
    if "\x1b" in text:
        text = _ESCAPES.sub("", text)
    if "\r" in text:
        text = "\n".join(map(_last_state, text.split("\n")))
    return text if text.isprintable() else text.translate(_PICTURES)


def _last_state(line: str) -> str:
    """What is left of a line when all that stands before a carriage return is written over, as progress bars do."""
    return line.rstrip("\r").rpartition("\r")[2]


@dataclass(frozen=True, slots=True)
class Conventions:
    """How a file writes its text: with a byte order mark, and with which end of line."""

    bom: bool = False
    line_end: str = "\n"

    @classmethod
    def of(cls, data: bytes) -> "Conventions":
        """Those of a file's content; where both ends of line occur, the more frequent one."""
        crlf = data.count(b"\r\n")
        return cls(data.startswith(BOM), "\r\n" if crlf and 2 * crlf > data.count(b"\n") else "\n")

    def encode(self, text: str) -> bytes:
        """New text in this way. A text that has ends of line of its own kind, or a mark, keeps them."""
        if self.line_end == "\r\n" and "\r\n" not in text:
            text = text.replace("\n", "\r\n")
        data = text.encode("utf-8", "surrogateescape")
        return BOM + data if self.bom and not data.startswith(BOM) else data

    def meta(self) -> dict[str, object]:
        """What the model should know of it."""
        told: dict[str, object] = {}
        if self.bom:
            told["bom"] = True
        if self.line_end != "\n":
            told["line_ends"] = "crlf"
        return told
