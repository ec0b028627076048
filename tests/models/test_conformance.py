"""What every adapter must do, shown for each with its real SDK against a server that speaks the real format."""

import json
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.models.wires import TOKENS_CACHED, TOKENS_IN, TOKENS_OUT, WIRES, Answer, Asked, Call, TcpServer, Wire
from tests.worker.httpserver import Request, Response
from tests.worker.support import asynchronous
from worker.models.base import (
    CompletionResponse,
    ContextOverflow,
    Message,
    ModelError,
    ModelProvider,
    OnText,
    ProviderApiError,
    RateLimited,
    Speaker,
    Stop,
    ToolCall,
    ToolSpec,
    ValidationError,
)

QUESTION = (Message(Speaker.SYSTEM, "Be brief."), Message(Speaker.USER, "hello"))
TOOLS = (ToolSpec("time", "Tells the time.", {"type": "object", "properties": {"zone": {"type": "string"}}}),)
STREAMED = pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
EVERY = pytest.mark.parametrize("wire", WIRES, ids=lambda wire: wire.name)


class Stage:
    """A model, and the server that it talks to with its answers in line."""

    def __init__(self, wire: Wire, answers: tuple[Response, ...]) -> None:
        self._wire = wire
        self._answers = deque(answers)
        self.requests: list[Asked] = []
        self.server = TcpServer(Path("/nowhere"), self._handle)
        self.pieces: list[str] = []

    async def _handle(self, request: Request) -> Response:
        self.requests.append(self._wire.asked(json.loads(request.body)))
        return self._answers.popleft()

    async def ask(self, model: ModelProvider, *messages: Message, streamed: bool = False) -> CompletionResponse:
        on_text: OnText | None = self.pieces.append if streamed else None
        return await model.complete(messages or QUESTION, TOOLS, on_text)


@asynccontextmanager
async def stage(wire: Wire, *answers: Response) -> AsyncIterator[tuple[Stage, ModelProvider]]:
    here = Stage(wire, answers)
    await here.server.start()
    model = wire.model(here.server.url)
    try:
        yield here, model
    finally:
        await model.close()
        await here.server.stop()


@EVERY
@STREAMED
@asynchronous
async def test_text_and_tokens(wire: Wire, streamed: bool) -> None:
    """Prompt, question and tools go out; the text comes back exactly, in pieces when streamed, with all its tokens."""
    async with stage(wire, wire.answer(Answer("  Hello, wörld.\n"), streamed=streamed)) as (here, model):
        answer = await here.ask(model, streamed=streamed)
        assert answer == CompletionResponse("  Hello, wörld.\n", TOKENS_IN, TOKENS_OUT, (), TOKENS_CACHED)
        assert answer.stop is Stop.END
        assert here.requests == [Asked("Be brief.", [("user", "hello")], tools=["time"])]
        if streamed:
            assert len(here.pieces) > 1
            assert "".join(here.pieces) == answer.text


@EVERY
@STREAMED
@asynchronous
async def test_several_calls_and_their_results(wire: Wire, streamed: bool) -> None:
    """Two calls beside a text; calls, results and a tool's error go back in their order, and the next answer comes."""
    asked = Answer("Let me see.", (Call("a1", "time", '{"zone": "UTC"}'), Call("a2", "time", "{}")))
    answers = wire.answer(asked, streamed=streamed), wire.answer(Answer("Noon."), streamed=streamed)
    async with stage(wire, *answers) as (here, model):
        first = await here.ask(model, streamed=streamed)
        assert (first.text, first.stop) == ("Let me see.", Stop.TOOL_CALLS)
        assert first.tool_calls == (ToolCall("a1", "time", {"zone": "UTC"}), ToolCall("a2", "time", {}))
        error = '{"ok": false, "exit_code": 1, "stderr": "the spring is broken"}'
        said = (
            Message(Speaker.ASSISTANT, first.text, first.tool_calls),
            Message(Speaker.TOOL, '{"utc": "12"}', tool_call_id="a1"),
            Message(Speaker.TOOL, error, tool_call_id="a2"),
        )
        assert (await here.ask(model, *QUESTION, *said, streamed=streamed)).text == "Noon."
        request = here.requests[1]
        assert request.turns == [("user", "hello"), ("assistant", "Let me see.")]
        assert request.calls == [("time", {"zone": "UTC"}), ("time", {})]
        assert request.results == ['{"utc": "12"}', error]


