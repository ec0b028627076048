"""The server on a Unix socket that the local bot, the contract and the exam share."""

import asyncio
import contextlib
import logging
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from supervisor.unixserver import LONGEST_PATH, Endpoint, UnixServer, connection_of
from tests.supervisor.localbot_support import short_directory


async def hello(request: Request) -> Response:
    return PlainTextResponse(connection_of(request.scope).mark)


async def stream(_: Request) -> Response:
    async def beats() -> AsyncIterator[str]:
        while True:
            yield "beat\n"
            await asyncio.sleep(0.01)

    return StreamingResponse(beats())


async def wait(_: Request) -> Response:
    await asyncio.sleep(3600)
    return Response()


APP = Starlette(routes=[Route("/", hello), Route("/stream", stream), Route("/wait", wait)])


@pytest.fixture
def directory() -> Iterator[Path]:
    with short_directory() as directory:
        yield directory


def client(path: Path) -> httpx.Client:
    return httpx.Client(
        transport=httpx.HTTPTransport(uds=str(path), verify=False), base_url="http://localhost", timeout=5
    )


def test_serves_at_once_and_is_gone_after(directory: Path) -> None:
    """The socket answers when start returns, has its mode, and is gone when stop returns."""
    path = directory / "s"
    with UnixServer(APP, path, mode=0o600) as server:
        assert path.stat().st_mode & 0o777 == 0o600
        assert client(path).get("/").status_code == 200
        assert server.running
    assert not path.exists()
    assert not server.running
    server.stop()


def test_starts_again(directory: Path) -> None:
    """A stopped server can be started again; a running one refuses."""
    server = UnixServer(APP, directory / "s")
    for _ in range(2):
        server.start()
        assert client(server.path).get("/").status_code == 200
        with pytest.raises(RuntimeError, match="already serving"):
            server.start()
        server.stop()


def test_several_servers_live_in_one_process(directory: Path) -> None:
    """Each serves its own socket, and one stops without the others."""
    first, second = UnixServer(APP, directory / "a"), UnixServer(APP, directory / "b")
    with second:
        with first:
            marks = {client(server.path).get("/").text for server in (first, second)}
        assert len(marks) == 2
        assert client(second.path).get("/").status_code == 200


def test_endpoints_share_a_loop_and_nothing_else(directory: Path) -> None:
    """Each socket has its mode and its own application; what runs in one wakes what waits in the other."""
    rung = asyncio.Event()

    async def ring(_: Request) -> Response:
        rung.set()
        return Response()

    async def listen(_: Request) -> Response:
        await rung.wait()
        return PlainTextResponse("heard")

    listener, ringer = Starlette(routes=[Route("/listen", listen)]), Starlette(routes=[Route("/ring", ring)])
    private = Endpoint(ringer, directory / "b", mode=0o600)
    with (
        UnixServer(listener, directory / "a", others=[private]),
        client(directory / "a") as public,
        client(private.path) as owner,
        ThreadPoolExecutor() as pool,
    ):
        assert [path.stat().st_mode & 0o777 for path in (directory / "a", private.path)] == [0o666, 0o600]
        assert (public.get("/ring").status_code, owner.get("/listen").status_code) == (404, 404)
        heard = pool.submit(client(directory / "a").get, "/listen")
        assert owner.get("/ring").status_code == 200
        assert heard.result(5).text == "heard"
    assert list(directory.iterdir()) == []


def test_all_endpoints_or_none(directory: Path) -> None:
    """When one socket cannot be had, the others are given back."""
    (directory / "b").write_text("in the way")
    with pytest.raises(FileExistsError):
        UnixServer(APP, directory / "a", others=[Endpoint(APP, directory / "b")]).start()
    assert [path.name for path in directory.iterdir()] == ["b"]


def test_connections_have_marks(directory: Path) -> None:
    """Requests on one connection share a mark; another connection has its own."""
    with UnixServer(APP, directory / "s") as server, client(server.path) as one, client(server.path) as other:
        mark = one.get("/").text
        assert one.get("/").text == mark
        assert other.get("/").text != mark


