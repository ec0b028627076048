"""The real wire formats of the providers, as their servers speak them, for one local server and the real SDKs."""

import json
import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from tests.models.wiring import (
    KEY,
    MODEL,
    OVERFLOW_WORDS,
    TOKENS_CACHED,
    TOKENS_IN,
    TOKENS_OUT,
    TOKENS_WRITTEN,
    Answer,
    Asked,
    Wire,
    begun,
    data,
    halves,
    stream,
)
from tests.worker.httpserver import Request, Response


def openai_environment(provider: str, url: str) -> dict[str, str]:
    """Both of OpenAI's formats are reached by the same settings."""
    named = {"OPENAI_API_KEY": KEY, "OPENAI_MODEL": MODEL, "OPENAI_BASE_URL": f"{url}/v1"}
    return {"AUTONOUS_MODEL_PROVIDER": provider, **named}


def bearer_and_model(request: Request) -> tuple[str, str]:
    return request.headers["authorization"].removeprefix("Bearer "), json.loads(request.body)["model"]


class Chat:
    """OpenAI's chat completions."""

    name = "openai"

    def environment(self, url: str) -> dict[str, str]:
        return openai_environment(self.name, url)

    def named(self, request: Request) -> tuple[str, str]:
        assert request.path == "/v1/chat/completions"
        return bearer_and_model(request)

    def answer(self, answer: Answer, *, streamed: bool) -> Response:
        finish = {"length": "length", "refusal": "stop"}.get(answer.stop, "tool_calls" if answer.calls else "stop")
        said = "refusal" if answer.stop == "refusal" else "content"
        calls = [
            {"id": c.id, "type": "function", "function": {"name": c.name, "arguments": c.arguments}}
            for c in answer.calls
        ]
        usage = {
            "prompt_tokens": TOKENS_IN,
            "completion_tokens": TOKENS_OUT,
            "total_tokens": TOKENS_IN + TOKENS_OUT,
            "prompt_tokens_details": {"cached_tokens": TOKENS_CACHED},
        }
        if not streamed:
            message = {"role": "assistant", said: answer.text or None, **({"tool_calls": calls} if calls else {})}
            choice = {"index": 0, "finish_reason": finish, "message": message}
            return Response(
                {
                    "id": "c",
                    "object": "chat.completion",
                    "created": 1,
                    "model": "m",
                    "choices": [choice],
                    "usage": usage,
                }
            )
        head = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}

        def chunk(delta: object, finish: str | None = None) -> str:
            return data({**head, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})

        events = [chunk({said: piece}) for piece in halves(answer.text)]
        for index, call in enumerate(calls):
            first = {"index": index, **call, "function": {"name": answer.calls[index].name, "arguments": ""}}
            events.append(chunk({"tool_calls": [first]}))
            for piece in halves(answer.calls[index].arguments):
                events.append(chunk({"tool_calls": [{"index": index, "function": {"arguments": piece}}]}))
        if answer.cut:
            return stream([*events, ""], answer)
        events += [chunk({}, finish), data({**head, "choices": [], "usage": usage}), "data: [DONE]\n\n"]
        return stream(events, answer)

    def failing(self, kind: str) -> Response:
        head = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
        first = {**head, "choices": [{"index": 0, "delta": {"content": "Half of"}, "finish_reason": None}]}
        return begun([data(first), data(self.error(500, kind).body)])

    def error(self, status: int, kind: str) -> Response:
        code = {"overflow": "context_length_exceeded", "rate": "rate_limit_exceeded"}.get(kind)
        message = OVERFLOW_WORDS if kind == "overflow" else f"error of kind {kind}"
        return Response({"error": {"message": message, "type": "invalid_request_error", "code": code}}, status=status)

    def asked(self, body: dict[str, Any]) -> Asked:
        messages = body["messages"]
        return Asked(
            system="".join(m["content"] for m in messages if m["role"] == "system"),
            turns=[(m["role"], m["content"]) for m in messages if m["role"] in ("user", "assistant") and m["content"]],
            calls=[
                (c["function"]["name"], json.loads(c["function"]["arguments"]))
                for m in messages
                for c in m.get("tool_calls", ())
            ],
            results=[m["content"] for m in messages if m["role"] == "tool"],
            tools=[tool["function"]["name"] for tool in body.get("tools", ())],
        )


