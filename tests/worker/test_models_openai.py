"""The openai adapter against a real server on a Unix socket."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.worker.fakes import FakeOpenAI, completion
from tests.worker.httpserver import Response
from tests.worker.support import asynchronous, short_directory
from worker.models.base import (
    CompletionResponse,
    Message,
    ModelError,
    ProviderApiError,
    Speaker,
    ToolCall,
    ToolSpec,
    ValidationError,
)
from worker.models.openai import OpenAIModel

QUESTION = [Message(Speaker.USER, "hello")]


@asynccontextmanager
async def model_and_server(*answers: Response) -> AsyncIterator[tuple[OpenAIModel, FakeOpenAI]]:
    with short_directory() as directory:
        fake = FakeOpenAI(directory / "openai.sock", *answers)
        await fake.server.start()
        model = OpenAIModel(api_key="sk-test", base_url=None, model="some-model", socket=str(fake.server.path))
        try:
            yield model, fake
        finally:
            await model.close()
            await fake.server.stop()


@asynchronous
async def test_a_completion_with_its_tokens() -> None:
    """Messages go out in the API's format; text and the provider's own token counts come back."""
    async with model_and_server(completion("  exactly this\n")) as (model, fake):
        messages = [Message(Speaker.SYSTEM, "be brief"), Message(Speaker.USER, "hello")]
        answer = await model.complete(messages)
        assert (answer.text, answer.input_tokens, answer.output_tokens) == ("  exactly this\n", 7, 3)
        assert fake.requests == [
            {
                "model": "some-model",
                "messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hello"}],
            }
        ]


@asynchronous
async def test_the_sdk_does_not_retry_by_itself() -> None:
    """One failed call is one request: retries are the control layer's."""
    async with model_and_server(Response({"error": {"message": "overloaded"}}, status=500)) as (model, fake):
        with pytest.raises(ProviderApiError, match="overloaded"):
            await model.complete([Message(Speaker.USER, "hello")])
        assert len(fake.requests) == 1


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (Response({"error": {"message": "slow down"}}, status=429), ProviderApiError),
        (Response({"error": {"message": "bad key"}}, status=401), ProviderApiError),
        (Response(hang_up=True), ProviderApiError),
        (Response({"id": "c", "object": "chat.completion", "choices": []}), ValidationError),
        (Response({"choices": [{}]}), ValidationError),
        (Response({"hello": "there"}), ValidationError),
        (Response("just text"), ValidationError),
        (Response(b"{broken"), ValidationError),
    ],
)
def test_errors_are_typed(answer: Response, error: type[ModelError]) -> None:
    """Whatever goes wrong is one of the classes that the control layer knows."""

    @asynchronous
    async def ask() -> None:
        async with model_and_server(answer) as (model, _):
            with pytest.raises(error):
                await model.complete([Message(Speaker.USER, "hello")])

    ask()


def call(arguments: str, **more: object) -> dict[str, object]:
    return {"id": "1", "type": "function", "function": {"name": "time", "arguments": arguments}, **more}


@pytest.mark.parametrize(
    ("arguments", "expected", "problem"),
    [
        ('{"zone": "UTC"}', {"zone": "UTC"}, ""),
        ("", {}, ""),
        ("{zone", {}, "not JSON"),
        ("[1]", {}, "not an object"),
    ],
)
def test_tool_calls_are_translated(arguments: str, expected: dict[str, object], problem: str) -> None:
    """A call comes with its arguments; with such as cannot be read comes the reason, for the model."""

    @asynchronous
    async def ask() -> None:
        async with model_and_server(completion(None, tool_calls=[call(arguments)])) as (model, _):
            (made,) = (await model.complete(QUESTION)).tool_calls
            assert (made.id, made.name, made.arguments) == ("1", "time", expected)
            assert problem in made.problem
            assert bool(made.problem) == bool(problem)

    ask()


@asynchronous
async def test_calls_and_results_go_back_in_the_apis_format() -> None:
    """Tools are offered with their schema; a call and its result come as the API wants them."""
    async with model_and_server(completion("noon")) as (model, fake):
        made = ToolCall("7", "time", {"zone": "UTC"})
        asked = Message(Speaker.ASSISTANT, "", tool_calls=(made,))
        messages = [*QUESTION, asked, Message(Speaker.TOOL, '{"utc":"12"}', tool_call_id="7")]
        await model.complete(messages, [ToolSpec("time", "Tells the time.", {"type": "object"})])
        request = fake.requests[0]
        function = {"name": "time", "arguments": '{"zone": "UTC"}'}
        assert request["messages"] == [
            {"role": "user", "content": "hello"},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": "7", "type": "function", "function": function}],
            },
            {"role": "tool", "content": '{"utc":"12"}', "tool_call_id": "7"},
        ]
        described = {"name": "time", "description": "Tells the time.", "parameters": {"type": "object"}}
        assert request["tools"] == [{"type": "function", "function": described}]


