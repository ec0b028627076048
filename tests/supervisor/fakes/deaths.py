"""Supervisors that die at a moment of a test's choice, and what is there when all has come to rest."""

import threading
from collections.abc import Callable
from typing import Final

from supervisor.states import IN_ROLLOUT
from tests.supervisor.fakes.installation import Installation
from tests.supervisor.fakes.supervisors import Killed, Supervisor

SECONDS: Final = 15.0


class DieWhen:
    """Kills the supervisor's roll-out at its next change after which something holds, once."""

    def __init__(self, installation: Installation, holds: Callable[[], bool]) -> None:
        self._holds = holds
        self.done = threading.Event()
        installation.interrupt = self

    def __call__(self) -> None:
        if threading.current_thread().name == "rollout" and not self.done.is_set() and self._holds():
            self.done.set()
            raise Killed

    def wait(self, supervisor: Supervisor) -> None:
        """Until it has killed it."""
        assert self.done.wait(SECONDS), "it never came by"
        assert supervisor.wait_until_killed()


def settled(installation: Installation) -> bool:
    """Nothing is on its way: the good revision is active, its N-1 stands by, and nobody else is there."""
    good = installation.ledger.good_revision()
    wanted = sorted(filter(None, (good.sha, good.base_sha)))
    return (
        installation.ledger.first(*IN_ROLLOUT) is None
        and installation.active_sha() == good.sha
        and installation.running_shas() == wanted
        and len(installation.ledger.living_workers()) == len(wanted)
    )
