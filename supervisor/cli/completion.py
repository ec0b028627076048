"""What the shell offers where an update is asked for."""

from collections.abc import Callable
from typing import Final

from supervisor import settings as settings_module
from supervisor.cli.text import printable

_OFFERED: Final = 100
_SHOWN: Final = 8  # characters of an id, which in practice is enough to tell it from all others

Complete = Callable[[str], list[tuple[str, str]]]


def updates(*statuses: str) -> Complete:
    """Completes the id of an update that is in one of these states, of any one with none; the newest first."""

    def complete(incomplete: str) -> list[tuple[str, str]]:
        from supervisor.ledger import Ledger, LedgerError

        try:
            with Ledger.read_only(settings_module.load().paths.ledger) as ledger:
                found = [
                    update
                    for update in ledger.updates(limit=_OFFERED)
                    if update.tx_id.startswith(incomplete) and (not statuses or update.status in statuses)
                ]
        except (LedgerError, settings_module.SettingsError):
            return []  # the command itself will say what is wrong
        length = max(_SHOWN, len(incomplete))
        return [(update.tx_id[:length], printable(f"{update.status}: {update.title}")) for update in found]

    return complete
