"""Log lines on standard error, with every secret masked."""

import logging
import sys
from typing import Final

from supervisor.contract import Redactor

#: These write whole URLs at INFO, and a Telegram URL holds the token.
LOUD: Final = ("httpx", "httpx2", "httpcore", "httpcore2", "telegram", "openai")


class RedactingFormatter(logging.Formatter):
    """Masks secrets in the finished line, tracebacks included."""

    def __init__(self, redact: Redactor) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")
        self._redact = redact

    def format(self, record: logging.LogRecord) -> str:
        """The line as it is written."""
        return self._redact(super().format(record))


def set_up(redact: Redactor) -> None:
    """Send everything from INFO on to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(RedactingFormatter(redact))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    for name in LOUD:
        logging.getLogger(name).setLevel(logging.WARNING)