@EVERY
@asynchronous
async def test_a_conversation_of_another_process(wire: Wire) -> None:
    """Calls that this process never saw, or that were cut, go out all the same; also two questions in a row."""
    made = (ToolCall("z9", "time", {"cut": "…"}),)
    said = (
        *QUESTION,
        Message(Speaker.USER, "and this"),
        Message(Speaker.ASSISTANT, "", made),
        Message(Speaker.TOOL, "noon", tool_call_id="z9"),
    )
    async with stage(wire, wire.answer(Answer("fine"), streamed=False)) as (here, model):
        assert (await here.ask(model, *said)).text == "fine"
        assert here.requests[0].calls == [("time", {"cut": "…"})]
        assert here.requests[0].results == ["noon"]
        assert here.requests[0].turns == [("user", "hello"), ("user", "and this")]


@EVERY
@STREAMED
@pytest.mark.parametrize(("stop", "expected"), [("length", Stop.LENGTH), ("refusal", Stop.REFUSAL)])
def test_why_an_answer_ends(wire: Wire, streamed: bool, stop: str, expected: Stop) -> None:
    """A limit on the answer, and a refusal, are told apart from an end."""

    @asynchronous
    async def ask() -> None:
        async with stage(wire, wire.answer(Answer("I will not", stop=stop), streamed=streamed)) as (here, model):
            answer = await here.ask(model, streamed=streamed)
            assert (answer.text, answer.stop) == ("I will not", expected)

    ask()


@EVERY
@pytest.mark.parametrize(
    ("status", "kind", "error"),
    [
        (429, "rate", RateLimited),
        (500, "server", ProviderApiError),
        (503, "server", ProviderApiError),
        (529, "server", ProviderApiError),
        (401, "key", ProviderApiError),
        (400, "overflow", ContextOverflow),
    ],
)
@STREAMED
def test_refusals_are_typed(wire: Wire, status: int, kind: str, error: type[ModelError], streamed: bool) -> None:
    """Each is the error that the control layer knows, after one request: the SDK does not retry by itself."""

    @asynchronous
    async def ask() -> None:
        async with stage(wire, wire.error(status, kind)) as (here, model):
            with pytest.raises(error) as caught:
                await here.ask(model, streamed=streamed)
            assert type(caught.value) is error
            assert len(here.requests) == 1
            assert isinstance(caught.value, ProviderApiError)
            if isinstance(caught.value, RateLimited):
                assert caught.value.retry_after is None

    ask()


@EVERY
@asynchronous
async def test_the_wait_that_a_provider_asks_for(wire: Wire) -> None:
    """A 429 with a retry-after says how long."""
    refused = replace(wire.error(429, "rate"), headers={"Retry-After": "7"})
    async with stage(wire, refused) as (here, model):
        with pytest.raises(RateLimited) as caught:
            await here.ask(model)
        assert caught.value.retry_after == 7.0


@EVERY
@asynchronous
async def test_what_breaks_off_is_no_answer(wire: Wire) -> None:
    """A server that hangs up, at once or in the middle of a stream."""
    for broken in (Response(hang_up=True), wire.answer(Answer("half of it", cut=True), streamed=True)):
        async with stage(wire, broken) as (here, model):
            with pytest.raises(ProviderApiError):
                await here.ask(model, streamed=True)


@EVERY
@asynchronous
async def test_an_answer_that_is_none(wire: Wire) -> None:
    """Something else than the format is a validation error, or one of the provider's; nothing else comes through."""
    for nonsense in (Response({"hello": "there"}), Response(b"{broken"), Response("just text")):
        async with stage(wire, nonsense) as (here, model):
            with pytest.raises((ValidationError, ProviderApiError)):
                await here.ask(model)


#: Gemini's arguments come as an object within the answer, so they cannot be other than JSON.
@pytest.mark.parametrize("wire", [wire for wire in WIRES if wire.name != "gemini"], ids=lambda wire: wire.name)
@pytest.mark.parametrize(("written", "problem"), [('{"zone', "not JSON"), ("[1]", "not an object")])
def test_malformed_arguments_are_the_models_to_mend(wire: Wire, written: str, problem: str) -> None:
    """The call comes with the reason, and can be sent back with its error."""

    @asynchronous
    async def ask() -> None:
        asked = wire.answer(Answer(calls=(Call("a1", "time", written),)), streamed=True)
        async with stage(wire, asked, wire.answer(Answer("sorry"), streamed=True)) as (here, model):
            (call,) = (await here.ask(model, streamed=True)).tool_calls
            assert (call.id, call.name, call.arguments) == ("a1", "time", {})
            assert problem in call.problem
            said = (Message(Speaker.ASSISTANT, "", (call,)), Message(Speaker.TOOL, "no", tool_call_id="a1"))
            assert (await here.ask(model, *QUESTION, *said, streamed=True)).text == "sorry"

    ask()
