"""What every adapter must do, shown for each with its real SDK against a server that speaks the real format.

Each is made from a worker's settings, as the worker makes it.
"""

import asyncio
import base64
import json
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.models.wires import WIRES, Gemini
from tests.models.wiring import (
    KEY,
    MODEL,
    TOKENS_CACHED,
    TOKENS_IN,
    TOKENS_OUT,
    TOKENS_WRITTEN,
    Answer,
    Asked,
    Call,
    TcpServer,
    Wire,
)
from tests.support.figures import CELL
from tests.worker.httpserver import HttpServer, Request, Response
from tests.worker.support import asynchronous, short_directory
from tests.worker.test_settings import loaded
from worker.factory import make_model
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
from worker.settings import SettingsError

QUESTION = (Message(Speaker.SYSTEM, "Be brief."), Message(Speaker.USER, "hello"))
TOOLS = (ToolSpec("time", "Tells the time.", {"type": "object", "properties": {"zone": {"type": "string"}}}),)
STREAMED = pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
EVERY = pytest.mark.parametrize("wire", WIRES, ids=lambda wire: wire.name)


RecordProperty = Callable[[str, object], None]


@pytest.fixture(scope="module", autouse=True)
def _sdks_are_imported() -> None:
    """Some take seconds on a busy machine, which are none of the first test's."""
    for wire in WIRES:
        asyncio.run(make_model(loaded(**wire.environment("http://127.0.0.1:9"))).close())


@pytest.fixture(autouse=True)
def _in_the_report(request: pytest.FixtureRequest, record_property: RecordProperty) -> None:
    """Each test is a cell of the table at the end."""
    callspec = getattr(request.node, "callspec", None)
    if callspec is not None and "wire" in callspec.params:
        case = request.node.originalname.removeprefix("test_").replace("_", " ")
        record_property(CELL, (case, callspec.params["wire"].name))


class Stage:
    """A model, and the server that it talks to with its answers in line."""

    def __init__(self, wire: Wire, answers: tuple[Response, ...]) -> None:
        self._wire = wire
        self._answers = deque(answers)
        self.requests: list[Asked] = []
        self.named: list[tuple[str, str]] = []
        self.misunderstood: AssertionError | LookupError | None = None
        self.server = TcpServer(Path("/nowhere"), self._handle)
        self.pieces: list[str] = []

    async def _handle(self, request: Request) -> Response:
        try:
            self.requests.append(self._wire.asked(json.loads(request.body)))
            self.named.append(self._wire.named(request))
        except (AssertionError, LookupError) as error:
            self.misunderstood = error
            raise
        return self._answers.popleft()

    async def ask(self, model: ModelProvider, *messages: Message, streamed: bool = False) -> CompletionResponse:
        on_text: OnText | None = self.pieces.append if streamed else None
        return await model.complete(messages or QUESTION, TOOLS, on_text)


@asynccontextmanager
async def stage(wire: Wire, *answers: Response, **more: str) -> AsyncIterator[tuple[Stage, ModelProvider]]:
    """``more`` are settings beside those that name the server."""
    here = Stage(wire, answers)
    await here.server.start()
    model = make_model(loaded(**wire.environment(here.server.url), **more))
    try:
        yield here, model
    finally:
        await model.close()
        await here.server.stop()
        if here.misunderstood is not None:  # what the adapter saw was only that the server hung up
            raise here.misunderstood


@EVERY
@STREAMED
@asynchronous
async def test_text_and_tokens(wire: Wire, streamed: bool) -> None:
    """Prompt, question and tools go out; the text comes back exactly, in pieces when streamed, with all its tokens."""
    async with stage(wire, wire.answer(Answer("  Hello, wörld.\n"), streamed=streamed)) as (here, model):
        answer = await here.ask(model, streamed=streamed)
        assert answer == CompletionResponse("  Hello, wörld.\n", TOKENS_IN, TOKENS_OUT, (), TOKENS_CACHED)
        assert answer.stop is Stop.END
        assert answer.written_tokens == (TOKENS_WRITTEN if wire.name == "anthropic" else 0)
        assert here.requests == [Asked("Be brief.", [("user", "hello")], tools=["time"])]
        if streamed:
            assert len(here.pieces) > 1
            assert "".join(here.pieces) == answer.text


