"""Runs of several turns: tools, their errors, and what a run that was cut goes on from."""

import asyncio
import base64
import json
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from supervisor.contract import Role, WorkerState
from tests.worker.fakes import OWNER, FakeOpenAI, completion
from tests.worker.httpserver import Response
from tests.worker.support import World, asynchronous, open_store, until, world
from worker.models.base import CompletionResponse
from worker.tools.base import Tier, Tool, ToolError, ToolResult
from worker.tools.registry import TOOLS
from worker.tools.server import Toolbox
from worker.tools.workplace import Workplace

CALLS = [{"id": "1", "type": "function", "function": {"name": "time", "arguments": "{}"}}]
TREE = "SELECT e.event_type, p.event_type FROM events e JOIN events p ON p.id = e.parent_id ORDER BY e.id"


class Clockwork:
    """A toolbox whose ``time`` does what it is told: "break", "hang", else that is the time it tells.

    Each call is a process of its own, so what they did stands in a file.
    """

    def __init__(self, *orders: str) -> None:
        self._orders = orders
        self._log = Path()

    @property
    def begun(self) -> int:
        return self._said("begun")

    @property
    def cancelled(self) -> int:
        return self._said("cancelled")

    def _said(self, what: str) -> int:
        return self._log.read_text().split().count(what) if self._log.is_file() else 0

    def _say(self, what: str) -> None:
        with self._log.open("a") as log:
            log.write(f"{what}\n")

    def _stop(self, signum: int, frame: object) -> None:
        self._say("cancelled")
        sys.exit(1)

    def _time(self, arguments: object, workplace: Workplace) -> ToolResult:
        number = self.begun
        order = self._orders[number] if number < len(self._orders) else "noon"
        signal.signal(signal.SIGTERM, self._stop)
        self._say("begun")
        if order == "break":
            raise ToolError("broken", "the spring is broken")
        time.sleep(60 if order == "hang" else 0)
        return ToolResult(ok=True, stdout=order)

    @asynccontextmanager
    async def serve(self, here: World) -> AsyncIterator[dict[str, Any]]:
        """Gives the settings of a worker that uses it, and in which no repetition is a stall."""
        stop, path = asyncio.Event(), here.directory / "toolbox.sock"
        self._log = here.directory / "calls"
        tool = Tool("time", "", TOOLS["time"].arguments, self._time, Tier.READ)
        toolbox = Toolbox({"time": tool}, Workplace(here.directory, (here.directory,)))
        serving = asyncio.create_task(toolbox.serve(path, stop))
        await until(path.exists)
        try:
            yield {"autonous_toolbox_socket": str(path), "autonous_control_no_progress_k": 99}
        finally:
            stop.set()
            await serving


def asks(*names: str, **arguments: object) -> str:
    """A step of the dummy model's script: it asks for these tools."""
    calls = [{"name": name, "arguments": arguments} for name in names]
    return f"msgb64:{base64.b64encode(json.dumps({'tool_calls': calls}).encode()).decode()}"


@asynccontextmanager
async def openai(here: World, *answers: Response) -> AsyncIterator[tuple[FakeOpenAI, dict[str, Any]]]:
    """A model server, and the settings of a worker that uses it."""
    fake = FakeOpenAI(here.directory / "openai.sock", *answers)
    await fake.server.start()
    settings = {
        "autonous_model_provider": "openai",
        "openai_api_key": "sk-test",
        "autonous_openai_uds": str(fake.server.path),
    }
    try:
        yield fake, settings
    finally:
        await fake.server.stop()


def said(fake: FakeOpenAI, request: int) -> list[tuple[str, Any]]:
    messages: Any = fake.requests[request]["messages"]
    return [(message["role"], message.get("content")) for message in messages]


@asynchronous
async def test_turns_and_tools_hang_in_one_tree() -> None:
    """Two calls in one turn run in order, then the model answers; every event has its place."""
    async with world() as here, Clockwork("one", "two").serve(here) as settings:
        script = f"{asks('time', 'time')},msg:it is late"
        async with here.active_worker(**settings, autonous_dummy_provider_script=script):
            await here.telegram.say("what time is it?")
            await until(lambda: here.events("reply.sent"))
        assert here.telegram.texts() == ["it is late"]
        began, done = ("tool_call.started", "turn.started"), ("tool_call.completed", "tool_call.started")
        call = [began, ("tool_call.allowed", "tool_call.started"), done]
        turn = [("turn.started", "agent.started"), ("turn.completed", "turn.started")]
        begin = [("agent.started", "process.started"), ("context.assembled", "agent.started")]
        end = [("agent.completed", "agent.started"), ("reply.sent", "agent.started")]
        assert here.rows(TREE)[1:] == [*begin, *turn, *call, *call, *turn, *end]
        assert [json.loads(result)["stdout"] for (result,) in here.rows("SELECT result FROM tool_calls")] == [
            "one",
            "two",
        ]
        ended = here.events("agent.completed")[0]
        assert (ended["turns"], ended["tool_calls"], ended["input_tokens"], ended["output_tokens"]) == (2, 2, 2, 2)
        assert [turn["turn"] for turn in here.events("turn.completed")] == [1, 2]
        assert here.rows("SELECT role, text FROM history")[-1] == ("assistant", "it is late")


