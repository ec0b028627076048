"""The words of a text, as the index of messages knows them. Pure functions.

Text and question go through the same function, so that both are the same whichever way they were typed: composed or
not, with or without accents, vowel points and invisible signs. Signs that a word cannot be read without, as the vowels
of Hindi, Tamil or Thai, stay in it, though Unicode counts them among the marks as it does accents.
"""

import re
import unicodedata
from typing import Final

#: Scripts that set no spaces between words. A trigram would miss their commonest words, which have two characters;
#: so every two neighbouring characters are a word of their own.
_UNSPACED: Final = re.compile(
    "["
    "\u0e00-\u0eff"  # Thai, Lao
    "\u1000-\u109f"  # Burmese
    "\u1780-\u17ff"  # Khmer
    "\u3040-\u30ff"  # Hiragana, Katakana
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"  # Han
    "\uac00-\ud7af"  # Hangul: spaced, but endings are grown together with words
    "\U00020000-\U0003134f"
    "]+"
)
#: In Indian scripts it only tells how a letter is drawn; elsewhere, as in Persian, it parts what is read as two.
_INDIAN_NON_JOINER: Final = re.compile("(?<=[\u0900-\u0dff])\u200c")
_PARTING: Final = frozenset("\u200b\u200c")
#: Decomposed they would become one number with what stands before them.
_FRACTION: Final = re.compile("(?=[\u00bc-\u00be\u2150-\u215f\u2189])")
#: Marks that are left out: those that choose among drawings of a letter, and by their combining class overlays,
#: points of Hebrew, Arabic and Syriac, and all that is set above or below a letter that can be read without.
_IGNORED: Final = re.compile("[\u034f\u180b-\u180f\ufe00-\ufe0f\U000e0100-\U000e01ef]")
_OVERLAY: Final = 1
_POINTS: Final = range(10, 37)
_FIRST_ACCENT: Final = 200
#: A question is looked up by so many of its words at most.
MOST_TERMS: Final = 32


class _Signs(dict[int, int | str | None]):
    """What becomes of each sign: itself, a space, or nothing. Found out when it is first met."""

    def __missing__(self, code: int) -> int | str | None:
        self[code] = found = _kept(code)
        return found


_SIGNS: Final = _Signs()


def words(text: str) -> list[str]:
    """The words of a text in their order, all of letters, digits and the marks that belong to them."""
    # Decomposed, so that each accent is a sign of its own; what is left of a letter's signs is put together again.
    apart = unicodedata.normalize("NFKD", _FRACTION.sub(" ", _INDIAN_NON_JOINER.sub("", text)))
    plain = unicodedata.normalize("NFC", apart.translate(_SIGNS))
    return _UNSPACED.sub(lambda run: f" {' '.join(_pairs(run.group()))} ", plain).split()


def indexed(text: str) -> str:
    """A text in which every word is set apart by spaces."""
    return " ".join(words(text))


def terms(text: str) -> list[str]:
    """The different words of a question, in their order."""
    return list(dict.fromkeys(word.lower() for word in words(text)))[:MOST_TERMS]


def _kept(code: int) -> int | str | None:
    sign = chr(code)
    category = unicodedata.category(sign)
    match category[0]:
        case "L" | "N":
            return code
        case "M":
            return None if category == "Me" or _is_accent(sign) else code
        case _ if category == "Cf" and sign not in _PARTING:
            return None
        case _:
            return " "


def _is_accent(mark: str) -> bool:
    """Whether a word can be read, and is often written, without it."""
    place = unicodedata.combining(mark)
    return place == _OVERLAY or place in _POINTS or place >= _FIRST_ACCENT or _IGNORED.match(mark) is not None


def _pairs(run: str) -> list[str]:
    return [run] if len(run) == 1 else [run[start : start + 2] for start in range(len(run) - 1)]
