"""The toolbox of a worker that runs alone: a subprocess, as the same user, with a clean environment."""

import asyncio
import os
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from worker.models.base import ToolSpec
from worker.tools.base import UNTIL_INPUT_ENDS, Tool, ToolError, ToolResult
from worker.tools.calls import OnProgress
from worker.tools.client import ToolboxClient

START_SECONDS: Final = 10.0
PING_SECONDS: Final = 5.0
END_SECONDS: Final = 5.0
LOOK_SECONDS: Final = 0.01
#: All that the tools see of the worker's environment: no secret is among these.
PASSED_ON: Final = (
    "PATH",
    "HOME",
    "LANG",
    "LC_ALL",
    "TZ",
    "TMPDIR",
    "PYTHONPATH",
    "WORKSPACE_DIR",
    "AUTONOUS_TOOL_ALLOWED_ROOTS",
    "AUTONOUS_TOOL_TIMEOUT_SECONDS",
    "AUTONOUS_TOOL_MAX_OUTPUT_LINES",
    "AUTONOUS_TOOL_MAX_OUTPUT_BYTES",
    "AUTONOUS_TOOL_BASH_DENYLIST",
    "AUTONOUS_MIN_FREE_BYTES",
)


class LocalToolbox:
    """Starts the toolbox at the first call, and anew when it has ended. It ends with the worker, however that ends."""

    def __init__(self, tools: Mapping[str, Tool], environment: Mapping[str, str] = os.environ) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="toolbox-", ignore_cleanup_errors=True)
        self._socket = Path(self._directory.name) / "s"
        self._environment = {name: environment[name] for name in PASSED_ON if name in environment}
        self._client = ToolboxClient(str(self._socket), tools)
        self._process: asyncio.subprocess.Process | None = None
        self._starting = asyncio.Lock()

    def specs(self) -> tuple[ToolSpec, ...]:
        """The tools, as a model is told of them."""
        return self._client.specs()

    def checked(self, name: str, arguments: Mapping[str, object]) -> dict[str, object]:
        """The arguments by their proper names. Raises ToolError when they, or the tool, do not fit."""
        return self._client.checked(name, arguments)

    async def call(
        self, name: str, arguments: Mapping[str, object], on_progress: OnProgress | None = None
    ) -> ToolResult:
        """Check the arguments and run the tool. Raises ToolError, also when the toolbox does not start."""
        self._client.checked(name, arguments)
        async with self._starting:
            if not await self._answers():
                await self._start()
        return await self._client.call(name, arguments, on_progress)

    async def close(self) -> None:
        """End the toolbox."""
        await self._end()
        self._directory.cleanup()

    async def _start(self) -> None:
        await self._end()
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "worker.tools",
            UNTIL_INPUT_ENDS,
            env={**self._environment, "AUTONOUS_TOOLBOX_SOCKET": str(self._socket)},
            stdin=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        with suppress(TimeoutError):
            async with asyncio.timeout(START_SECONDS):
                while self._process.returncode is None:
                    if await self._answers():
                        return
                    await asyncio.sleep(LOOK_SECONDS)
        await self._end()
        raise ToolError("toolbox_unavailable", f"the toolbox did not start (exit code {self._process.returncode})")

    async def _answers(self) -> bool:
        """Whether the toolbox is there; what it has not heard can be asked of the next one."""
        if self._process is None or self._process.returncode is not None:
            return False
        with suppress(ToolError, TimeoutError):
            async with asyncio.timeout(PING_SECONDS):
                await self._client.ping()
                return True
        return False

    async def _end(self) -> None:
        """It ends what it has started; when it hangs, it alone is killed."""
        if self._process is None:
            return
        for end in (self._process.terminate, self._process.kill):
            with suppress(ProcessLookupError):
                end()
            with suppress(TimeoutError):
                async with asyncio.timeout(END_SECONDS):
                    await self._process.wait()
                    return