@asynchronous
async def test_tool_errors_are_the_models_to_mend() -> None:
    """A broken tool, an unknown one, wrong arguments and such as are no JSON: the model is told, and goes on."""
    wrong = [
        {"id": "1", "type": "function", "function": {"name": "time", "arguments": "{}"}},
        {"id": "2", "type": "function", "function": {"name": "rm", "arguments": "{}"}},
        {"id": "3", "type": "function", "function": {"name": "time", "arguments": '{"zone":"UTC"}'}},
        {"id": "4", "type": "function", "function": {"name": "time", "arguments": "{oops"}},
    ]
    answers = (completion(None, tool_calls=wrong), completion("sorry"))
    async with world() as here, Clockwork("break").serve(here) as settings, openai(here, *answers) as (fake, model):
        async with here.active_worker(**settings, **model):
            await here.telegram.say("hello")
            await until(lambda: here.telegram.texts() == ["sorry"])
        codes = ["broken", "unknown_tool", "bad_arguments", "bad_arguments"]
        assert [event["code"] for event in here.events("tool_call.failed")] == codes
        results = [json.loads(text) for role, text in said(fake, 1) if role == "tool"]
        assert [result["meta"]["code"] for result in results] == codes
        assert [result["exit_code"] for result in results] == [1, None, None, None]
        assert results[0]["stderr"] == "the spring is broken"
        classes = ["tool_exec", "validation", "validation", "validation"]
        assert [event["error_class"] for event in here.events("tool_call.failed")] == classes
        assert here.rows("SELECT status, attempts FROM inbox") == [("done", 1)]


@asynchronous
async def test_half_a_surrogate_pair_is_told_to_the_model() -> None:
    """In a call's arguments: the call is not made. In the text of an answer it is replaced. Neither is an error."""
    calls = [{"id": "1", "type": "function", "function": {"name": "time", "arguments": '{"zone":"\\ud83d"}'}}]
    answers = (completion("look \ud83d", tool_calls=calls), completion("done \ud83d"))
    async with world() as here, Clockwork().serve(here) as settings, openai(here, *answers) as (fake, model):
        async with here.active_worker(**settings, **model):
            await here.telegram.say("time?")
            await until(lambda: here.telegram.texts() == ["done \ufffd"])
        assert "surrogate" in said(fake, 1)[-1][1]
        assert here.events("tool_call.failed")[0]["error_class"] == "validation"
        assert here.events("agent.failed") == []


@asynchronous
async def test_a_retry_goes_on_from_the_recorded_turns() -> None:
    """The provider fails in the second turn: the next attempt shows it the first one, and runs no tool again."""
    answers = (completion("let me see", tool_calls=CALLS), Response(status=500), completion("noon it is"))
    clockwork = Clockwork("noon")
    async with world() as here, clockwork.serve(here) as settings, openai(here, *answers) as (fake, model):
        async with here.active_worker(**settings, **model):
            await here.telegram.say("time?")
            await until(lambda: here.telegram.texts() == ["noon it is"])
        assert clockwork.begun == 1
        assert said(fake, 1) == said(fake, 2)
        assert said(fake, 2)[-2] == ("assistant", "let me see")
        assert json.loads(said(fake, 2)[-1][1])["stdout"] == "noon"
        failed = [event.get("error_class") for event in here.events("turn.completed")]
        assert failed == [None, "provider_api", None]
        assert here.events("agent.completed")[0]["turns"] == 2


@asynchronous
async def test_a_drained_run_goes_on_in_the_next_worker() -> None:
    """Cut in a tool, which is stopped, the run goes on from there: the call is told as interrupted, not repeated."""
    answers = (completion("wait", tool_calls=CALLS), completion("I was interrupted"))
    clockwork = Clockwork("hang")
    async with world() as here, clockwork.serve(here) as settings, openai(here, *answers) as (fake, model):
        async with here.active_worker(**settings, **model):
            await here.telegram.say("time?")
            await until(lambda: clockwork.begun)
            await here.supervisor.order(Role.DRAIN, deadline=0.6)
            await here.supervisor.reaches(WorkerState.RELEASED)
            await until(lambda: clockwork.cancelled)
            assert here.rows("SELECT status, attempts FROM inbox") == [("queued", 0)]
        async with here.active_worker(epoch=2, **settings, **model):
            await until(lambda: here.telegram.texts() == ["I was interrupted"])
        assert clockwork.begun == 1
        assert "nobody knows" in said(fake, 1)[-1][1].lower()
        assert [event["code"] for event in here.events("tool_call.failed")] == ["interrupted"]
        assert [event["error_class"] for event in here.events("agent.failed")] == ["interrupted"]
        assert here.events("agent.completed")[0]["turns"] == 2


