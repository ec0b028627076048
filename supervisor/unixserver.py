"""Web applications on Unix sockets, served by a thread of their own.

Used by everything here that serves: the contract, the local bot and the exam. Several servers may run in one
process; none of them touches signals or writes an access log.
"""

import asyncio
import contextlib
import errno
import itertools
import logging
import os
import socket
import stat
import struct
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

#: Bytes that a socket's path may have; the kernel's limit is 107 and some systems allow 103.
LONGEST_PATH: Final = 100
#: Connections that one socket holds at a time unless it is told otherwise. A peer that opens more than it needs must
#: not use up the file descriptors of the whole process.
MOST_CONNECTIONS: Final = 256
_EXTENSION: Final = "autonous.connection"
_GRACE_SECONDS: Final = 0.05  # for answers that are being written when the server is told to stop
_STOP_SECONDS: Final = 10.0  # by then every task was cancelled: what still runs is stuck
_KEEP_ALIVE_SECONDS: Final = 75  # longer than any client keeps an idle connection, so that it never reuses a dying one
_OUT_OF_RESOURCES: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_SILENCE_SECONDS: Final = 60.0  # between two lines about connections that cannot be had
_LOG = logging.getLogger(__name__)
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Connection:
    """The connection that a request came in on. A Unix peer has no address, so connections are numbered."""

    number: int
    path: str  # of the socket that it was made to
    pid: int  # of the peer, as this process sees it; 0 when it lives in another PID namespace
    drop: Callable[[], None]  # closes the connection at once, without an answer

    @property
    def mark(self) -> str:
        """A short text that tells this connection from all others of this process."""
        return f"{self.pid}.{self.number}"


def connection_of(scope: Scope) -> Connection:
    """The connection behind a request's scope. ``KeyError`` when another server serves the application."""
    connection: Connection = scope["extensions"][_EXTENSION]
    return connection


class _Complaints:
    """Says what may happen thousands of times a second at most once in a while."""

    def __init__(self) -> None:
        self._next = 0.0

    def say(self, text: str) -> None:
        """Log it, unless something was said just now."""
        now = time.monotonic()
        if now >= self._next:
            self._next = now + _SILENCE_SECONDS
            _LOG.warning(text)


class _Config(uvicorn.Config):
    """What uvicorn is told, and how many connections each socket may hold."""

    most_connections: int = MOST_CONNECTIONS
    complaints: _Complaints


class _Protocol(H11Protocol):
    """HTTP/1.1 that tells the application which connection it serves."""

    path = ""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        peer = transport.get_extra_info("socket")
        self.path = peer.getsockname()
        if self._too_many():
            self.transport = transport  # what ends the connection expects it
            transport.abort()
            return
        super().connection_made(transport)
        pid, _, _ = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
        connection = Connection(next(_numbers), path=self.path, pid=pid, drop=transport.abort)
        application = self.app

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            scope["extensions"] = {**scope.get("extensions", {}), _EXTENSION: connection}
            try:
                await application(scope, receive, send)
            except asyncio.CancelledError:
                if not transport.is_closing():  # else the server is stopping, which is no error of the application
                    raise

        self.app = app

    def _too_many(self) -> bool:
        # By socket: whoever floods one must not close the door of another.
        held = sum(isinstance(other, _Protocol) and other.path == self.path for other in self.connections)
        config = self.config
        if not isinstance(config, _Config) or held < config.most_connections:
            return False
        config.complaints.say(f"{self.path} holds {held} connections; further ones are closed")
        return True


@dataclass(frozen=True)
class Endpoint:
    """An application on the Unix socket ``path``, whose file gets the permissions ``mode``.

    ``ValueError`` when the path is longer than ``LONGEST_PATH`` bytes.
    """

    app: ASGIApp
    path: Path
    mode: int = 0o666

    def __post_init__(self) -> None:
        size = len(os.fsencode(self.path))
        if size > LONGEST_PATH:
            raise ValueError(f"socket path of {size} bytes, at most {LONGEST_PATH} are possible: {self.path}")


