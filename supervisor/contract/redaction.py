"""The redactor: the one place that keeps secrets out of events, logs and replies.

Exact values first (raw, base64 and URL-encoded), then the shapes of well-known keys, so that a secret that nobody
told us about is still caught.
"""

import base64
import re
from collections.abc import Iterable
from urllib.parse import quote, quote_plus

MASK = "[redacted]"
_SHORTEST = 6  # a shorter value would blank ordinary words
_SHAPES = re.compile(
    r"\b\d{6,12}:[A-Za-z0-9_-]{30,}"  # Telegram bot token
    r"|\bsk-[A-Za-z0-9_-]{16,}"  # OpenAI and compatible keys
    r"|\b(?:ghp|gho|ghs|github_pat)_[A-Za-z0-9_]{20,}"
    r"|\bAKIA[0-9A-Z]{16}\b"
    r"|\bAIza[A-Za-z0-9_-]{35}"  # Google, Gemini's among them
)


def _spellings(value: str) -> set[str]:
    raw = value.encode()
    spellings = {value, quote(value, safe=""), quote(value), quote_plus(value)}
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        # A secret inside a longer base64 text may start at any of three offsets; only the characters that depend on
        # the secret alone are looked for.
        for offset in range(3):
            text = encode(b"\0" * offset + raw).decode().rstrip("=")
            start = (offset * 8 + 5) // 6
            usable = (offset + len(raw)) * 8 // 6
            spellings.add(text[start:usable])
    return {s for s in spellings if len(s) >= _SHORTEST}


class Redactor:
    """Replaces secrets in text by a mask."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        spellings = {s for value in secrets if len(value) >= _SHORTEST for s in _spellings(value)}
        longest_first = sorted(spellings, key=lambda s: (-len(s), s))
        self._exact = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None

    def __call__(self, text: str) -> str:
        """The text with every known secret and every secret-shaped word masked."""
        if self._exact is not None:
            text = self._exact.sub(MASK, text)
        return _SHAPES.sub(MASK, text)

    def deep(self, value: object) -> object:
        """The same for every string inside lists and dictionaries, names included."""
        if isinstance(value, str):
            return self(value)
        if isinstance(value, dict):
            return {self.deep(key): self.deep(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.deep(item) for item in value]
        return value
