"""The last import that a revision grew from: what its images are layered on, and the base of the next merge.

Derived from the chain of bases, never noted: after a roll-back it is the one before by itself.
"""

from supervisor.ledger import Ledger, Origin, Update


def trunk_of(ledger: Ledger, sha: str) -> Update:
    """The newest update at or below this revision that came from a checkout. Raises UnknownUpdate."""
    while True:
        update = ledger.find(ledger.revision(sha).tx_id)
        if update.origin in (Origin.GENESIS, Origin.UPSTREAM) or update.base_sha is None:
            return update
        sha = update.base_sha