class Responses:
    """OpenAI's responses."""

    name = "openai-responses"

    def environment(self, url: str) -> dict[str, str]:
        return openai_environment(self.name, url)

    def named(self, request: Request) -> tuple[str, str]:
        assert request.path == "/v1/responses"
        return bearer_and_model(request)

    def answer(self, answer: Answer, *, streamed: bool) -> Response:
        output: list[dict[str, Any]] = [
            {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "sealed"}
        ]
        if answer.text and answer.stop == "refusal":
            output.append(self._message({"type": "refusal", "refusal": answer.text}))
        elif answer.text:
            output.append(self._message({"type": "output_text", "text": answer.text, "annotations": []}))
        output += [
            {
                "type": "function_call",
                "id": f"fc_{call.id}",
                "call_id": call.id,
                "name": call.name,
                "arguments": call.arguments,
                "status": "completed",
            }
            for call in answer.calls
        ]
        whole = {
            "id": "resp_1",
            "object": "response",
            "created_at": 1,
            "model": "m",
            "status": "incomplete" if answer.stop == "length" else "completed",
            "incomplete_details": {"reason": "max_output_tokens"} if answer.stop == "length" else None,
            "error": None,
            "output": output,
            "parallel_tool_calls": True,
            "tool_choice": "auto",
            "tools": [],
            "usage": {
                "input_tokens": TOKENS_IN,
                "input_tokens_details": {"cached_tokens": TOKENS_CACHED, "cache_write_tokens": 0},
                "output_tokens": TOKENS_OUT,
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": TOKENS_IN + TOKENS_OUT,
            },
        }
        if not streamed:
            return Response(whole)
        kind = "response.refusal.delta" if answer.stop == "refusal" else "response.output_text.delta"
        where = {"item_id": "msg_1", "output_index": 1, "content_index": 0, "logprobs": []}
        bodies: list[dict[str, Any]] = [
            {"type": "response.created", "response": {**whole, "status": "in_progress", "output": []}}
        ]
        bodies += [{"type": kind, "delta": piece, **where} for piece in halves(answer.text)]
        last = "response.incomplete" if answer.stop == "length" else "response.completed"
        bodies.append({"type": last, "response": whole})
        numbered = [{**body, "sequence_number": number} for number, body in enumerate(bodies)]
        return stream([data(body, str(body["type"])) for body in numbered], answer)

    def _message(self, part: dict[str, Any]) -> dict[str, Any]:
        return {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [part]}

    def failing(self, kind: str) -> Response:
        code = "rate_limit_exceeded" if kind == "rate" else "server_error"
        where = {"item_id": "msg_1", "output_index": 1, "content_index": 0, "logprobs": []}
        first = {"type": "response.output_text.delta", "delta": "Half of", "sequence_number": 0, **where}
        body = self.answer(Answer(), streamed=False).body
        assert isinstance(body, dict)
        failed = {**body, "status": "failed", "output": [], "usage": None, "error": {"code": code, "message": kind}}
        last = {"type": "response.failed", "response": failed, "sequence_number": 1}
        return begun([data(first, str(first["type"])), data(last, "response.failed")])

    def error(self, status: int, kind: str) -> Response:
        return Chat().error(status, kind)

    def asked(self, body: dict[str, Any]) -> Asked:
        assert body["store"] is False
        turns = []
        for item in body["input"]:
            if item.get("role"):
                content = item["content"]
                turns.append((item["role"], content if isinstance(content, str) else content[0]["text"]))
        return Asked(
            system=body.get("instructions", ""),
            turns=turns,
            calls=[(i["name"], json.loads(i["arguments"])) for i in body["input"] if i.get("type") == "function_call"],
            results=[i["output"] for i in body["input"] if i.get("type") == "function_call_output"],
            tools=[tool["name"] for tool in body.get("tools", ())],
        )


