"""Calls of tools, as a runner makes them."""

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from worker.tools.base import ToolError, ToolResult
from worker.tools.calls import Calls, OnProgress, perform
from worker.tools.client import ToolboxClient
from worker.tools.registry import TOOLS
from worker.tools.workplace import Workplace

CLIENT = ToolboxClient("/nowhere", TOOLS)
NOBODY = 65534


def workplace(directory: Path, **changes: Any) -> Workplace:
    """A workspace that is its own and only root."""
    return Workplace(**{"workspace": directory, "roots": (directory,), **changes})


def call(name: str, where: Workplace, **arguments: object) -> ToolResult:
    """Check the arguments and run a tool here, where coverage and debuggers see it."""
    checked: dict[str, Any] = CLIENT.checked(name, arguments)
    return perform(TOOLS[name], TOOLS[name].arguments(**checked), where)


def call_apart(name: str, where: Workplace, **arguments: object) -> ToolResult:
    """Run a tool in a process of its own, as the toolbox does."""
    return watched(None, name, where, **arguments)


def watched(on_progress: OnProgress | None, name: str, where: Workplace, **arguments: object) -> ToolResult:
    """The same, with somebody who is told of its progress."""

    async def run() -> ToolResult:
        calls = Calls()
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGCHLD, calls.reap)
        checked: dict[str, Any] = CLIENT.checked(name, arguments)
        try:
            result: Any = await calls.run(TOOLS[name], TOOLS[name].arguments(**checked), where, on_progress)
            return ToolResult(**result)
        except ToolError as error:
            return error.result()
        finally:
            await calls.close()

    return asyncio.run(run())


def refusal(name: str, where: Workplace, **arguments: object) -> str:
    """The code of the error that a call comes to; it must be one."""
    result = call(name, where, **arguments)
    assert not result.ok
    assert result.stderr
    return str(result.meta["code"])


@contextmanager
def without_privileges() -> Iterator[None]:
    """As a user whom permissions bind."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
