"""How the supervisor looks for itself at what is around."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from supervisor import outages
from supervisor.installation import _wait_until_active
from supervisor.outages import bot_api_trouble, disk_trouble, model_trouble
from supervisor.settings import Settings, load
from supervisor.states import Status
from supervisor.unixserver import UnixServer
from tests.supervisor.localbot_support import short_directory


@pytest.fixture
def home() -> Iterator[Path]:
    with short_directory() as directory:
        yield directory


def settings(home: Path, **values: str) -> Settings:
    loaded = load({"AUTONOUS_HOME": str(home), **values}, env_file=home / "none.env")
    loaded.paths.create(worker_uid=loaded.worker_uid)
    return loaded


STATUSES = [(200, False), (401, False), (403, False), (404, False), (429, True), (500, True), (503, True)]
#: By provider: what its server is named by, where the models are, and the header that has the key.
SERVERS = {
    "openai": ("OPENAI_BASE_URL", "/models", "authorization", "Bearer its-key"),
    "openai-responses": ("OPENAI_BASE_URL", "/models", "authorization", "Bearer its-key"),
    "anthropic": ("ANTHROPIC_BASE_URL", "/v1/models", "x-api-key", "its-key"),
    "gemini": ("GEMINI_BASE_URL", "/v1beta/models", "x-goog-api-key", "its-key"),
}
KEYS = {"OPENAI_API_KEY": "another", "ANTHROPIC_API_KEY": "another", "GEMINI_API_KEY": "another"}


class Model(HTTPServer):
    """A model's server: gives ``status`` to everybody, and remembers the paths and headers that it was asked with."""

    def __init__(self, status: int) -> None:
        super().__init__(("127.0.0.1", 0), Listing)
        self.status = status
        self.asked: list[tuple[str, dict[str, str]]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def __enter__(self) -> "Model":
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()


class Listing(BaseHTTPRequestHandler):
    """One request to a model's server."""

    def do_GET(self) -> None:
        assert isinstance(self.server, Model)
        self.server.asked.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
        self.send_response(self.server.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the base class calls it so
        """Nothing."""


@pytest.mark.parametrize(("status", "away"), STATUSES)
@pytest.mark.parametrize("provider", SERVERS)
def test_a_model_that_answers_anything_but_trouble_is_there(home: Path, provider: str, status: int, away: bool) -> None:
    """A key that is refused, or a route that it does not have, is an answer; it is asked with the key."""
    name, path, header, value = SERVERS[provider]
    key = name.replace("BASE_URL", "API_KEY")
    with Model(status) as model:
        asked = settings(home, AUTONOUS_MODEL_PROVIDER=provider, **{name: model.url + "/", key: "its-key"})
        trouble = model_trouble(asked)
    assert trouble == (f"the model's server answers {status}" if away else "")
    ((asked_path, headers),) = model.asked
    assert (asked_path, headers[header]) == (path, value)
    assert "does not answer" in model_trouble(asked)


@pytest.mark.parametrize("provider", SERVERS)
def test_the_model_that_comes_first_is_asked_alone(home: Path, provider: str) -> None:
    """Another's key and server, which a chain falls back on, say nothing about it."""
    own = SERVERS[provider][0]
    names = {server[0] for server in SERVERS.values()}
    with Model(200) as first, Model(503) as others:
        urls = {name: first.url if name == own else others.url for name in names}
        fallback = "openai:a, anthropic:b, gemini:c"
        asked = settings(home, AUTONOUS_MODEL_PROVIDER=provider, AUTONOUS_MODEL_FALLBACK=fallback, **KEYS, **urls)
        assert model_trouble(asked) == ""
        first.status, others.status = 503, 200
        assert model_trouble(asked) == "the model's server answers 503"
    assert (len(first.asked), others.asked) == (2, [])


@pytest.mark.parametrize(
    ("provider", "url"),
    [
        ("openai", "https://api.openai.com/v1/models"),
        ("openai-responses", "https://api.openai.com/v1/models"),
        ("anthropic", "https://api.anthropic.com/v1/models"),
        ("gemini", "https://generativelanguage.googleapis.com/v1beta/models"),
    ],
)
def test_each_provider_has_a_server_of_its_own(
    home: Path, monkeypatch: pytest.MonkeyPatch, provider: str, url: str
) -> None:
    """Where the settings name no other."""
    asked: list[str] = []

    def get(_: httpx.Client, url: str, *, headers: dict[str, str]) -> httpx.Response:
        assert "another" in " ".join(headers.values())
        asked.append(url)
        return httpx.Response(200)

    monkeypatch.setattr(httpx.Client, "get", get)
    assert model_trouble(settings(home, AUTONOUS_MODEL_PROVIDER=provider, **KEYS)) == ""
    assert asked == [url]


def test_a_model_behind_a_socket_is_asked_there(home: Path) -> None:
    """The container's path leads to the supervisor's own directory; another provider's calls never go through it."""
    socket = {"AUTONOUS_OPENAI_UDS": "/run/autonous/model.sock"}
    asked = settings(home, OPENAI_API_KEY="sk-1", **socket)
    keys: list[str] = []

    async def models(request: Request) -> Response:
        keys.append(request.headers["authorization"])
        return Response(status_code=503)

    app = Starlette(routes=[Route("/v1/models", models)])
    with UnixServer(app, asked.paths.contract_directory / "model.sock"), Model(200) as other:
        assert model_trouble(asked) == "the model's server answers 503"
        named = {"AUTONOUS_MODEL_PROVIDER": "gemini", "GEMINI_BASE_URL": other.url}
        assert model_trouble(settings(home, **named, **KEYS, **socket)) == ""
    assert keys == ["Bearer sk-1"]
    assert "does not answer" in model_trouble(asked)


def test_without_a_model_nothing_is_asked(home: Path) -> None:
    """The offline stand-in is never away, nor is a server that only the container reaches."""
    away = {"OPENAI_BASE_URL": "http://127.0.0.1:9", "ANTHROPIC_BASE_URL": "http://127.0.0.1:9"}
    assert model_trouble(settings(home, **away)) == ""
    assert model_trouble(settings(home, **away, ANTHROPIC_API_KEY="k")) == ""
    assert model_trouble(settings(home, **away, OPENAI_API_KEY="k", AUTONOUS_MODEL_PROVIDER="dummy")) == ""
    assert model_trouble(settings(home, OPENAI_API_KEY="k", AUTONOUS_OPENAI_UDS="/somewhere/else.sock")) == ""


class Refusing(BaseHTTPRequestHandler):
    """A Bot API that knows no token."""

    def do_POST(self) -> None:
        body = b'{"ok":false,"error_code":401,"description":"Unauthorized"}'
        self.send_response(401)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the base class calls it so
        """Nothing."""


def test_a_bot_token_that_is_refused_is_told(home: Path) -> None:
    """In words, and without the token; a Bot API that is away is told otherwise."""
    token = "4711:wrong-token-0123456789"
    server = HTTPServer(("127.0.0.1", 0), Refusing)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    asked = settings(home, TELEGRAM_BOT_TOKEN=token, TELEGRAM_API_BASE_URL=url)
    try:
        refused = bot_api_trouble(asked)
    finally:
        server.shutdown()
        server.server_close()
    away = bot_api_trouble(asked)
    assert "refuses (401): Unauthorized" in refused
    assert "does not answer" in away
    assert token not in refused + away


def test_a_full_disk_is_told(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before nothing at all can be written."""
    assert disk_trouble(home) == ""
    monkeypatch.setattr(outages, "_DISK_FULL_BYTES", 1 << 62)
    assert "the disk is full" in disk_trouble(home)


class Client:
    """A supervisor whose status is what the test says, one after the other."""

    def __init__(self, *statuses: dict[str, Any]) -> None:
        self._statuses = list(statuses)

    def status(self) -> dict[str, Any]:
        return self._statuses.pop(0) if len(self._statuses) > 1 else self._statuses[0]


def test_up_says_that_changed_settings_wait_for_a_probation(home: Path) -> None:
    """And how long that may take."""
    active = {"health": "healthy"}
    waiting = {
        "active": active,
        "renewal": {"state": "waiting", "reason": ""},
        "pending": [{"tx_id": "0f8fad5b-1", "status": Status.DEPLOYED_UNSTABLE}],
    }
    said: list[str] = []
    client = Client(waiting, waiting, {"active": active, "pending": []})
    _wait_until_active(settings(home), client, said.append)  # type: ignore[arg-type]
    assert any("0f8fad5b is in its probation, which takes up to 30 s" in line for line in said)
