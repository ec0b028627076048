"""The floor of free space: below it nothing is run that could take more, and what takes too much is stopped."""

import asyncio
import os
from collections.abc import Coroutine, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, TypeVar

from worker.tools.base import Tier, Tool, ToolError
from worker.tools.workplace import Workplace

LOOK_SECONDS: Final = 0.1
_MIB: Final = 1024 * 1024

T = TypeVar("T")


class FreeSpace:
    """Watches the file systems that tools can write to."""

    def __init__(self, workplace: Workplace) -> None:
        self._floor = workplace.min_free_bytes
        self._places = tuple(dict.fromkeys((workplace.workspace, *workplace.roots)))

    async def guard(self, tool: Tool, call: Coroutine[Any, Any, T]) -> T:
        """What the call gives. Raises ToolError below the floor, also when the call itself leads there."""
        if tool.tier is Tier.READ or not self._floor:
            return await call
        if short := self._short():
            call.close()
            raise ToolError("no_space", f"{short}; nothing that writes is run until the owner has made room")
        working = asyncio.ensure_future(call)
        try:
            while not working.done():
                await asyncio.wait({working}, timeout=LOOK_SECONDS)
                if not working.done() and (short := self._short()):
                    raise ToolError("no_space", f"stopped: {short}; nothing that writes is run until there is room")
            return working.result()
        finally:
            if not working.done():
                working.cancel()
                await asyncio.wait({working})

    def _short(self) -> str:
        """Where room is short, empty when it is nowhere."""
        for place, free in self._free():
            if free < self._floor:
                least = f"at least {self._floor // _MIB} MiB must stay free (AUTONOUS_MIN_FREE_BYTES)"
                return f"only {free // _MIB} MiB are free at {place}, and {least}"
        return ""

    def _free(self) -> Iterator[tuple[Path, int]]:
        for place in self._places:
            with suppress(OSError):
                if os.access(place, os.W_OK):
                    seen = os.statvfs(place)
                    yield place, seen.f_bavail * seen.f_frsize
