"""How the work of an active worker ends."""

import asyncio
from typing import Any, cast

from tests.worker.support import asynchronous
from worker.agent.courier import GRACE_SECONDS as SENDING
from worker.agent.desk import BESIDE_AFTER_SECONDS, Desk
from worker.agent.preview import CUT_GRACE_SECONDS as PREVIEW
from worker.duty import CUT_BEFORE_DEADLINE_SECONDS
from worker.selfupdate.watching import CUT_GRACE_SECONDS as WATCHING


class Part:
    """A part of the desk that ends when all of its parts are at it."""

    def __init__(self, ending: asyncio.Barrier) -> None:
        self.chats = self
        self._ending = ending

    async def run(self, *, inherits: bool = True) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await self.close()

    async def close(self) -> None:
        await self._ending.wait()

    def resume(self) -> None: ...

    def pause(self) -> None: ...

    def open(self) -> None: ...

    def begin_no_more(self) -> None: ...


@asynchronous
async def test_what_is_cut_ends_side_by_side() -> None:
    """Nobody's moment of grace comes after another's, so that all of them are over before the deadline."""
    ending = asyncio.Barrier(4)
    async with asyncio.TaskGroup() as group:
        intake, runs, courier, beside = (cast("Any", Part(ending)) for _ in range(4))
        desk = Desk(group=group, intake=intake, runs=runs, courier=courier, with_intake=[], beside=[beside.run])
        desk.open(inherits=True)
        await asyncio.sleep(BESIDE_AFTER_SECONDS + 0.05)
        await desk.close()
    assert max(SENDING, PREVIEW, WATCHING) < CUT_BEFORE_DEADLINE_SECONDS


@asynchronous
async def test_the_poll_comes_first() -> None:
    """But for what has to be there before it; what goes on beside it begins later."""
    begun: list[str] = []

    def part(name: str) -> Any:
        made = Part(asyncio.Barrier(1))

        async def run(*, inherits: bool = True) -> None:
            begun.append(name)
            await asyncio.sleep(60)

        made.run = run  # type: ignore[method-assign]
        return made

    async with asyncio.TaskGroup() as group:
        intake, runs, courier, before, beside = map(part, ("poll", "runs", "courier", "before", "beside"))
        desk = Desk(
            group=group, intake=intake, runs=runs, courier=courier, with_intake=[before.run], beside=[beside.run]
        )
        desk.open(inherits=True)
        await asyncio.sleep(BESIDE_AFTER_SECONDS / 2)
        assert begun == ["before", "poll"]
        await asyncio.sleep(BESIDE_AFTER_SECONDS)
        assert begun == ["before", "poll", "beside"]
        await desk.close()