class Anthropic:
    """Anthropic's messages."""

    name = "anthropic"

    def environment(self, url: str) -> dict[str, str]:
        named = {"ANTHROPIC_API_KEY": KEY, "ANTHROPIC_MODEL": MODEL, "ANTHROPIC_BASE_URL": url}
        return {"AUTONOUS_MODEL_PROVIDER": self.name, **named}

    def named(self, request: Request) -> tuple[str, str]:
        assert request.path == "/v1/messages"
        return bearer_and_model(request)

    def answer(self, answer: Answer, *, streamed: bool) -> Response:
        stop = {"length": "max_tokens", "refusal": "refusal"}.get(
            answer.stop, "tool_use" if answer.calls else "end_turn"
        )
        fresh = {
            "input_tokens": TOKENS_IN - TOKENS_CACHED - TOKENS_WRITTEN,
            "cache_creation_input_tokens": TOKENS_WRITTEN,
        }
        usage = {**fresh, "cache_read_input_tokens": TOKENS_CACHED, "output_tokens": TOKENS_OUT}
        head = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "stop_sequence": None}
        thought = {"type": "thinking", "thinking": "hm", "signature": "sealed"}
        texts = [{"type": "text", "text": answer.text}] if answer.text else []
        if not streamed:
            calls = [
                {"type": "tool_use", "id": c.id, "name": c.name, "input": json.loads(c.arguments)} for c in answer.calls
            ]
            return Response({**head, "content": [thought, *texts, *calls], "stop_reason": stop, "usage": usage})
        events: list[dict[str, Any]] = [
            {"type": "message_start", "message": {**head, "content": [], "stop_reason": None, "usage": usage}}
        ]
        blocks: list[tuple[dict[str, Any], list[dict[str, Any]]]] = [
            (
                {"type": "thinking", "thinking": "", "signature": ""},
                [{"type": "thinking_delta", "thinking": "hm"}, {"type": "signature_delta", "signature": "sealed"}],
            )
        ]
        if answer.text:
            deltas = [{"type": "text_delta", "text": piece} for piece in halves(answer.text)]
            blocks.append(({"type": "text", "text": ""}, deltas))
        for call in answer.calls:
            pieces = [{"type": "input_json_delta", "partial_json": piece} for piece in halves(call.arguments)]
            blocks.append(({"type": "tool_use", "id": call.id, "name": call.name, "input": {}}, pieces))
        for index, (block, deltas) in enumerate(blocks):
            events.append({"type": "content_block_start", "index": index, "content_block": block})
            events += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
            events.append({"type": "content_block_stop", "index": index})
        if answer.cut:
            return stream([*(data(event, event["type"]) for event in events), ""], answer)
        events.append(
            {
                "type": "message_delta",
                "delta": {"stop_reason": stop, "stop_sequence": None},
                "usage": {"output_tokens": TOKENS_OUT},
            }
        )
        events.append({"type": "message_stop"})
        return stream([data(event, event["type"]) for event in events], answer)

    def failing(self, kind: str) -> Response:
        body = self.answer(Answer("Half of it", cut=True), streamed=False).body
        assert isinstance(body, dict)
        start = {"type": "message_start", "message": {**body, "content": [], "stop_reason": None}}
        return begun([data(start, "message_start"), data(self.error(500, kind).body, "error")])

    def error(self, status: int, kind: str) -> Response:
        types = {"rate": "rate_limit_error", "server": "overloaded_error", "key": "authentication_error"}
        message = "prompt is too long: 9000 tokens > 8192 maximum" if kind == "overflow" else f"error of kind {kind}"
        error = {"type": types.get(kind, "invalid_request_error"), "message": message}
        return Response({"type": "error", "error": error}, status=status)

    def asked(self, body: dict[str, Any]) -> Asked:
        asked = Asked(body.get("system", ""), [], tools=[tool["name"] for tool in body.get("tools", ())])
        roles = [turn["role"] for turn in body["messages"]]
        assert all(one != other for one, other in pairwise(roles)), "sides take turns"
        for turn in body["messages"]:
            for block in turn["content"]:
                match block["type"]:
                    case "text":
                        asked.turns.append((turn["role"], block["text"]))
                    case "tool_use":
                        asked.calls.append((block["name"], block["input"]))
                    case "tool_result":
                        asked.results.append(block["content"])
                        assert block.get("is_error", False) == ('"ok": false' in block["content"])
        return asked


