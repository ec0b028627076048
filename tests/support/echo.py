"""A model server that gives back what it was asked last, so that every answer names its message."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from supervisor.specs import CONTRACT_TARGET
from supervisor.unixserver import UnixServer

PREFIX = "answer to: "
SOCKET: Final = "echo.sock"
#: What an installation is told of it; it listens at the ``SOCKET`` in the contract's directory.
SETTINGS: Final[Mapping[str, str]] = {
    "OPENAI_API_KEY": "sk-echo",
    "OPENAI_MODEL": "echo",
    "AUTONOUS_OPENAI_UDS": f"{CONTRACT_TARGET}/{SOCKET}",
}


@dataclass(frozen=True)
class EchoModel:
    """Speaks OpenAI's chat completions; ``seconds`` is how long it takes for each."""

    seconds: float = 0.0

    def serve(self, socket: Path) -> UnixServer:
        """A server of it, to be entered."""
        routes = [Route(f"{root}/chat/completions", self._complete, methods=["POST"]) for root in ("/v1", "")]
        return UnixServer(Starlette(routes=routes), socket)

    async def _complete(self, request: Request) -> JSONResponse:
        body = await request.json()
        await asyncio.sleep(self.seconds)
        reply = f"{PREFIX}{body['messages'][-1]['content']}"
        return JSONResponse(
            {
                "id": "chatcmpl-echo",
                "object": "chat.completion",
                "created": 0,
                "model": body["model"],
                "choices": [{"index": 0, "message": {"role": "assistant", "content": reply}, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
            }
        )
