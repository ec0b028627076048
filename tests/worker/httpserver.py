"""A small HTTP/1.1 server on a Unix socket, with nothing but the standard library, for the fakes of these tests."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Response:
    """``body`` is sent as JSON, bytes as they are, ``stream`` piece by piece.

    ``hang_up`` answers nothing at all, ``cut`` hangs up after the stream, whose end is then missing.
    """

    body: object = None
    status: int = 200
    stream: AsyncIterator[bytes] | None = None
    hang_up: bool = False
    cut: bool = False
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


Handler = Callable[[Request], Awaitable[Response]]


class HttpServer:
    def __init__(self, path: Path, handler: Handler) -> None:
        self.path = path
        self._handler = handler
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_unix_server(self._serve, path=self.path)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        self.path.unlink(missing_ok=True)
        for connection in list(self._connections):
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                while await self._answer_one(reader, writer):
                    pass
        finally:
            self._connections.discard(task)
            writer.close()

    async def _answer_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        first, *lines = head.strip().split("\r\n")
        method, path, _ = first.split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        response = await self._answer_unless_gone(reader, Request(method, path, headers, body))
        if response is None or response.hang_up:
            return False
        await self._write(writer, response)
        return not response.cut

    async def _answer_unless_gone(self, reader: asyncio.StreamReader, request: Request) -> Response | None:
        """The handler's answer; the handler is cancelled when the client hangs up while it waits."""
        answer = asyncio.ensure_future(self._handler(request))
        gone = asyncio.ensure_future(reader.read(1))
        try:
            await asyncio.wait({answer, gone}, return_when=asyncio.FIRST_COMPLETED)
            return answer.result() if answer.done() else None
        finally:
            for waiting in (answer, gone):
                waiting.cancel()
                with suppress(asyncio.CancelledError):
                    await waiting

    async def _write(self, writer: asyncio.StreamWriter, response: Response) -> None:
        body = response.body if isinstance(response.body, bytes) else json.dumps(response.body).encode()
        length = "Transfer-Encoding: chunked" if response.stream else f"Content-Length: {len(body)}"
        more = "".join(f"{name}: {value}\r\n" for name, value in response.headers.items())
        head = f"HTTP/1.1 {response.status} X\r\nContent-Type: {response.content_type}\r\n{length}\r\n{more}\r\n"
        writer.write(head.encode())
        if response.stream is None:
            writer.write(body)
        else:
            async for piece in response.stream:
                writer.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
                await writer.drain()
            writer.write(b"" if response.cut else b"0\r\n\r\n")
        await writer.drain()
