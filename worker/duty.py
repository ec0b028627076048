"""Duty: turns the role that the supervisor gives into what the worker does."""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final

from supervisor.contract import Beat, Role, RoleGrant, Welcome, WorkerState
from worker.agent.desk import Desk
from worker.agent.owners import Owners
from worker.store.lease import Lease
from worker.vitals import Vitals

#: Work is cut this long before the deadline, so that the release is told in time.
CUT_BEFORE_DEADLINE_SECONDS: Final = 0.5

logger = logging.getLogger(__name__)


class Duty:
    """Follows the latest grant. ``drain_seconds`` is the deadline when a grant names none."""

    def __init__(
        self,
        *,
        desk: Desk,
        lease: Lease,
        owners: Owners,
        vitals: Vitals,
        drain_seconds: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._desk = desk
        self._lease = lease
        self._owners = owners
        self._vitals = vitals
        self._drain_seconds = drain_seconds
        self._monotonic = monotonic
        self._state = WorkerState.STARTING
        self._grant: RoleGrant | None = None
        self._cut_at: float | None = None

    def welcome(self, welcome: Welcome) -> None:
        """The supervisor's answer to an announcement."""
        self._owners.tell(welcome.owners)
        self.receive(welcome.grant)

    def receive(self, grant: RoleGrant) -> None:
        """A grant, new or repeated. There is no way back from an exit, and no active role without an epoch."""
        leaving = self._grant is not None and self._grant.role is Role.EXIT
        if not leaving and (grant.epoch is not None or grant.role is not Role.ACTIVE):
            self._grant = grant
            self._vitals.look.set()

    def leave(self) -> None:
        """End in an orderly way, as on a signal."""
        self.receive(RoleGrant(role=Role.EXIT))

    def beat(self) -> Beat:
        """How the worker is doing."""
        in_hand = self._desk.in_hand
        return Beat(
            state=self._state,
            epoch=self._lease.epoch,
            in_hand=in_hand,
            polls_ok=self._vitals.polls_ok,
            poll_error=self._vitals.poll_error,
            internal_errors=self._vitals.internal_errors,
            model_error=self._vitals.model_error,
            progressed_seconds_ago=self._vitals.progressed_seconds_ago() if in_hand else None,
        )

    async def run(self) -> None:
        """Follow the grants until the exit. Raises Fenced when another worker holds a later lease."""
        while not await self._step(self._monotonic()):
            left = None if self._cut_at is None else max(0.0, self._cut_at - self._monotonic())
            try:
                async with asyncio.timeout(left):
                    await self._vitals.look.wait()
            except TimeoutError:
                continue
            self._vitals.look.clear()

    async def _step(self, now: float) -> bool:
        """Do what the grant asks for; whether the process is to end."""
        grant = self._grant
        if grant is None:
            return False
        match grant.role:
            case Role.STANDBY:
                await self._release()
                self._become(WorkerState.STANDBY)
            case Role.ACTIVE:
                self._activate(grant)
            case Role.DRAIN if await self._drained(grant, now):
                self._become(WorkerState.RELEASED)
            case Role.EXIT if await self._drained(grant, now):
                self._become(WorkerState.EXITING)
                return True
        return False

    def _activate(self, grant: RoleGrant) -> None:
        held = self._lease.epoch
        if grant.epoch is None or (held == grant.epoch and self._state is WorkerState.ACTIVE):
            return
        self._lease.take(grant.epoch)
        self._cut_at = None
        if held is None:
            self._desk.open(inherits=grant.kept is not False)
        else:
            self._desk.resume()
        self._become(WorkerState.ACTIVE)

    async def _drained(self, grant: RoleGrant, now: float) -> bool:
        """Whether nothing is held any more."""
        if self._lease.epoch is None:
            return True
        if self._cut_at is None:
            deadline = self._drain_seconds if grant.deadline_seconds is None else grant.deadline_seconds
            self._cut_at = now + max(0.0, deadline - CUT_BEFORE_DEADLINE_SECONDS)
            self._desk.pause()
            if self._desk.in_hand:  # else it lets go now, and a beat that says less would delay the one that says so
                self._become(WorkerState.DRAINING)
        if self._desk.in_hand and now < self._cut_at:
            return False
        await self._release()
        return True

    async def _release(self) -> None:
        if self._lease.epoch is not None:
            await self._desk.close()
            self._lease.release()
            self._cut_at = None

    def _become(self, state: WorkerState) -> None:
        if state is not self._state:
            logger.info("%s -> %s", self._state, state)
            self._state = state
            self._vitals.beat_now.set()
