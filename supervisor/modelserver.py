"""A model for exams and tests: speaks OpenAI's chat completions, so that the real client reaches it unchanged.

It answers every request with the same text and remembers what it was asked.
"""

import json
import threading
import time
from collections.abc import Iterator
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

_CHARACTERS_PER_TOKEN = 4


class ScriptedModel:
    """The model behind the server. Thread-safe."""

    def __init__(self, reply: str) -> None:
        self._reply = reply
        self._lock = threading.Lock()
        self._requests: list[dict[str, Any]] = []

    @property
    def requests(self) -> list[dict[str, Any]]:
        """The bodies of all requests so far, oldest first."""
        with self._lock:
            return list(self._requests)

    def app(self) -> Starlette:
        """The server's application."""
        return Starlette(
            routes=[Route(f"{prefix}/chat/completions", self._complete, methods=["POST"]) for prefix in ("/v1", "")]
        )

    async def _complete(self, request: Request) -> Response:
        body = await request.json()
        with self._lock:
            self._requests.append(body)
        usage = {
            "prompt_tokens": len(json.dumps(body["messages"])) // _CHARACTERS_PER_TOKEN,
            "completion_tokens": max(1, len(self._reply) // _CHARACTERS_PER_TOKEN),
        }
        usage["total_tokens"] = sum(usage.values())
        if body.get("stream"):
            return StreamingResponse(self._stream(body, usage), media_type="text/event-stream")
        choice = {"index": 0, "message": {"role": "assistant", "content": self._reply}, "finish_reason": "stop"}
        return JSONResponse({**_head(body, "chat.completion"), "choices": [choice], "usage": usage})

    def _stream(self, body: dict[str, Any], usage: dict[str, int]) -> Iterator[str]:
        head = _head(body, "chat.completion.chunk")
        for delta, reason in (({"role": "assistant", "content": self._reply}, None), ({}, "stop")):
            choice = {"index": 0, "delta": delta, "finish_reason": reason}
            yield f"data: {json.dumps({**head, 'choices': [choice]})}\n\n"
        if (body.get("stream_options") or {}).get("include_usage"):
            yield f"data: {json.dumps({**head, 'choices': [], 'usage': usage})}\n\n"
        yield "data: [DONE]\n\n"


def _head(body: dict[str, Any], kind: str) -> dict[str, Any]:
    return {"id": "chatcmpl-local", "object": kind, "created": int(time.time()), "model": body.get("model", "local")}
