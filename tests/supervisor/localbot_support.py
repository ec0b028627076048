"""What the tests of the local bot share: the bot on a socket, and python-telegram-bot as its client."""

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from telegram import Bot
from telegram.request import HTTPXRequest

from supervisor.localbot.app import create_server
from supervisor.localbot.client import LocalBotClient
from supervisor.localbot.store import BotStore

TOKEN = "4711:local-test"


def wait_until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    """Return when the condition holds; ``TimeoutError`` when it does not within the time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.005)


@dataclass
class Running:
    """A local bot that serves."""

    socket: Path  # for the bot's program
    user_socket: Path
    user: LocalBotClient

    def bot(self, token: str = TOKEN) -> Bot:
        """The bot's program: python-telegram-bot as it is, but for the Unix socket."""
        return Bot(token, base_url="http://localhost/bot", request=self._request(), get_updates_request=self._request())

    def await_poll(self) -> None:
        """Return when a poll is open."""
        wait_until(lambda: any(poll.ended is None for poll in self.user.polls()))

    def _request(self) -> HTTPXRequest:
        return HTTPXRequest(httpx_kwargs={"transport": httpx.AsyncHTTPTransport(uds=str(self.socket), verify=False)})


@contextmanager
def short_directory() -> Iterator[Path]:
    """A directory whose sockets have short paths, however deep pytest's own directories are."""
    with tempfile.TemporaryDirectory(prefix="lb", dir=os.environ.get("XDG_RUNTIME_DIR")) as name:
        yield Path(name)


@contextmanager
def local_bot(directory: Path, database: Path | str = ":memory:") -> Iterator[Running]:
    """Serve a local bot on two sockets in ``directory``."""
    socket, user_socket = directory / "bot.sock", directory / "user.sock"
    store = BotStore(database)
    try:
        server = create_server(store, TOKEN, socket=socket, user_socket=user_socket)
        with server, LocalBotClient(user_socket) as user:
            yield Running(socket, user_socket, user)
    finally:
        store.close()
