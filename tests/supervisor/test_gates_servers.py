"""What somebody who means harm can do to a server on a Unix socket: little, and nothing to the next socket."""

import json
import logging
import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from supervisor.localbot.app import create_server
from supervisor.localbot.store import BotStore
from supervisor.modelserver import ScriptedModel
from supervisor.unixserver import Endpoint, UnixServer
from tests.supervisor.localbot_support import TOKEN, short_directory, wait_until

MIB = 1024 * 1024


async def hello(_: Request) -> Response:
    return PlainTextResponse("hello")


APP = Starlette(routes=[Route("/", hello)])


@pytest.fixture
def directory() -> Iterator[Path]:
    with short_directory() as directory:
        yield directory


def client(path: Path) -> httpx.Client:
    transport = httpx.HTTPTransport(uds=str(path), verify=False)
    return httpx.Client(transport=transport, base_url="http://localhost", timeout=5)


def flood(path: Path, count: int, stack: ExitStack) -> list[socket.socket]:
    """That many connections, one after the other."""
    made = [stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(count)]
    for connection in made:
        connection.connect(str(path))
    return made


def closed(connection: socket.socket) -> bool:
    """Whether the other side has closed it."""
    connection.setblocking(False)
    try:
        return connection.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_connections_beyond_the_most_are_closed_at_once(directory: Path) -> None:
    """Those within stay open; when they go, new ones are served again."""
    with UnixServer(APP, directory / "s", most_connections=5) as server:
        with ExitStack() as stack:
            held = flood(server.path, 20, stack)
            wait_until(lambda: sum(map(closed, held)) == 15)
            with pytest.raises(httpx.TransportError):
                client(server.path).get("/")
            assert not any(closed(connection) for connection in held[:5])
        wait_until(lambda: _answers(server.path))


def _answers(path: Path) -> bool:
    with suppress(httpx.TransportError), client(path) as asking:
        return asking.get("/").text == "hello"
    return False


def test_a_flooded_socket_does_not_close_another(directory: Path) -> None:
    """Of the same server: each socket has a limit of its own."""
    other = Endpoint(APP, directory / "other")
    with UnixServer(APP, directory / "s", others=[other], most_connections=5) as server, ExitStack() as stack:
        flood(server.path, 50, stack)
        assert client(other.path).get("/").text == "hello"


def test_a_flood_takes_few_file_descriptors_and_one_line_of_log(
    directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """However many connections are tried."""
    caplog.set_level(logging.DEBUG)
    with UnixServer(APP, directory / "s", most_connections=20) as server, ExitStack() as stack:
        before = open_files()
        held = flood(server.path, 500, stack)
        wait_until(lambda: sum(map(closed, held)) == 500 - 20)
        assert open_files() - before <= 500 + 20
    lines = [r for r in caplog.records if r.levelno >= logging.WARNING]
    assert [r.getMessage() for r in lines] == [f"{server.path} holds 20 connections; further ones are closed"]


def test_no_file_descriptors_left_is_one_line_of_log(directory: Path, caplog: pytest.LogCaptureFixture) -> None:
    """And not one for each connection that waits, each time that it is tried."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with UnixServer(APP, directory / "s") as server, ExitStack() as stack:
        waiting = [stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(50)]
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (max(int(p.name) for p in Path("/proc/self/fd").iterdir()) + 1, hard)
        )
        with suppress(OSError):
            while True:  # none is left below the limit either
                stack.enter_context(Path("/dev/null").open())
        try:
            for connection in waiting:
                connection.connect(str(server.path))
            wait_until(lambda: bool(caplog.records))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        wait_until(lambda: _answers(server.path))
    assert len(caplog.records) == 1
    assert "Too many open files" in caplog.text


# -- the model


@pytest.fixture
def model(directory: Path) -> Iterator[tuple[ScriptedModel, httpx.Client]]:
    made = ScriptedModel("yes", largest_request=1000, remembered=2500)
    with UnixServer(made.app(), directory / "m") as server, client(server.path) as asking:
        yield made, asking


def ask(asking: httpx.Client, text: str) -> int:
    return asking.post("/v1/chat/completions", json={"messages": [{"role": "user", "content": text}]}).status_code


def test_the_model_remembers_what_it_was_asked(model: tuple[ScriptedModel, httpx.Client]) -> None:
    """As it was sent, oldest first."""
    made, asking = model
    assert [ask(asking, "one"), ask(asking, "two")] == [200, 200]
    assert [request["messages"][0]["content"] for request in made.requests()] == ["one", "two"]


def test_the_model_takes_no_large_request(model: tuple[ScriptedModel, httpx.Client]) -> None:
    """It is refused before it is read to its end, and not remembered."""
    made, asking = model
    assert ask(asking, "x" * 1000) == 413
    assert list(made.requests()) == []


def test_the_model_is_not_made_to_forget(model: tuple[ScriptedModel, httpx.Client]) -> None:
    """Once its memory is full more is refused, and what it heard first is still there."""
    made, asking = model
    ask(asking, "first")
    codes = [ask(asking, "x" * 900) for _ in range(5)]
    assert codes == [200, 200, 429, 429, 429]
    assert "first" in str(next(made.requests()))


@pytest.mark.parametrize(
    "body", [b"no", b"[]", b"{}", b'{"messages": 1}', b'{"messages": []}', b"[" * 999, b'"\xff"'], ids=range(7)
)
def test_the_model_refuses_what_is_no_request(model: tuple[ScriptedModel, httpx.Client], body: bytes) -> None:
    """With 400, and no error of its own."""
    made, asking = model
    assert asking.post("/chat/completions", content=body).status_code == 400
    assert list(made.requests()) == []


# -- the local bot


def test_a_local_bot_takes_only_the_body_that_it_was_told(directory: Path) -> None:
    """More is 413; within it also JSON that exhausts the parser is Telegram's 400."""
    store = BotStore(":memory:")
    server = create_server(store, TOKEN, socket=directory / "b", user_socket=directory / "u", largest_body=MIB)
    with server, client(directory / "b") as bot:
        assert _call(bot, json.dumps({"chat_id": 1, "text": "x" * MIB}).encode()) == 413
        assert _call(bot, b"[" * 200_000) == 400
        assert _call(bot, json.dumps({"chat_id": 1, "text": "x", "entities": "[" * 200_000}).encode()) == 400
    store.close()


def _call(bot: httpx.Client, body: bytes) -> int:
    headers = {"content-type": "application/json"}
    return bot.post(f"/bot{TOKEN}/sendMessage", content=body, headers=headers).status_code
