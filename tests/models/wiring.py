"""What the wire formats of all providers have in common, and the local server that speaks them."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from tests.worker.httpserver import HttpServer, Request, Response

#: What the settings say: the key of every provider, and the model that is asked for.
KEY, MODEL = "sk-test", "m"
#: The tokens of every answer: all that went in, what of it was cached, and what came out.
TOKENS_IN, TOKENS_CACHED, TOKENS_OUT = 100, 60, 7
#: Where a provider counts by itself what it begins to keep.
TOKENS_WRITTEN = 10


@dataclass(frozen=True)
class Call:
    """A call as the model writes it: ``arguments`` is its text, JSON or not."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True)
class Answer:
    """What a model says, in no provider's form. ``stop`` is ``end``, ``length`` or ``refusal``."""

    text: str = ""
    calls: Sequence[Call] = ()
    stop: str = "end"
    cut: bool = False  # hangs up before the end of the stream


@dataclass
class Asked:
    """What a request said, in no provider's form."""

    system: str
    turns: list[tuple[str, str]]
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    results: list[str] = field(default_factory=list)
    tools: list[str] = field(default_factory=list)


class Wire(Protocol):
    """One provider's format."""

    @property
    def name(self) -> str:
        """The provider's name."""

    def environment(self, url: str) -> dict[str, str]:
        """The settings of a worker that is to have KEY, and MODEL from the server at ``url``."""

    def named(self, request: Request) -> tuple[str, str]:
        """The key and the model in a request."""

    def answer(self, answer: Answer, *, streamed: bool) -> Response:
        """An answer on the wire."""

    def error(self, status: int, kind: str) -> Response:
        """A refusal: ``rate``, ``server``, ``overflow`` or ``key``."""

    def failing(self, kind: str) -> Response:
        """A stream with an error after its first words: ``server`` or ``rate``."""

    def asked(self, body: dict[str, Any]) -> Asked:
        """A request, understood."""


class TcpServer(HttpServer):
    """The small server of the worker's tests, on a port of this machine."""

    url = ""

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"


async def _pieces(events: Sequence[str], *, cut: bool) -> AsyncIterator[bytes]:
    for event in events[:-1] if cut else events:
        yield event.encode()


def stream(events: Sequence[str], answer: Answer) -> Response:
    """Server-sent events. One that is cut ends before its last."""
    return Response(stream=_pieces(events, cut=answer.cut), content_type="text/event-stream", cut=answer.cut)


def data(body: object, event: str = "") -> str:
    """One server-sent event."""
    return (f"event: {event}\n" if event else "") + f"data: {json.dumps(body)}\n\n"


def halves(text: str) -> list[str]:
    """A text in two pieces, as a stream brings it."""
    middle = len(text) // 2
    return [piece for piece in (text[:middle], text[middle:]) if piece]


def begun(events: Sequence[str]) -> Response:
    """A stream that ends with an event of its own."""
    return Response(stream=_pieces(events, cut=False), content_type="text/event-stream")


OVERFLOW_WORDS = "This model's maximum context length is 8192 tokens. However, your messages resulted in 9000 tokens."
