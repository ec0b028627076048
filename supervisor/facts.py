"""The names of the single facts that the ledger remembers."""

import secrets
from typing import Final

from supervisor.ledger import Ledger

#: The sha of the revision that was imported last: images of later ones are layered on its image.
TRUNK: Final = "trunk_sha"

#: What ``/start <code>`` must say to make its sender the owner of a bot that has none.
CLAIM: Final = "claim_code"


#: Tells the containers of this home from those of another that uses the same project name by mistake.
INSTALLATION: Final = "installation"


def ensure_installation(ledger: Ledger) -> str:
    """The id of this installation, made once."""
    return _ensure(ledger, INSTALLATION, 8)


def ensure_claim_code(ledger: Ledger) -> str:
    """The code that claims the bot, made once."""
    return _ensure(ledger, CLAIM, 4)


def _ensure(ledger: Ledger, name: str, random_bytes: int) -> str:
    value = ledger.fact(name)
    if value is None:
        value = secrets.token_hex(random_bytes)
        ledger.set_fact(name, value)
    return value