class _BySocket:
    """Passes each request to the application of the socket that it came in on; the lifespan is the first one's."""

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        self._first = endpoints[0].app
        self._apps = {str(endpoint.path): endpoint.app for endpoint in endpoints}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._first if scope["type"] == "lifespan" else self._apps[connection_of(scope).path]
        await app(scope, receive, send)


class _Server(uvicorn.Server):
    """uvicorn without its ticks: it stops when told to, leaves no stream open, and costs nothing while it is idle."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready: Future[None] = Future()
        self._ended = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    def end(self) -> None:
        """Ask for the stop, from any thread, once the server is ready."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: it ended by itself
                self._loop.call_soon_threadsafe(self._ended.set)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._loop = asyncio.get_running_loop()
        self._loop.set_exception_handler(self._note_error)
        self.ready.set_result(None)

    def _note_error(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if isinstance(error, OSError) and error.errno in _OUT_OF_RESOURCES and isinstance(self.config, _Config):
            # asyncio tells of each connection that it cannot accept, as often as it tries.
            self.config.complaints.say(f"no connection can be accepted: {error}")
        else:
            loop.default_exception_handler(context)

    def renew(self, number: int, listener: socket.socket) -> None:
        """Accept what comes to this one instead of what came to the listener with that number, from any thread.

        Connections that were accepted go on.
        """
        loop = self.servers[number].get_loop()
        asyncio.run_coroutine_threadsafe(self._renew(number, listener), loop).result(_STOP_SECONDS)

    async def _renew(self, number: int, listener: socket.socket) -> None:
        def protocol() -> _Protocol:
            return _Protocol(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)

        loop = asyncio.get_running_loop()
        renewed = await loop.create_server(protocol, sock=listener, backlog=self.config.backlog)
        self.servers[number].close()
        self.servers[number] = renewed

    async def main_loop(self) -> None:
        await self._ended.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        del sockets  # asyncio's servers own and close them
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        if self.server_state.tasks:
            await asyncio.wait(self.server_state.tasks, timeout=_GRACE_SECONDS)
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        await asyncio.sleep(0)  # lets the protocols see that their connection is lost
        for task in list(self.server_state.tasks):
            task.cancel()
        await self.lifespan.shutdown()


def _listen(path: Path, mode: int) -> socket.socket:
    """A socket bound to ``path``. Replaces a stale one; ``OSError`` when somebody answers there."""
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise FileExistsError(errno.EEXIST, "is in the way of a socket", str(path))
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(str(path))
            except ConnectionRefusedError:
                path.unlink(missing_ok=True)
            else:
                raise OSError(errno.EADDRINUSE, "another process serves this socket", str(path))
    listener = socket.socket(socket.AF_UNIX)
    try:
        listener.bind(str(path))
        path.chmod(mode)  # before anyone can connect: nobody listens yet
    except OSError:
        listener.close()
        raise
    return listener


class _Door:
    """The listener of an endpoint, and its socket file."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self.bind()

    def bind(self) -> None:
        """Listen, anew where that was done before. ``OSError`` when the socket cannot be had."""
        self.listener = _listen(self._endpoint.path, self._endpoint.mode)
        self._inode = self._endpoint.path.stat().st_ino

    @property
    def gone(self) -> bool:
        """Whether somebody removed the file, so that nobody can connect any more."""
        return not os.path.lexists(self._endpoint.path)

    def close(self) -> None:
        """Remove the file, unless a successor has bound it already."""
        self.listener.close()
        with contextlib.suppress(FileNotFoundError):
            if self._endpoint.path.stat().st_ino == self._inode:
                self._endpoint.path.unlink()


class UnixServer:
    """Serves ``app`` on the Unix socket ``path``, whose file gets the permissions ``mode``.

    ``others`` are served by the same event loop, so that applications which share something need no locks; an
    ``app`` that starts or ends something with its lifespan must be the first. ``ValueError`` when a path is longer than
    ``LONGEST_PATH`` bytes. Endpoints must be coroutines: a blocking one would hold up the stop. Each socket holds up
    to ``most_connections`` at a time; further ones are closed at once.
    """

    def __init__(
        self,
        app: ASGIApp,
        path: Path,
        *,
        mode: int = 0o666,
        others: Sequence[Endpoint] = (),
        most_connections: int = MOST_CONNECTIONS,
    ) -> None:
        self.path = path
        self._most_connections = most_connections
        self._endpoints = (Endpoint(app, path, mode), *others)
        self._lock = threading.Lock()
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None
        self._doors: list[_Door] = []

    @property
    def running(self) -> bool:
        """Whether the thread that serves is alive."""
        thread = self._thread
        return thread is not None and thread.is_alive()

    def start(self) -> None:
        """Return when connections are accepted.

        ``OSError`` when a socket cannot be had, ``RuntimeError`` when the application does not start.
        """
        with self._lock, contextlib.ExitStack() as undo:
            if self.running:
                raise RuntimeError(f"already serving {self.path}")
            doors = [undo.enter_context(contextlib.closing(_Door(endpoint))) for endpoint in self._endpoints]
            config = _Config(
                _BySocket(self._endpoints),
                http=_Protocol,
                ws="none",
                loop="asyncio",
                timeout_keep_alive=_KEEP_ALIVE_SECONDS,
                backlog=self._most_connections,  # as many are accepted in one go, before the first can be closed
                log_config=None,  # the process's own logging stays as it is
                log_level="warning",
                access_log=False,
                date_header=False,  # the ticks would keep it up to date
                server_header=False,
            )
            config.most_connections, config.complaints = self._most_connections, _Complaints()
            self._server = _Server(config)
            self._thread = threading.Thread(
                target=self._serve,
                args=(self._server, [door.listener for door in doors], undo.pop_all()),
                name=f"serve {self.path.name}",
                daemon=True,
            )
            self._thread.start()
            try:
                self._server.ready.result()
            except RuntimeError:
                self._thread.join()
                raise
            self._doors = doors

    def keep_reachable(self) -> bool:
        """Bind each socket anew whose file somebody removed; whether there was one. Connections that are open go on.

        Costs next to nothing, so that it can be called all the while; what cannot be bound now may be at the next call.
        """
        with self._lock:
            if self._server is None or not self.running:
                return False
            gone = [number for number, door in enumerate(self._doors) if door.gone]
            for number in gone:
                try:
                    self._doors[number].bind()
                    self._server.renew(number, self._doors[number].listener)
                except OSError as error:
                    _LOG.warning("%s is gone, and cannot be bound anew: %s", self._endpoints[number].path, error)
                else:
                    _LOG.warning("%s was removed; it is there again", self._endpoints[number].path)
            return bool(gone)

    def stop(self) -> None:
        """End open requests and streams, and return when the sockets are gone. Harmless when not running.

        ``TimeoutError`` when the application blocks its loop.
        """
        with self._lock:
            if self._server is None or self._thread is None:
                return
            self._server.end()
            self._thread.join(_STOP_SECONDS)
            if self._thread.is_alive():
                raise TimeoutError(f"the server of {self.path} did not stop within {_STOP_SECONDS:g} s")
            self._server = self._thread = None

    def _serve(self, server: _Server, listeners: list[socket.socket], clean_up: contextlib.ExitStack) -> None:
        with clean_up:
            try:
                server.run(sockets=listeners)
            except BaseException as exc:  # uvicorn leaves by SystemExit when the application's start fails
                if server.ready.done():
                    raise
                failure = RuntimeError(f"the application on {self.path} did not start")
                failure.__cause__ = exc
                server.ready.set_exception(failure)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