def test_stop_is_quick_with_open_requests(directory: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A stream and a request that waits for ever are cut within half a second, and nothing is logged as an error."""
    server = UnixServer(APP, directory / "s")
    server.start()
    cut = threading.Barrier(3)

    def hold(route: str) -> None:
        with (
            contextlib.suppress(httpx.RemoteProtocolError, httpx.ReadError),
            client(server.path) as http,
            http.stream("GET", route) as response,
        ):
            for _ in response.iter_lines():
                pass
        cut.wait(5)

    for route in ("/stream", "/wait"):
        threading.Thread(target=hold, args=(route,), daemon=True).start()
    time.sleep(0.2)
    started = time.perf_counter()
    with caplog.at_level(logging.WARNING):
        server.stop()
    assert time.perf_counter() - started < 0.5
    cut.wait(5)
    assert caplog.records == []


def test_stale_socket_is_replaced(directory: Path) -> None:
    """A socket file that a killed process left is no obstacle."""
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(directory / "s"))
    with UnixServer(APP, directory / "s") as server:
        assert client(server.path).get("/").status_code == 200


def test_a_socket_whose_file_was_removed_is_bound_anew(directory: Path) -> None:
    """Those who are connected go on, newcomers find it again with its permissions, and it is gone after the end."""
    path, other = directory / "s.sock", directory / "other.sock"
    with UnixServer(APP, path, mode=0o600, others=[Endpoint(APP, other)]) as server, client(path) as before:
        mark = before.get("/").text
        assert not server.keep_reachable()
        for _ in range(2):
            path.unlink()
            assert server.keep_reachable()
            assert not server.keep_reachable()
            assert path.stat().st_mode & 0o777 == 0o600
            assert before.get("/").text == mark
            for served in (path, other):
                with client(served) as newcomer:
                    assert newcomer.get("/").status_code == 200
    assert not path.exists()
    assert not other.exists()


def test_a_successors_socket_is_not_bound_over(directory: Path) -> None:
    """What another process has bound in its place is that one's."""
    path = directory / "s.sock"
    with UnixServer(APP, path) as server:
        path.unlink()
        with UnixServer(APP, path), client(path) as connected:
            assert not server.keep_reachable()
            assert connected.get("/").status_code == 200
        server.stop()
        assert not server.keep_reachable()
        assert not path.exists()


def test_living_socket_and_other_files_are_left_alone(directory: Path) -> None:
    """A socket that somebody serves is refused and keeps working; a file is not removed."""
    with UnixServer(APP, directory / "s") as server:
        with pytest.raises(OSError, match="another process serves this socket"):
            UnixServer(APP, server.path).start()
        assert client(server.path).get("/").status_code == 200
    (directory / "file").write_text("mine")
    with pytest.raises(FileExistsError):
        UnixServer(APP, directory / "file").start()
    assert (directory / "file").read_text() == "mine"


def test_long_path_is_refused(directory: Path) -> None:
    """A path over the limit is told when the server is made, by its length."""
    fits = directory / ("x" * (LONGEST_PATH - len(str(directory)) - 1))
    with UnixServer(APP, fits):
        pass
    with pytest.raises(ValueError, match="socket path of 101 bytes"):
        UnixServer(APP, fits.with_name(fits.name + "x"))


def test_failed_start_is_told(directory: Path) -> None:
    """When the application does not start, start raises and leaves no socket."""

    @contextlib.asynccontextmanager
    async def broken(_: Starlette) -> AsyncIterator[None]:
        raise OSError("no disk")
        yield

    server = UnixServer(Starlette(lifespan=broken), directory / "s")
    with pytest.raises(RuntimeError, match="did not start"):
        server.start()
    assert not server.path.exists()


def test_failing_endpoint_is_logged(directory: Path, caplog: pytest.LogCaptureFixture) -> None:
    """An error of the application is a 500 and stands in the log."""

    async def fail(_: Request) -> Response:
        raise ZeroDivisionError

    with UnixServer(Starlette(routes=[Route("/", fail)]), directory / "s") as server:
        assert client(server.path).get("/").status_code == 500
    assert any(record.exc_info and record.exc_info[0] is ZeroDivisionError for record in caplog.records)
