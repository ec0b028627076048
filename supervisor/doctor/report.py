"""``supervisor doctor``: everything that an installation stands on, looked at, each finding with its remedy.

It changes nothing, works with or without a supervisor, and names keys without their values.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

from supervisor import settings as settings_module
from supervisor.doctor import host, running
from supervisor.doctor.findings import Case, Finding, Level
from supervisor.engine import EngineError
from supervisor.ledger import LedgerError
from supervisor.settings import Settings

Check = Callable[[Case], Iterator[Finding]]


def examine(
    settings: Settings, environ: Mapping[str, str] = os.environ, env_file: Path = settings_module.ENV_FILE
) -> list[Finding]:
    """Look at everything, in the order in which one thing stands on another."""
    case = Case(settings, environ, env_file)
    found: list[Finding] = []
    try:
        for check in _CHECKS:
            name = check.__name__
            try:
                found += check(case)
            except (OSError, EngineError, LedgerError) as error:
                found.append(Finding(name, Level.FAIL, f"could not be looked at: {error}", "see what it names"))
    finally:
        if case.ledger is not None:
            case.ledger.close()
    return found


def exit_code(findings: list[Finding]) -> int:
    """0 when nothing is broken, 3 when the engine is out of reach, else 1."""
    broken = {finding.check for finding in findings if finding.level is Level.FAIL}
    return 3 if "engine" in broken else 1 if broken else 0


_CHECKS: Final[tuple[Check, ...]] = (
    host.engine,
    host.disk,
    host.home,
    host.env_file,
    host.keys,
    host.databases,
    host.clock,
    host.revisions,
    running.supervisor,
    running.kept,
    running.sockets,
    running.worker,
    running.images,
    running.left_overs,
)
