"""A worker process between a Bot API and a model server that speak the real protocols and fail as they are told."""

import asyncio
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from supervisor.localbot.app import create_server
from supervisor.localbot.client import LocalBotClient
from supervisor.localbot.store import BotStore
from supervisor.unixserver import UnixServer, connection_of

TOKEN: Final = "123456789:load-token-that-nobody-may-see"
READ_TIMEOUT_SECONDS: Final = 2.0
#: The worker with shorter time-outs than a person would want, so that a test of time-outs is short.
LAUNCH: Final = f"""
import sys
from worker.commander import telegram
from worker.models import openai
telegram.READ_TIMEOUT_SECONDS = openai.TIMEOUT_SECONDS = {READ_TIMEOUT_SECONDS}
from worker.app import main
sys.exit(main())
"""


class Model:
    """Answers ``re:<message>``, streamed in pieces, after some milliseconds; ``faults`` are shares of the calls.

    ``pause`` is the time between two pieces, in seconds, and ``pieces`` their number.
    """

    def __init__(
        self,
        chance: random.Random,
        *,
        faults: Mapping[str, float] | None = None,
        pause: float = 0.002,
        pieces: int = 2,
    ) -> None:
        self.hits: Counter[str] = Counter()
        self._pause = pause
        self._pieces = pieces
        self._chance = chance
        self._faults = faults or {}

    def app(self) -> Starlette:
        return Starlette(routes=[Route("/v1/chat/completions", self._complete, methods=["POST"])])

    async def _complete(self, request: Request) -> Response:
        body = await request.json()
        await asyncio.sleep(self._chance.uniform(0.002, 0.03))
        drawn = self._draw()
        self.hits[drawn] += 1
        match drawn:
            case "error":
                return JSONResponse({"error": {"message": "injected"}}, 500)
            case "rate":
                return JSONResponse({"error": {"message": "injected"}}, 429)
            case "drop":
                connection_of(request.scope).drop()
                await asyncio.sleep(0)
            case "stall":
                await asyncio.sleep(READ_TIMEOUT_SECONDS + 1)
        answer = f"re:{body['messages'][-1]['content']}"
        if not body.get("stream"):
            choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": answer}}
            return JSONResponse({**_head("chat.completion"), "choices": [choice], "usage": _USAGE})
        break_off = drawn == "break"
        return StreamingResponse(self._stream(request, answer, break_off=break_off), media_type="text/event-stream")

    async def _stream(self, request: Request, answer: str, *, break_off: bool) -> Any:
        head = _head("chat.completion.chunk")
        length = -(-len(answer) // self._pieces)
        for number, start in enumerate(range(0, len(answer), length)):
            if number and break_off:
                connection_of(request.scope).drop()
                return
            yield _chunk(
                {
                    **head,
                    "choices": [
                        {"index": 0, "delta": {"content": answer[start : start + length]}, "finish_reason": None}
                    ],
                }
            )
            await asyncio.sleep(self._pause)
        yield _chunk({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        yield _chunk({**head, "choices": [], "usage": _USAGE})
        yield "data: [DONE]\n\n"

    def _draw(self) -> str:
        ticket = self._chance.random()
        for name, share in self._faults.items():
            if ticket < share:
                return name
            ticket -= share
        return "good"


_USAGE: Final = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}


def _head(kind: str) -> dict[str, object]:
    return {"id": "c", "object": kind, "created": 1, "model": "m"}


def _chunk(body: dict[str, object]) -> str:
    return f"data: {json.dumps(body)}\n\n"


class Stage:
    """The servers of one test, the worker's database, and the workers that are started on it."""

    def __init__(self, directory: Path, bot: LocalBotClient, owners: range) -> None:
        self.bot = bot
        self.database = directory / "agent.db"
        self.log = directory / "worker.log"
        self.bot_socket = directory / "bot.sock"
        self._directory = directory
        self._owners = owners
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, **settings: str) -> None:
        environment = {
            "PATH": os.environ.get("PATH", ""),
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            "AUTONOUS_DB_PATH": str(self.database),
            "AUTONOUS_TELEGRAM_UDS": str(self.bot_socket),
            "AUTONOUS_TELEGRAM_ALLOWED_USERS": ",".join(map(str, self._owners)),
            "AUTONOUS_OPENAI_UDS": str(self._directory / "model.sock"),
            "AUTONOUS_MODEL_PROVIDER": "openai",
            "OPENAI_API_KEY": "key-of-no-worth",
            "TELEGRAM_BOT_TOKEN": TOKEN,
            "TG_SLEEP_SECONDS": "0.05",
            "AUTONOUS_CONTROL_RETRY_BASE_SECONDS": "0.05",
            # Injected faults are alike, and are no sign that a message leads nowhere.
            "AUTONOUS_CONTROL_MAX_RETRIES": "12",
            "AUTONOUS_CONTROL_NO_PROGRESS_K": "100",
            "AUTONOUS_CONTROL_CIRCUIT_COOLDOWN_SECONDS": "1",
            **settings,
        }
        with self.log.open("a") as log:
            self._process = subprocess.Popen([sys.executable, "-c", LAUNCH], env=environment, stderr=log)

    def stop(self, how: signal.Signals) -> int:
        """End the worker and wait for it; its exit code."""
        assert self._process is not None
        self._process.send_signal(how)
        return self._process.wait(timeout=30)

    def end(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        try:
            connection = sqlite3.connect(self.database, timeout=10)
            try:
                return connection.execute(sql).fetchall()
            finally:
                connection.close()
        except sqlite3.OperationalError:  # not yet there
            return []

    def answers(self, chat: int) -> list[str]:
        """What the bot answered in a chat, oldest first; its other words are left out."""
        return [message.text for message in self.bot.messages(chat_id=chat) if message.text.startswith("re:")]


@contextmanager
def stage(model: Model, owners: range) -> Iterator[Stage]:
    """Servers on Unix sockets, for private chats of ``owners``."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="l-")))
        store = BotStore(":memory:")
        stack.callback(store.close)
        user_socket = directory / "user.sock"
        stack.enter_context(create_server(store, TOKEN, socket=directory / "bot.sock", user_socket=user_socket))
        stack.enter_context(UnixServer(model.app(), directory / "model.sock"))
        bot = stack.enter_context(LocalBotClient(user_socket))
        here = Stage(directory, bot, owners)
        stack.callback(here.end)
        yield here


#: Waits for something, for so many seconds; the last is what it is called when it does not come.
Wait = Callable[[Callable[[], object], float, str], None]


def wait_for(condition: Callable[[], object], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds:g} s for {what}"
        time.sleep(0.05)
