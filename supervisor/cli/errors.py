"""Which exceptions are an answer to the user rather than a defect, and with which exit code.

Looked up by name: importing every module that may raise would cost each command its start.
"""

from typing import Final, NamedTuple

FAILED: Final = 1
USAGE: Final = 2
NO_ENGINE: Final = 3
INTERRUPTED: Final = 130  # 128 + SIGINT, as shells have it

_CODES: Final = {
    "supervisor.settings.SettingsError": USAGE,
    "supervisor.engine.errors.EngineUnreachable": NO_ENGINE,
    "supervisor.hostengine.EngineMissing": NO_ENGINE,
    "supervisor.engine.errors.EngineError": FAILED,
    "supervisor.ledger.errors.LedgerError": FAILED,
    "supervisor.revisions.errors.RevisionsError": FAILED,
    "supervisor.paths.HomeUnusable": FAILED,
    "supervisor.homelock.HomeInUse": FAILED,
    "supervisor.workers.reconcile.ProjectInUse": FAILED,
    "supervisor.service.PartEnded": FAILED,
    "supervisor.rollout.rollback_wait.RollbackUnfinished": FAILED,
    "supervisor.systemd.NoSystemd": FAILED,
    "supervisor.systemd.ServiceFailed": FAILED,
    "supervisor.control.SupervisorAway": FAILED,
    "supervisor.control.ControlRefused": FAILED,
    "supervisor.updates.decisions.Refusal": FAILED,
    "supervisor.images.builds.ImagesUnavailable": FAILED,
    "supervisor.installation.InstallationFailed": FAILED,
    "supervisor.localbot.process.LocalBotFailed": FAILED,
    "supervisor.localbot.client.LocalBotAway": FAILED,
    "supervisor.agent_db.access.AgentDbUnusable": FAILED,
    "supervisor.agent_db.chats.UnknownChat": FAILED,
    "supervisor.agent_db.chats.WorkInHand": FAILED,
    "supervisor.agent_db.restore.NoSnapshot": FAILED,
    "supervisor.cli.errors.CommandFailed": FAILED,
    "supervisor.cli.errors.NoLongerAwaited": INTERRUPTED,
}


class CommandFailed(Exception):
    """The command cannot do what was asked; the message is one line for the user."""


class NoLongerAwaited(Exception):
    """Ctrl-C, while what was awaited goes on; the message is one line for the user."""


class ErrorLine(NamedTuple):
    """What is printed, and the exit code."""

    text: str
    code: int


def explain(error: Exception) -> ErrorLine | None:
    """The line for an expected failure, None for a defect, which deserves its traceback."""
    for kind in type(error).__mro__:
        code = _CODES.get(f"{kind.__module__}.{kind.__qualname__}")
        if code is not None:
            return ErrorLine(str(error), code)
    return None
