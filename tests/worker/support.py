"""Workers of these tests: the real thing in this process, between fakes on Unix sockets."""

import asyncio
import functools
import json
import sqlite3
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, ParamSpec

from supervisor.contract import Redactor, Role, WorkerState
from tests.worker.fakes import TOKEN, FakeSupervisor, FakeTelegram
from worker.app import App
from worker.context import SystemPrompt
from worker.settings import Settings
from worker.store import Store

P = ParamSpec("P")
SHA = "5" * 40
DEADLINE_SECONDS = 8


def asynchronous(test: Callable[P, Awaitable[None]]) -> Callable[P, None]:
    """Run an async test in a loop of its own, with a deadline."""
    return within(DEADLINE_SECONDS)(test)


def within(seconds: float) -> Callable[[Callable[P, Awaitable[None]]], Callable[P, None]]:
    """The same with another deadline."""

    def decorate(test: Callable[P, Awaitable[None]]) -> Callable[P, None]:
        @functools.wraps(test)
        def run(*args: P.args, **kwargs: P.kwargs) -> None:
            async def with_deadline() -> None:
                async with asyncio.timeout(seconds):
                    await test(*args, **kwargs)

            asyncio.run(with_deadline())

        return run

    return decorate


async def until(condition: Callable[[], object]) -> None:
    """Wait until something holds; the test's deadline ends the wait."""
    while not condition():  # noqa: ASYNC110 - what is waited for happens in other processes and databases, too
        await asyncio.sleep(0.005)


@contextmanager
def short_directory() -> Iterator[Path]:
    """A directory whose path is short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="w-") as path:
        yield Path(path)


def open_store(path: Path, *, clock: Callable[[], float] = time.time) -> Store:
    """A store that is migrated; what takes long of that is done once."""
    if path.parent.exists() and not path.exists():
        path.write_bytes(_migrated())
    return _open(path, clock)


@functools.cache
def _migrated() -> bytes:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "agent.db"
        _open(path, time.time).close()
        return path.read_bytes()


def _open(path: Path, clock: Callable[[], float]) -> Store:
    return Store(path, clock=clock, sha=SHA, redact=Redactor([TOKEN]))


class World:
    """A directory with a Bot API, a supervisor and the workers' database."""

    def __init__(self, directory: Path, supervisor: FakeSupervisor) -> None:
        self.directory = directory
        self.database = directory / "agent.db"
        self.telegram = FakeTelegram(directory / "telegram.sock")
        self.supervisor = supervisor

    @asynccontextmanager
    async def worker(self, **overrides: Any) -> AsyncIterator[asyncio.Task[None]]:
        """A worker in standby; its task ends when the worker does."""
        store = open_store(self.database)
        settings = Settings(**{**self._settings(), **overrides})
        app = App(settings, SystemPrompt("Be a test.", "built_in"), store, Redactor([TOKEN]))
        task = asyncio.create_task(app.run())
        try:
            yield task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            store.close()

    @asynccontextmanager
    async def active_worker(
        self, *, epoch: int = 1, kept: bool | None = None, **overrides: Any
    ) -> AsyncIterator[asyncio.Task[None]]:
        """A worker that holds the lease, and what it was told of updates that were ``kept``."""
        async with self.worker(**overrides) as task:
            await self.supervisor.order(Role.ACTIVE, epoch=epoch, kept=kept)
            await self.supervisor.reaches(WorkerState.ACTIVE)
            yield task

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        connection = sqlite3.connect(self.database)
        try:
            return connection.execute(sql).fetchall()
        finally:
            connection.close()

    def execute(self, sql: str, *values: object) -> None:
        """Change the database as another worker would."""
        connection = sqlite3.connect(self.database)
        with connection:
            connection.execute(sql, values)
        connection.close()

    def events(self, event_type: str) -> list[dict[str, Any]]:
        rows = self.rows(f"SELECT payload FROM events WHERE event_type = '{event_type}' ORDER BY id")
        return [json.loads(payload) for (payload,) in rows]

    def _settings(self) -> dict[str, Any]:
        return {
            "telegram_bot_token": TOKEN,
            "autonous_telegram_uds": str(self.telegram.server.path),
            "autonous_commander": "telegram",
            "autonous_model_provider": "dummy",
            "autonous_dummy_provider_script": "ok",
            "autonous_db_path": self.database,
            "autonous_supervisor_socket": str(self.supervisor.server.path),
            "autonous_worker_credential": "worker-credential",
            "autonous_worker_sha": SHA,
            "autonous_parent_event_id": 77,
            "autonous_control_retry_base_seconds": 0.01,
            "tg_sleep_seconds": 0.01,
        }


@asynccontextmanager
async def world(*, owners: tuple[int, ...] | None = None) -> AsyncIterator[World]:
    with short_directory() as directory:
        path = directory / "supervisor.sock"
        supervisor = FakeSupervisor(path) if owners is None else FakeSupervisor(path, owners=owners)
        here = World(directory, supervisor)
        await here.telegram.server.start()
        await here.supervisor.server.start()
        try:
            yield here
        finally:
            await here.supervisor.server.stop()
            await here.telegram.server.stop()
