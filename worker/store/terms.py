"""The words of a text, as the index of messages knows them. Pure functions."""

import re
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
_WORD: Final = re.compile(r"[^\W_]+")
#: A question is looked up by so many of its words at most.
MOST_TERMS: Final = 32


def indexed(text: str) -> str:
    """A text in which every word is set apart by spaces."""
    return _UNSPACED.sub(lambda run: f" {' '.join(_pairs(run.group()))} ", text)


def terms(text: str) -> list[str]:
    """The different words of a question, in their order."""
    found = (word.lower() for word in _WORD.findall(indexed(text)))
    return list(dict.fromkeys(found))[:MOST_TERMS]


def _pairs(run: str) -> list[str]:
    return [run] if len(run) == 1 else [run[start : start + 2] for start in range(len(run) - 1)]
