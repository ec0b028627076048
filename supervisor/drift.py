"""What is other than at the supervisor's last start: settings by name, and its own code.

Of a setting only a keyed digest is remembered. The key stays in the ledger, so a digest that leaves it, as a label on
a container does, reveals nothing of the value.
"""

import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from supervisor import facts
from supervisor.ledger import Ledger, LedgerUnusable, NewerLedger
from supervisor.paths import CHECKOUT
from supervisor.settings import WORKER_NAMES, Settings

_CODE: Final = "code"
_HOME: Final = "AUTONOUS_HOME"

#: What a restarted supervisor takes over from the environment of whoever asks for the restart.
NAMES: Final = frozenset(
    {*WORKER_NAMES, *(field.alias for field in Settings.model_fields.values() if field.alias)} - {_HOME}
)


@dataclass(frozen=True)
class Changes:
    """What changed since the supervisor was started. ``settings`` are names."""

    settings: tuple[str, ...] = ()
    code: bool = False

    def __bool__(self) -> bool:
        return self.code or bool(self.settings)


def environment_digest(ledger: Ledger, values: Mapping[str, str]) -> str:
    """A digest that tells one environment of a worker from another and reveals neither."""
    return _digest(facts.ensure_digest_key(ledger), json.dumps(values, sort_keys=True))


def remember(ledger: Ledger, settings: Settings) -> None:
    """Note what the supervisor is started with."""
    key = facts.ensure_digest_key(ledger)
    ledger.set_fact(facts.STARTED_WITH, json.dumps(_fingerprints(settings, key), sort_keys=True))


def since_start(path: Path, settings: Settings) -> Changes:
    """What ``settings`` and the checkout have other than the supervisor that was started last on this ledger.

    Raises NewerLedger, LedgerUnusable.
    """
    try:
        with Ledger.read_only(path) as ledger:
            key, noted = ledger.fact(facts.DIGEST_KEY), ledger.fact(facts.STARTED_WITH)
    except NewerLedger:
        raise
    except LedgerUnusable:
        return Changes(code=True)  # an older version wrote it, and runs
    if key is None or noted is None:
        return Changes(code=True)
    then, now = json.loads(noted), _fingerprints(settings, key)
    differ = {name for name in then.keys() | now.keys() if then.get(name) != now.get(name)}
    return Changes(tuple(sorted(differ - {_CODE})), code=_CODE in differ)


def _fingerprints(settings: Settings, key: str) -> dict[str, str]:
    fields = type(settings).model_fields
    given = {fields[name].alias: repr(getattr(settings, name)) for name in settings.model_fields_set}
    values = {name: value for name, value in (given | settings.worker_values).items() if name in NAMES and name}
    return {name: _digest(key, value) for name, value in values.items()} | {_CODE: _code()}


def _code() -> str:
    whole = hashlib.sha256()
    for file in sorted((CHECKOUT / "supervisor").rglob("*.py")):
        whole.update(f"{file.relative_to(CHECKOUT)}\0".encode() + file.read_bytes() + b"\0")
    return whole.hexdigest()[:16]


def _digest(key: str, value: str) -> str:
    return hmac.new(key.encode(), value.encode(), hashlib.sha256).hexdigest()[:32]
