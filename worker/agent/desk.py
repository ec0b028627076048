"""The desk: everything that only the active worker does."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Final

from worker.agent.courier import Courier
from worker.agent.intake import Intake
from worker.agent.runs import Runs

#: The first poll goes out before anything beside it asks for the loop, the supervisor or the database: until then
#: nobody takes messages in.
BESIDE_AFTER_SECONDS: Final = 0.1

Duty = Callable[[], Coroutine[None, None, None]]


class Desk:
    """Opens, pauses and closes the intake, the runs and the courier together, and what goes on ``beside`` them.

    What goes on ``with_intake`` begins before it.
    """

    def __init__(
        self,
        *,
        group: asyncio.TaskGroup,
        intake: Intake,
        runs: Runs,
        courier: Courier,
        with_intake: Sequence[Duty],
        beside: Sequence[Duty],
    ) -> None:
        self._group = group
        self._intake = intake
        self._runs = runs
        self._courier = courier
        self._with_intake = with_intake
        self._beside = beside
        self._standing: list[asyncio.Task[None]] = []

    @property
    def in_hand(self) -> int:
        """How many runs and deliveries are under way; what merely waits can be left to a successor."""
        return self._runs.chats.busy + self._courier.chats.busy

    def open(self, *, inherits: bool) -> None:
        """Take up work, beginning with what a predecessor left; ``inherits`` as in :meth:`Intake.run`."""
        self._standing = [
            *(self._group.create_task(duty()) for duty in self._with_intake),
            self._group.create_task(self._intake.run(inherits=inherits)),
            *(self._group.create_task(_begin_later(duty)) for duty in self._beside),
        ]
        self._courier.open()
        self._runs.resume()

    def pause(self) -> None:
        """Go on storing what comes in and sending what is done, but begin no run."""
        self._runs.pause()

    def resume(self) -> None:
        """Undo a pause."""
        self._runs.resume()

    async def close(self) -> None:
        """Stop polling and cut what is still in hand: a run's message goes back to the queue.

        All at once: each may take a moment of grace, and together they have no more than one.
        """
        self._runs.pause()
        self._courier.begin_no_more()
        for duty in self._standing:
            duty.cancel()
        standing, self._standing = asyncio.gather(*self._standing, return_exceptions=True), []
        await asyncio.gather(standing, self._runs.chats.close(), self._courier.close())


async def _begin_later(duty: Duty) -> None:
    await asyncio.sleep(BESIDE_AFTER_SECONDS)
    await duty()