class Gemini:
    """Google's Gemini."""

    name = "gemini"

    def environment(self, url: str) -> dict[str, str]:
        named = {"GEMINI_API_KEY": KEY, "GEMINI_MODEL": MODEL, "GEMINI_BASE_URL": url}
        return {"AUTONOUS_MODEL_PROVIDER": self.name, **named}

    def named(self, request: Request) -> tuple[str, str]:
        model = re.fullmatch(r"/v1/models/([^:]+):\w+(\?alt=sse)?", request.path)
        assert model is not None
        return request.headers["x-goog-api-key"], model[1]

    def answer(self, answer: Answer, *, streamed: bool) -> Response:
        finish = {"length": "MAX_TOKENS", "refusal": "SAFETY"}.get(answer.stop, "STOP")
        usage = {
            "promptTokenCount": TOKENS_IN,
            "candidatesTokenCount": TOKENS_OUT - 2,
            "thoughtsTokenCount": 2,
            "cachedContentTokenCount": TOKENS_CACHED,
            "totalTokenCount": TOKENS_IN + TOKENS_OUT,
        }
        calls = [
            {
                "functionCall": {"id": c.id, "name": c.name, "args": json.loads(c.arguments)},
                "thoughtSignature": "c2VhbGVk",
            }
            for c in answer.calls
        ]

        def body(parts: Sequence[object], finish: str | None, *, usage: object = None) -> dict[str, object]:
            candidate = {"content": {"role": "model", "parts": list(parts)}, "index": 0}
            candidate |= {"finishReason": finish} if finish else {}
            return {"candidates": [candidate], **({"usageMetadata": usage} if usage else {}), "modelVersion": "m"}

        if not streamed:
            texts = [{"text": answer.text}] if answer.text else []
            return Response(body([*texts, *calls], finish, usage=usage))
        events = [data(body([{"text": piece}], None)) for piece in halves(answer.text)]
        events.append(data(body(calls, finish, usage=usage)))
        return stream(events, answer)

    def failing(self, kind: str) -> Response:
        first = {"candidates": [{"content": {"role": "model", "parts": [{"text": "Half of"}]}, "index": 0}]}
        return begun([data(first), data(self.error(429 if kind == "rate" else 503, kind).body)])

    def malformed_call(self, *, streamed: bool) -> Response:
        """The model wrote a call that its provider could not read."""
        body = {"candidates": [{"finishReason": "MALFORMED_FUNCTION_CALL", "index": 0}], "modelVersion": "m"}
        return begun([data(body)]) if streamed else Response(body)

    def error(self, status: int, kind: str) -> Response:
        statuses = {"rate": "RESOURCE_EXHAUSTED", "server": "UNAVAILABLE", "key": "UNAUTHENTICATED"}
        overflow = "The input token count (9000) exceeds the maximum number of tokens allowed (8192)."
        message = overflow if kind == "overflow" else f"error of kind {kind}"
        error = {"code": status, "message": message, "status": statuses.get(kind, "INVALID_ARGUMENT")}
        return Response({"error": error}, status=status)

    def asked(self, body: dict[str, Any]) -> Asked:
        system = "".join(part["text"] for part in body.get("systemInstruction", {}).get("parts", ()))
        declared = [d["name"] for tool in body.get("tools", ()) for d in tool["functionDeclarations"]]
        asked = Asked(system, [], tools=declared)
        for content in body["contents"]:
            for part in content["parts"]:
                if "functionCall" in part:
                    asked.calls.append((part["functionCall"]["name"], part["functionCall"].get("args", {})))
                    assert part["thoughtSignature"], "a call wants its signature back"
                elif "functionResponse" in part:
                    assert part["functionResponse"]["name"]
                    asked.results.append(part["functionResponse"]["response"]["output"])
                elif "text" in part:
                    role = "assistant" if content["role"] == "model" else "user"
                    asked.turns.append((role, part["text"]))
        return asked


WIRES: tuple[Wire, ...] = (Chat(), Responses(), Anthropic(), Gemini())
