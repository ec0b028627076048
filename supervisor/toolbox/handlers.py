"""What the supervisor does about tools when a worker asks: toolboxes, and what they may reach."""

from collections.abc import Callable, Collection

import structlog

from supervisor.contract import (
    Grant,
    GrantOrder,
    Grants,
    Problem,
    Revocation,
    ToolboxNoted,
    ToolboxOpened,
    ToolboxOrder,
    ToolboxTrouble,
)
from supervisor.engine import EngineError
from supervisor.ledger import Ledger
from supervisor.sessions import Signal
from supervisor.toolbox.grantable import NotGrantable
from supervisor.toolbox.grants import Grants as GrantBook
from supervisor.toolbox.grants import told
from supervisor.toolbox.toolboxes import NoToolbox, Toolboxes

_LOG = structlog.get_logger()
#: How long a new grant is waited for; a call in hand may hold it up for longer.
_IN_FORCE_SECONDS = 3.0
_NOT_ACTIVE = Problem(code="not_active", reason="only the active worker may ask for that")


class ToolDesk:
    """Answers the workers. Methods may block."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        toolboxes: Toolboxes,
        grants: GrantBook,
        signal: Signal,
        owners: Callable[[], Collection[int]],
    ) -> None:
        self._ledger = ledger
        self._toolboxes = toolboxes
        self._grants = grants
        self._signal = signal
        self._owners = owners

    def trouble(self, worker_id: str, trouble: ToolboxTrouble) -> ToolboxNoted:
        """A toolbox does not answer its worker."""
        self._toolboxes.make_anew(worker_id, trouble.reason[:200])
        return ToolboxNoted()

    def open(self, worker_id: str, order: ToolboxOrder) -> ToolboxOpened | Problem:
        """A call was granted the network: whether it should be is the worker's policy; that it was is recorded."""
        if not self._ledger.holds_lease(worker_id):
            return _NOT_ACTIVE
        try:
            return self._toolboxes.open(self._ledger.worker(worker_id), order)
        except NoToolbox as refused:
            return Problem(code=refused.code, reason=str(refused))
        except (EngineError, OSError) as error:
            _LOG.warning("no toolbox with a network was started", error=str(error))
            return Problem(code="engine", reason="the engine did not start a toolbox with a network")

    def close(self, worker_id: str, toolbox_id: str) -> ToolboxNoted:
        """The call has ended."""
        self._toolboxes.close(toolbox_id, reason="the call ended", worker_id=worker_id)
        return ToolboxNoted()

    def grants(self, worker_id: str) -> Grants:
        """What is granted now."""
        in_force = self._toolboxes.in_force(worker_id)
        rows = [told(row, in_force=row.number in in_force) for row in self._grants.active()]
        return Grants(grants=rows, grantable_roots=[str(root) for root in self._grants.roots])

    def grant(self, worker_id: str, order: GrantOrder) -> Grant | Problem:
        """An owner opens a directory to the tools."""
        if refused := self._refused(worker_id, order.user_id):
            return refused
        try:
            row = self._grants.add(order, parent_id=self._ledger.worker(worker_id).event_id)
        except NotGrantable as error:
            return Problem(code=error.code, reason=str(error))
        in_force = self._signal.until(
            lambda: row.number in self._toolboxes.in_force(worker_id), _IN_FORCE_SECONDS, at_least_every=0.05
        )
        return told(row, in_force=in_force)

    def revoke(self, worker_id: str, number: int, revocation: Revocation) -> Grant | Problem:
        """An owner takes a grant back: what uses it is cut."""
        if refused := self._refused(worker_id, revocation.user_id):
            return refused
        try:
            row = self._grants.revoke(number, user_id=revocation.user_id, chat_id=revocation.chat_id)
            self._toolboxes.cut(number)
        except NotGrantable as error:
            return Problem(code=error.code, reason=str(error))
        return told(row, in_force=False)

    def _refused(self, worker_id: str, user_id: int) -> Problem | None:
        if not self._ledger.holds_lease(worker_id):
            return _NOT_ACTIVE
        if user_id not in self._owners():
            return Problem(code="not_owner", reason="only an owner of the bot may do that")
        return None
