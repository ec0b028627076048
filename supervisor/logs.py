"""The supervisor's own log: lines on standard error or in its file, secrets masked at the sink."""

import io
import logging
import sys
from collections.abc import Iterable, MutableMapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO, cast

import structlog

from supervisor.contract import Redactor


class _Lossy:
    """A stream that loses what it cannot write: a disk that is full must not end whoever wants to tell of it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        """Write it, if that can be done."""
        with suppress(OSError):
            self._stream.write(text)

    def flush(self) -> None:
        """The same."""
        with suppress(OSError):
            self._stream.flush()


def to_standard_error(secrets: Iterable[str]) -> None:
    """Set up structlog, and the standard library's loggers of the packages we use, for the process."""
    if isinstance(sys.stderr, io.TextIOWrapper):  # whatever the locale can write, a line is never worth an exception
        sys.stderr.reconfigure(encoding="utf-8", errors="replace")
    _set_up(secrets, sys.stderr)


def to_file(secrets: Iterable[str], path: Path) -> None:
    """The same, at the end of a file: for a command that does the supervisor's work."""
    _set_up(secrets, path.open("a", buffering=1, encoding="utf-8", errors="replace"))


def _set_up(secrets: Iterable[str], stream: TextIO) -> None:
    redact = Redactor(secrets)

    def masked(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        return {key: redact.deep(value) for key, value in event.items()}

    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            masked,
            structlog.dev.ConsoleRenderer(colors=False),
        ],
        logger_factory=structlog.PrintLoggerFactory(file=cast("TextIO", _Lossy(stream))),
    )
    # httpx logs each URL, and the Bot API's URLs hold the token.
    logging.getLogger("httpx").setLevel(logging.WARNING)
