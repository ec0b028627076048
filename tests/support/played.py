"""A model server that plays parts: what it says to a message is written down beforehand, tool calls included.

The worker reaches it through the real client, so all that is played is the thinking.
"""

import json
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from supervisor.unixserver import UnixServer

ECHO = "answer to: "
_COPY = re.compile(r"(/workspace/self/-?\d+)")


@dataclass(frozen=True)
class Call:
    """A tool that the model asks for."""

    name: str
    arguments: Mapping[str, object]


@dataclass(frozen=True)
class Scene:
    """What the model is shown: all messages, the one to answer, and the results of this run's tools so far."""

    messages: Sequence[Mapping[str, Any]]
    text: str
    results: Sequence[str]
    turn: int

    @property
    def copy(self) -> str:
        """Where the working copy is, as the brief says it."""
        found = _COPY.search("\n".join(str(message.get("content")) for message in self.messages))
        assert found is not None, "nobody said where the working copy is"
        return found[1]


#: What the model does in one turn: it answers, or asks for tools, perhaps depending on what it is shown.
Turn = str | Sequence[Call] | Callable[[Scene], str | Sequence[Call]]


class PlayedModel:
    """Answers a message by the part whose key it contains, one turn after the other; any other message is echoed."""

    def __init__(self, parts: Mapping[str, Sequence[Turn]]) -> None:
        self.parts = dict(parts)
        self.scenes: list[Scene] = []
        self._lock = threading.Lock()

    def serve(self, socket: Path) -> UnixServer:
        """A server of it, to be entered."""
        routes = [Route(f"{root}/chat/completions", self._complete, methods=["POST"]) for root in ("/v1", "")]
        return UnixServer(Starlette(routes=routes), socket)

    async def _complete(self, request: Request) -> JSONResponse:
        body = await request.json()
        scene = _scene(body["messages"])
        with self._lock:
            self.scenes.append(scene)
            number = len(self.scenes)
        said = self._turn(scene)
        message: dict[str, Any] = {"role": "assistant", "content": said if isinstance(said, str) else None}
        if not isinstance(said, str):
            message["tool_calls"] = [
                {
                    "id": f"call-{number}-{place}",
                    "type": "function",
                    "function": {"name": call.name, "arguments": json.dumps(call.arguments)},
                }
                for place, call in enumerate(said)
            ]
        return JSONResponse(
            {
                "id": f"chatcmpl-{number}",
                "object": "chat.completion",
                "created": 0,
                "model": body["model"],
                "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120},
            }
        )

    def _turn(self, scene: Scene) -> str | Sequence[Call]:
        part = next((turns for key, turns in self.parts.items() if key in scene.text), None)
        if part is None:
            return f"{ECHO}{scene.text}"
        turn = part[min(scene.turn, len(part) - 1)]
        return turn(scene) if callable(turn) else turn


def _scene(messages: Sequence[Mapping[str, Any]]) -> Scene:
    last = max(place for place, message in enumerate(messages) if message["role"] == "user")
    since = messages[last + 1 :]
    return Scene(
        messages=messages,
        text=str(messages[last]["content"]),
        results=[str(message["content"]) for message in since if message["role"] == "tool"],
        turn=sum(message["role"] == "assistant" for message in since),
    )


def edit(path: str, old: str, new: str) -> Callable[[Scene], Sequence[Call]]:
    """Changes a file of the working copy."""

    def turn(scene: Scene) -> Sequence[Call]:
        arguments = {"path": f"{scene.copy}/{path}", "old_text": old, "new_text": new}
        return [Call("edit", arguments)]

    return turn


def bash(command: str) -> Callable[[Scene], Sequence[Call]]:
    """Runs a command in the working copy."""
    return lambda scene: [Call("bash", {"command": command, "cwd": scene.copy, "timeout_seconds": 120})]


def propose(title: str, why: str = "") -> Sequence[Call]:
    """Hands in what the working copy has become."""
    return [Call("propose_update", {"title": title, "why": why})]
