"""How the supervisor looks for itself at what is around."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

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


@pytest.mark.parametrize(
    ("status", "away"), [(200, False), (401, False), (404, False), (429, True), (500, True), (503, True)]
)
def test_a_model_that_answers_anything_but_trouble_is_there(home: Path, status: int, away: bool) -> None:
    """A key that is refused, or a route that it does not have, is an answer; it is asked with the key."""
    asked = settings(home, OPENAI_API_KEY="sk-1", AUTONOUS_OPENAI_UDS="/run/autonous/model.sock")
    keys: list[str] = []

    async def models(request: Request) -> Response:
        keys.append(request.headers["authorization"])
        return Response(status_code=status)

    app = Starlette(routes=[Route("/v1/models", models)])
    with UnixServer(app, asked.paths.contract_directory / "model.sock"):
        assert bool(model_trouble(asked)) is away
    assert keys == ["Bearer sk-1"]
    assert "does not answer" in model_trouble(asked)


def test_without_a_model_nothing_is_asked(home: Path) -> None:
    """The offline stand-in is never away, nor is a server that only the container reaches."""
    assert model_trouble(settings(home)) == ""
    assert model_trouble(settings(home, OPENAI_API_KEY="k", AUTONOUS_MODEL_PROVIDER="dummy")) == ""
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
