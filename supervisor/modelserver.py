"""A model for exams and tests: speaks OpenAI's chat completions, so that the real client reaches it unchanged.

It answers every request with the same text, after the tool calls that it was told to make, and remembers what it was
asked. Who asks may be a candidate that means
harm, so what one request brings and what is remembered of all have limits.
"""

import json
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

#: Bytes that one request may bring: more than any context that fits a model.
LARGEST_REQUEST: Final = 4 * 1024 * 1024
#: Bytes of requests that are remembered. What comes after is refused: nobody makes it forget by asking more.
MOST_REMEMBERED: Final = 16 * 1024 * 1024
_CHARACTERS_PER_TOKEN: Final = 4
_LONGEST_NAME: Final = 200


@dataclass(frozen=True)
class ToolCall:
    """A tool that the model wants to be used."""

    name: str
    arguments: Mapping[str, object]


class _Refused(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class ScriptedModel:
    """The model behind the server. Thread-safe."""

    def __init__(
        self, reply: str, *, largest_request: int = LARGEST_REQUEST, remembered: int = MOST_REMEMBERED
    ) -> None:
        self._reply = reply
        self._largest_request = largest_request
        self._room_left = remembered
        self._lock = threading.Lock()
        self._requests: list[bytes] = []
        self._plans: dict[str, tuple[Sequence[ToolCall], str]] = {}

    def plan(self, word: str, calls: Sequence[ToolCall] = (), reply: str | None = None) -> None:
        """Where the last thing that the user said holds this word: make these calls, one a turn, then answer so."""
        with self._lock:
            self._plans[word] = (calls, self._reply if reply is None else reply)

    def requests(self) -> Iterator[dict[str, Any]]:
        """The bodies of all requests so far, oldest first."""
        with self._lock:
            bodies = list(self._requests)
        yield from map(json.loads, bodies)

    def app(self) -> Starlette:
        """The server's application."""
        return Starlette(
            routes=[Route(f"{prefix}/chat/completions", self._complete, methods=["POST"]) for prefix in ("/v1", "")]
        )

    async def _complete(self, request: Request) -> Response:
        try:
            body = await self._take(request)
        except _Refused as refused:
            return JSONResponse({"error": {"message": str(refused), "type": "invalid_request_error"}}, refused.status)
        except ClientDisconnect:  # nobody reads the answer
            return Response(status_code=400)
        call, reply = self._next(body["messages"])
        usage = {
            "prompt_tokens": _prompt_size(body) // _CHARACTERS_PER_TOKEN,
            "completion_tokens": max(1, len(reply) // _CHARACTERS_PER_TOKEN),
        }
        usage["total_tokens"] = sum(usage.values())
        if body.get("stream"):
            return StreamingResponse(self._stream(body, usage, call, reply), media_type="text/event-stream")
        message: dict[str, Any] = {"role": "assistant", "content": None if call else reply}
        if call:
            message["tool_calls"] = [call]
        choice = {"index": 0, "message": message, "finish_reason": "tool_calls" if call else "stop"}
        return JSONResponse({**_head(body, "chat.completion"), "choices": [choice], "usage": usage})

    async def _take(self, request: Request) -> dict[str, Any]:
        """The request, remembered as the bytes it came in: as objects they may be many times as large."""
        content = bytearray()
        async for chunk in request.stream():
            content += chunk
            if len(content) > self._largest_request:
                raise _Refused(413, f"a request of more than {self._largest_request} bytes")
        try:
            body = json.loads(content)
        except (ValueError, RecursionError):
            raise _Refused(400, "not JSON") from None
        if not isinstance(body, dict) or not isinstance(body.get("messages"), list) or not body["messages"]:
            raise _Refused(400, "a request without messages")
        with self._lock:
            if len(content) > self._room_left:
                raise _Refused(429, "too much was asked")
            self._room_left -= len(content)
            self._requests.append(bytes(content))
        return body

    def _next(self, messages: list[Any]) -> tuple[dict[str, Any] | None, str]:
        """The call that is due in this conversation, by how many were answered since the user spoke, or the reply."""
        last = max((n for n, message in enumerate(messages) if _role(message) == "user"), default=0)
        said, answered = str(messages[last]), sum(_role(message) == "tool" for message in messages[last:])
        with self._lock:
            calls, reply = next((plan for word, plan in self._plans.items() if word in said), ((), self._reply))
        if answered >= len(calls):
            return None, reply
        call = calls[answered]
        function = {"name": call.name, "arguments": json.dumps(call.arguments)}
        return {"id": f"call_{answered}", "type": "function", "function": function}, reply

    def _stream(
        self, body: dict[str, Any], usage: dict[str, int], call: dict[str, Any] | None, reply: str
    ) -> Iterator[str]:
        head = _head(body, "chat.completion.chunk")
        said = {"tool_calls": [{"index": 0, **call}]} if call else {"content": reply}
        for delta, reason in (({"role": "assistant", **said}, None), ({}, "tool_calls" if call else "stop")):
            choice = {"index": 0, "delta": delta, "finish_reason": reason}
            yield f"data: {json.dumps({**head, 'choices': [choice]})}\n\n"
        options = body.get("stream_options")
        if isinstance(options, dict) and options.get("include_usage"):
            yield f"data: {json.dumps({**head, 'choices': [], 'usage': usage})}\n\n"
        yield "data: [DONE]\n\n"


def _prompt_size(body: dict[str, Any]) -> int:
    """Characters that a model would read; how the answer is to come is not among them."""
    return sum(len(json.dumps(body.get(part, []))) for part in ("messages", "tools"))


def _role(message: object) -> object:
    return message.get("role") if isinstance(message, dict) else None


def _head(body: dict[str, Any], kind: str) -> dict[str, Any]:
    model = str(body.get("model", "local"))[:_LONGEST_NAME]
    return {"id": "chatcmpl-local", "object": kind, "created": int(time.time()), "model": model}