@EVERY
@asynchronous
async def test_key_and_model_are_those_of_the_settings(wire: Wire) -> None:
    """As the model that is asked first, and as the one that is turned to, which has a name of its own."""
    answers = (wire.answer(Answer("fine"), streamed=False), wire.error(500, "server"))
    chain = {"AUTONOUS_MODEL_FALLBACK": f"{wire.name}:another", "AUTONOUS_CONTROL_CIRCUIT_THRESHOLD": "1"}
    async with stage(wire, *answers, wire.answer(Answer("fine, too"), streamed=False), **chain) as (here, model):
        assert (model.provider, model.model_name) == (wire.name, MODEL)
        assert (await here.ask(model)).spoken_by == ""
        assert (await here.ask(model)).spoken_by == f"{wire.name}:another"
        assert here.named == [(KEY, MODEL), (KEY, MODEL), (KEY, "another")]


@pytest.mark.parametrize("wire", WIRES[:2], ids=lambda wire: wire.name)
@asynchronous
async def test_a_server_on_a_unix_socket(wire: Wire) -> None:
    """AUTONOUS_OPENAI_UDS alone says where OpenAI's formats are spoken; no name is looked up."""
    named: list[tuple[str, str]] = []

    async def handle(request: Request) -> Response:
        named.append(wire.named(request))
        return wire.answer(Answer("fine"), streamed=False)

    with short_directory() as directory:
        server = HttpServer(directory / "openai.sock", handle)
        await server.start()
        by_name = wire.environment("http://127.0.0.1:9")
        by_name.pop("OPENAI_BASE_URL")
        model = make_model(loaded(**by_name, AUTONOUS_OPENAI_UDS=str(server.path)))
        try:
            assert (await model.complete(QUESTION, TOOLS)).text == "fine"
        finally:
            await model.close()
            await server.stop()
    assert named == [(KEY, MODEL)]


