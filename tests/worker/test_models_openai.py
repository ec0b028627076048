"""The openai adapter against a real server on a Unix socket."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.worker.fakes import FakeOpenAI, completion
from tests.worker.httpserver import Response
from tests.worker.support import asynchronous, short_directory
from worker.models.base import Message, ModelError, ProviderApiError, Speaker, ToolCall, ValidationError
from worker.models.openai import OpenAIModel


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


@asynchronous
async def test_tool_calls_are_translated() -> None:
    """A call comes with its arguments; arguments that are no JSON object are a validation error."""
    call = {"id": "1", "type": "function", "function": {"name": "time", "arguments": '{"zone": "UTC"}'}}
    broken = {"id": "2", "type": "function", "function": {"name": "time", "arguments": "{zone"}}
    answers = (completion(None, tool_calls=[call]), completion(None, tool_calls=[broken]))
    async with model_and_server(*answers) as (model, _):
        answer = await model.complete([Message(Speaker.USER, "what time is it?")])
        assert answer.tool_calls == (ToolCall("1", "time", {"zone": "UTC"}),)
        with pytest.raises(ValidationError):
            await model.complete([Message(Speaker.USER, "what time is it?")])
