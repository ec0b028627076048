"""The names of the single facts that the ledger remembers."""

import secrets
from typing import Final

from supervisor.ledger import Ledger

#: The sha of the revision that was imported last: images of later ones are layered on its image.
TRUNK: Final = "trunk_sha"

#: What ``/start <code>`` must say to make its sender the owner of a bot that has none.
CLAIM: Final = "claim_code"


def ensure_claim_code(ledger: Ledger) -> str:
    """The code that claims the bot, made once."""
    code = ledger.fact(CLAIM)
    if code is None:
        code = secrets.token_hex(4)
        ledger.set_fact(CLAIM, code)
    return code