async def events(*chunks: dict[str, object] | str) -> AsyncIterator[bytes]:
    for chunk in chunks:
        text = chunk if isinstance(chunk, str) else json.dumps({"id": "c", "object": "chat.completion.chunk", **chunk})
        yield f"data: {text}\n\n".encode()


def delta(finish: str | None = None, **fields: object) -> dict[str, object]:
    return {"choices": [{"index": 0, "delta": fields, "finish_reason": finish}]}


def part(index: int, **fields: object) -> dict[str, object]:
    return delta(tool_calls=[{"index": index, **fields}])


USAGE: dict[str, object] = {
    "choices": [],
    "usage": {
        "prompt_tokens": 9,
        "completion_tokens": 4,
        "total_tokens": 13,
        "prompt_tokens_details": {"cached_tokens": 8},
    },
}


def streamed(*chunks: dict[str, object] | str) -> Response:
    return Response(stream=events(*chunks), content_type="text/event-stream")


@asynchronous
async def test_an_answer_is_streamed() -> None:
    """Text comes piece by piece, calls are put together from their pieces, tokens come with the end."""
    chunks = (
        delta(role="assistant", content="It "),
        delta(content="is"),
        part(0, id="a", function={"name": "time", "arguments": '{"zo'}),
        part(1, id="b", function={"name": "ls", "arguments": ""}),
        part(0, function={"arguments": 'ne":"UTC"}'}),
        delta("tool_calls"),
        USAGE,
        "[DONE]",
    )
    pieces: list[str] = []
    async with model_and_server(streamed(*chunks)) as (model, fake):
        answer = await model.complete(QUESTION, on_text=pieces.append)
        assert pieces == ["It ", "is"]
        assert answer == CompletionResponse(
            "It is", 9, 4, (ToolCall("a", "time", {"zone": "UTC"}), ToolCall("b", "ls", {})), cached_tokens=8
        )
        assert fake.requests[0]["stream_options"] == {"include_usage": True}


@asynchronous
async def test_without_usage_the_tokens_are_estimated() -> None:
    """A server that counts nothing cannot put the limits out of force."""
    async with model_and_server(streamed(delta(content="twelve chars"), delta("stop"))) as (model, _):
        answer = await model.complete(QUESTION, on_text=lambda _: None)
        assert (answer.input_tokens, answer.output_tokens, answer.estimated) == (2, 3, True)


@pytest.mark.parametrize(
    "broken",
    [
        (delta(content="half of"),),
        (delta(content="half of"), {"error": {"message": "overloaded"}}),
        (delta(content="half of"), "hang up"),
    ],
)
def test_a_stream_that_breaks_off_is_an_error(broken: tuple[dict[str, object] | str, ...]) -> None:
    """Half an answer is none, whether the server says so, hangs up, or just ends."""
    if broken[-1] == "hang up":
        answer = Response(stream=events(*broken[:-1]), content_type="text/event-stream", cut=True)
    else:
        answer = streamed(*broken)

    @asynchronous
    async def ask() -> None:
        async with model_and_server(answer) as (model, _):
            with pytest.raises(ProviderApiError):
                await model.complete(QUESTION, on_text=lambda _: None)

    ask()


@asynchronous
async def test_a_server_that_does_not_stream_is_asked_plainly() -> None:
    """Refused for its form, the request is made plainly, and so from then on; a plain answer to a stream is taken."""
    refused = Response({"error": {"message": "unknown field stream_options"}}, status=400)
    async with model_and_server(refused, completion("one"), completion("two")) as (model, fake):
        assert (await model.complete(QUESTION, on_text=lambda _: None)).text == "one"
        assert (await model.complete(QUESTION, on_text=lambda _: None)).text == "two"
        assert [request.get("stream") for request in fake.requests] == [True, None, None]
    async with model_and_server(completion("plain")) as (model, fake):
        assert (await model.complete(QUESTION, on_text=lambda _: None)).text == "plain"


@asynchronous
async def test_a_refusal_is_an_answer() -> None:
    """What a model says in place of an answer is shown."""
    async with model_and_server(completion(None, refusal="No.")) as (model, _):
        assert (await model.complete(QUESTION)).text == "No."
