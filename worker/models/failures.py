"""What a provider's refusal means, for every adapter alike."""

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Final

from worker.models.base import ContextOverflow, ProviderApiError, RateLimited

#: How providers name the error that a request is longer than the model's window.
OVERFLOW_CODES: Final = frozenset(
    {"context_length_exceeded", "context_window_exceeded", "exceed_context_size_error", "request_too_large"}
)
#: Several servers have no name for it, only a sentence: OpenAI-compatible ones, Anthropic's and Gemini's among them.
OVERFLOW_WORDS: Final = (
    "maximum context length",
    "context window",
    "context size",
    "prompt is too long",
    "exceeds the maximum number of tokens",
)
REFUSED: Final = (HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.UNPROCESSABLE_ENTITY)


def of_status(
    status: int, message: str, *, code: str = "", headers: Mapping[str, str] | None = None, wait: float | None = None
) -> Exception:
    """The error for an answer with this status, as the control layer knows it.

    ``code`` is the provider's own name for it, ``wait`` the seconds that its body asks for where the headers do not.
    """
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        named = _retry_after(headers or {})
        return RateLimited(message, wait if named is None else named)
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE or (status in REFUSED and is_overflow(message, code)):
        return ContextOverflow(message)
    return ProviderApiError(message)


def is_overflow(message: str, code: str = "") -> bool:
    """Whether this says that the request is longer than the window."""
    words = message.lower()
    return code in OVERFLOW_CODES or any(phrase in words for phrase in OVERFLOW_WORDS)


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """The wait in seconds that the headers ask for: a number, or a date."""
    named = headers.get("retry-after", "")
    try:
        return max(0.0, float(named))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(named) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError):
        return None