@pytest.mark.parametrize(
    ("wire", "sdk"), [(WIRES[2], "anthropic"), (WIRES[3], "google.genai")], ids=["anthropic", "gemini"]
)
def test_an_image_without_the_sdk(wire: Wire, sdk: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The setting is named that cannot be used; another provider's adapter wants nothing of it."""
    monkeypatch.setitem(sys.modules, sdk, None)
    monkeypatch.delitem(sys.modules, f"worker.models.{wire.name}", raising=False)
    with pytest.raises(SettingsError, match=f"AUTONOUS_MODEL_PROVIDER={wire.name} cannot be used: its SDK"):
        make_model(loaded(**wire.environment("http://127.0.0.1:9")))
    asyncio.run(make_model(loaded(**WIRES[0].environment("http://127.0.0.1:9"))).close())


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


@EVERY
@pytest.mark.parametrize("kind", ["server", "rate"])
def test_an_error_in_the_middle_of_a_stream(wire: Wire, kind: str) -> None:
    """It is the provider's, and what was said before it is no answer."""

    @asynchronous
    async def ask() -> None:
        async with stage(wire, wire.failing(kind)) as (here, model):
            with pytest.raises(ProviderApiError):
                await here.ask(model, streamed=True)
            assert len(here.requests) == 1

    ask()


@pytest.mark.parametrize("wire", [WIRES[1]], ids=["openai-responses"])
@asynchronous
async def test_a_failure_that_names_its_reason(wire: Wire) -> None:
    """A response that failed for want of quota is a rate limit, though its status was 200."""
    async with stage(wire, wire.failing("rate")) as (here, model):
        with pytest.raises(RateLimited):
            await here.ask(model, streamed=True)


@pytest.mark.parametrize("wire", [WIRES[3]], ids=["gemini"])
@asynchronous
async def test_a_wait_that_the_body_asks_for(wire: Wire) -> None:
    """Gemini says it in a detail of its error, and in no header."""
    refused = wire.error(429, "rate")
    assert isinstance(refused.body, dict)
    named = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "37.5s"}
    quota = {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": []}
    refused.body["error"]["details"] = [quota, named]
    async with stage(wire, refused) as (here, model):
        with pytest.raises(RateLimited) as caught:
            await here.ask(model)
        assert caught.value.retry_after == 37.5


#: In an answer in one piece, Anthropic's arguments are an object; Gemini's always are.
WRITTEN = [
    (wire, streamed) for wire in WIRES for streamed in (True, False) if wire.name in ("openai", "openai-responses")
] + [(WIRES[2], True)]


@pytest.mark.parametrize(("wire", "streamed"), WRITTEN, ids=lambda value: getattr(value, "name", value))
@pytest.mark.parametrize(("written", "problem"), [('{"zone', "not JSON"), ("[1]", "not an object")])
def test_malformed_arguments_are_the_models_to_mend(wire: Wire, streamed: bool, written: str, problem: str) -> None:
    """The call comes with the reason, and can be sent back with its error."""

    @asynchronous
    async def ask() -> None:
        asked = wire.answer(Answer(calls=(Call("a1", "time", written),)), streamed=streamed)
        async with stage(wire, asked, wire.answer(Answer("sorry"), streamed=streamed)) as (here, model):
            (call,) = (await here.ask(model, streamed=streamed)).tool_calls
            assert (call.id, call.name, call.arguments) == ("a1", "time", {})
            assert problem in call.problem
            said = (Message(Speaker.ASSISTANT, "", (call,)), Message(Speaker.TOOL, "no", tool_call_id="a1"))
            assert (await here.ask(model, *QUESTION, *said, streamed=streamed)).text == "sorry"

    ask()


@pytest.mark.parametrize("wire", [WIRES[3]], ids=["gemini"])
@STREAMED
def test_a_call_that_the_provider_could_not_read(wire: Gemini, streamed: bool) -> None:
    """Gemini keeps what the model wrote to itself: there is nothing to mend, and the attempt is made again."""

    @asynchronous
    async def ask() -> None:
        async with stage(wire, wire.malformed_call(streamed=streamed)) as (here, model):
            with pytest.raises(ValidationError, match="MALFORMED_FUNCTION_CALL"):
                await here.ask(model, streamed=streamed)

    ask()


@STREAMED
def test_the_stand_in_answers_like_the_others(streamed: bool, record_property: RecordProperty) -> None:
    """Text, pieces, several calls, and errors of the classes that the control layer knows."""
    record_property(CELL, ("text, calls and errors by a script", "dummy"))
    calls = {"tool_calls": [{"name": "time", "arguments": {"zone": "UTC"}}, {"name": "time"}], "final_answer": "Wait."}
    said = ",".join(f"msgb64:{base64.b64encode(text.encode()).decode()}" for text in ("  Hello.", json.dumps(calls)))
    chosen = {"AUTONOUS_MODEL_PROVIDER": "dummy", "AUTONOUS_DUMMY_PROVIDER_SCRIPT": f"{said},err:provider_api"}

    @asynchronous
    async def ask() -> None:
        model, pieces = make_model(loaded(**chosen)), list[str]()
        on_text = pieces.append if streamed else None
        answer = await model.complete(QUESTION, TOOLS, on_text)
        assert (answer.text, answer.stop, answer.tool_calls) == ("  Hello.", Stop.END, ())
        answer = await model.complete(QUESTION, TOOLS, on_text)
        assert [(call.name, call.arguments) for call in answer.tool_calls] == [("time", {"zone": "UTC"}), ("time", {})]
        assert len({call.id for call in answer.tool_calls}) == 2
        assert "".join(pieces) == ("  Hello.Wait." if streamed else "")
        with pytest.raises(ModelError) as caught:
            await model.complete(QUESTION, TOOLS, on_text)
        assert caught.value.error_class == "provider_api"
        await model.close()

    ask()
