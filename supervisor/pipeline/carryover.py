"""Superseded updates on the new base: each is merged three ways and becomes an update of its own, which names it.

The new one passes all gates from the first, and waits for an approval of its own.
"""

from typing import Final

import structlog

from supervisor.ledger import Ledger, Origin, Update
from supervisor.revisions import Refused, Revisions, RevisionsError, RevisionsUnusable

_LOG = structlog.get_logger()

#: Why there is no other, as the superseded update's code.
CONFLICT: Final = "conflict"
NOTHING_LEFT: Final = "nothing_left"
UPSTREAM: Final = "upstream"


def carry_over(ledger: Ledger, revisions: Revisions, *, parent_id: int | None) -> list[Update]:
    """Make every superseded update again on the good revision, or note at it why not; the new ones.

    Raises LedgerError, RevisionsUnusable.
    """
    return [
        again
        for update in ledger.to_be_made_again()
        if (again := _made_again(update, ledger, revisions, parent_id)) is not None
    ]


def _made_again(update: Update, ledger: Ledger, revisions: Revisions, parent_id: int | None) -> Update | None:
    good = ledger.good_revision()
    code, reason = "", ""
    patch = b""
    if update.origin is Origin.UPSTREAM:
        code, reason = UPSTREAM, "`supervisor upgrade` merges what the checkout brings with it"
    else:
        try:
            patch = revisions.carried_over(update.base_sha or "", update.sha or "", good.sha)
        except RevisionsUnusable:
            raise  # no room, or no git: that says nothing about the update
        except (RevisionsError, Refused) as error:
            code, reason = CONFLICT, f"it cannot be applied there: {error}"
        if not patch and not code:
            code, reason = NOTHING_LEFT, "which has all that it changes"
    if code:
        ledger.amend(update.tx_id, {"code": code, "last_error": f"{good.tx_id} is the good one now; {reason}"})
        return None
    again = ledger.create_again(update, patch, good, parent_id=parent_id)
    _LOG.info("superseded, and made again", tx=update.tx_id, again=again.tx_id)
    return again