@asynchronous
async def test_a_run_that_a_crash_cut_is_closed_and_gone_on_with() -> None:
    """A worker dies in a tool; the next one gives every event its end, and tells the model what is not known."""
    answers = (completion("wait", tool_calls=CALLS * 2), completion("back again"))
    clockwork = Clockwork("hang")
    async with world() as here, clockwork.serve(here) as settings, openai(here, *answers) as (fake, model):
        async with here.active_worker(**settings, **model):
            await here.telegram.say("time?")
            await until(lambda: clockwork.begun)
            other = open_store(here.database)
            other.lease.take(2)  # from here on the first worker can write no more, as if it were dead
            other.close()
        assert here.events("tool_call.failed") == here.events("agent.failed") == []
        async with here.active_worker(epoch=3, **settings, **model):
            await until(lambda: here.telegram.texts() == ["back again"])
        assert clockwork.begun == 2  # the second call of the turn had not begun
        results = [text for role, text in said(fake, 1) if role == "tool"]
        cut, whole = map(json.loads, results)
        assert (cut["ok"], cut["meta"]["code"], whole["stdout"]) == (False, "interrupted", "noon")
        assert here.rows(UNENDED) == []
        assert here.rows("SELECT status, attempts FROM inbox") == [("done", 2)]


@asynchronous
async def test_an_answer_that_is_there_is_not_asked_for_again() -> None:
    """A worker dies between the model's answer and the outbox: the next one sends that answer, at no cost."""
    async with world() as here, openai(here, completion("another answer")) as (fake, model):
        await here.telegram.say("hello")
        async with here.active_worker(autonous_dummy_provider_script="sleep:60000"):
            await until(lambda: here.events("turn.started"))
            store = open_store(here.database)
            store.lease.take(2)
        ((run, turn),) = here.rows("SELECT id, turn_event_id FROM runs")
        store.runs.turn_ended(run, turn, CompletionResponse("the answer", 5, 5), kept=True, seconds=0.1)
        store.close()
        async with here.active_worker(epoch=3, **model):
            await until(lambda: here.events("reply.sent"))
        assert here.telegram.texts() == ["the answer"]
        assert fake.requests == []
        assert here.rows("SELECT role, text FROM history") == [("user", "hello"), ("assistant", "the answer")]
        done = here.events("agent.completed")[0]
        assert (done["turns"], done["input_tokens"], done["output_tokens"]) == (1, 5, 5)


#: What began and never ended, by type.
UNENDED = """SELECT s.event_type, s.id FROM events s WHERE s.event_type LIKE '%.started'
    AND s.event_type NOT LIKE 'process.%' AND 1 != (SELECT COUNT(*) FROM events e WHERE e.parent_id = s.id
    AND e.event_type IN (replace(s.event_type, 'started', 'completed'), replace(s.event_type, 'started', 'failed')))"""


@asynchronous
async def test_every_event_has_its_end_over_many_turns() -> None:
    """Success, tool errors, model errors, an empty answer, a limit, a stop: what started ends exactly once."""
    script = ",".join(
        [asks("time", "time"), asks("rm"), "ok"]  # answered in the third turn
        + [asks("time"), "err:provider_api", "msgb64:IA==", asks("time"), "ok"]  # two failed attempts
        + [asks("time")] * 5  # more than is allowed
        + [asks("time")]  # stopped
    )
    clockwork = Clockwork(*["x"] * 9, "hang")
    async with world() as here, clockwork.serve(here) as settings:
        limits: dict[str, Any] = {"autonous_control_max_turns": 5, "autonous_dummy_provider_script": script}
        async with here.active_worker(**settings, **limits):
            for number in range(1, 4):
                await here.telegram.say(f"message {number}")
                await until(lambda number=number: len(here.telegram.texts()) == number)  # type: ignore[misc]
            await here.telegram.say("the last")
            await until(lambda: clockwork.begun == 10)
            await here.telegram.say("/stop")
            await until(lambda: here.events("agent.failed")[-1]["error_class"] == "stopped")
            await until(lambda: len(here.events("reply.sent")) == 4)
        assert here.rows(UNENDED) == []
        classes = [event["error_class"] for event in here.events("agent.failed")]
        assert classes == ["provider_api", "validation", "limit", "stopped"]
        assert len(here.events("turn.started")) == 3 + 5 + 5 + 1
        assert len(here.events("agent.completed")) == 2
        assert here.rows("SELECT COUNT(*) FROM runs WHERE status = 'open' OR event_id IS NOT NULL") == [(0,)]
        assert here.rows(f"SELECT COUNT(*) FROM inbox WHERE chat_id != {OWNER} OR status != 'done'") == [(0,)]
