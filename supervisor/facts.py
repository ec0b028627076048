"""The names of the single facts that the ledger remembers."""

import secrets
from typing import Final

from supervisor.ledger import Ledger

#: What ``/start <code>`` must say to make its sender the owner of a bot that has none.
CLAIM: Final = "claim_code"

#: Keys the digests of settings, see ``supervisor.drift``.
DIGEST_KEY: Final = "digest_key"

#: Digests of what the supervisor was started with last.
STARTED_WITH: Final = "started_with"

#: How far the supervisor has read the bot's updates by itself.
RESCUE_OFFSET: Final = "rescue_offset"

#: Tells the containers of this home from those of another that uses the same project name by mistake.
INSTALLATION: Final = "installation"


def ensure_installation(ledger: Ledger) -> str:
    """The id of this installation, made once."""
    return _ensure(ledger, INSTALLATION, 8)


def ensure_digest_key(ledger: Ledger) -> str:
    """The key of the digests of settings, made once."""
    return _ensure(ledger, DIGEST_KEY, 32)


def ensure_claim_code(ledger: Ledger) -> str:
    """The code that claims the bot, made once."""
    return _ensure(ledger, CLAIM, 4)


def _ensure(ledger: Ledger, name: str, random_bytes: int) -> str:
    value = ledger.fact(name)
    if value is None:
        value = secrets.token_hex(random_bytes)
        ledger.set_fact(name, value)
    return value
