"""Long polls: wait for news in the store, and notice at once when the one who waits has gone away."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import TypeVar

from starlette.types import Receive

from supervisor.localbot.errors import ApiError, ClientGone

T = TypeVar("T")


class Listener:
    """One request that waits."""

    def __init__(self) -> None:
        self._wake = asyncio.Event()
        self._gone = False
        self._refusal: ApiError | None = None

    def wake(self) -> None:
        """Let it look again."""
        self._wake.set()

    def refuse(self, error: ApiError) -> None:
        """End its wait with this error."""
        self._refusal = error
        self._wake.set()

    async def watch(self, receive: Receive) -> None:
        """End the wait when the client closes the connection. The request's body must have been read."""
        while (await receive())["type"] != "http.disconnect":
            pass
        self._gone = True
        self._wake.set()

    async def until(self, look: Callable[[], T], seconds: float) -> T:
        """The first answer of ``look`` that is not empty, or its last one when the time is over."""
        deadline = asyncio.get_running_loop().time() + seconds
        while True:
            self._wake.clear()
            if self._gone:
                raise ClientGone
            if self._refusal is not None:
                raise self._refusal
            remaining = deadline - asyncio.get_running_loop().time()
            if (found := look()) or remaining <= 0:
                return found
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(remaining):
                    await self._wake.wait()


class Bell:
    """Tells all who wait that something has changed."""

    def __init__(self) -> None:
        self._listeners: set[Listener] = set()

    def ring(self) -> None:
        """Let every listener look again."""
        for listener in self._listeners:
            listener.wake()

    @contextlib.asynccontextmanager
    async def listen(self, receive: Receive) -> AsyncIterator[Listener]:
        """A listener for the request that ``receive`` belongs to."""
        listener = Listener()
        watcher = asyncio.create_task(listener.watch(receive))
        self._listeners.add(listener)
        try:
            yield listener
        finally:
            self._listeners.discard(listener)
            watcher.cancel()
