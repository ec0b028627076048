"""Up to five hundred turns with results of 200 KB: always within the window, and the first words known at the end."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.figures import FIGURE
from tests.worker.fakes import FakeOpenAI, completion
from tests.worker.httpserver import HttpServer, Request, Response
from tests.worker.support import World, until, within, world
from tests.worker.test_turns import Clockwork
from worker.agent.journal import result_text
from worker.context.summary import INSTRUCTION
from worker.models import catalog
from worker.models.base import CompletionResponse
from worker.tools.base import ToolResult

TURNS: Final = 50
RESULT: Final = "a line of a log that nobody will ever read to its end\n" * 3800
WHOLE: Final = result_text(ToolResult(ok=True, stdout=RESULT))
#: What a model says beside its calls, in some thousand tokens.
PLAN: Final = "Now I look at that, then I change it, then I see whether it works. " * 45
CONSTRAINT: Final = "never touch the folder billing/"
CHARS_A_TOKEN: Final = 3
SMALL: Final = 32_768
#: So that the cost can be told in dollars.
MODEL: Final = "gpt-5.4-mini"


class Developer(FakeOpenAI):
    """Calls a tool TURNS - 1 times for each message, then answers; sums up by the constraints that it was shown.

    It counts a token for every three characters, those of the tools' schemas too, refuses what is over its window, and
    its summaries fail when told.
    """

    def __init__(self, path: Path, window: int) -> None:
        super().__init__(path, completion("unused"))
        self.window = window
        self.server = HttpServer(path, self._develop)
        self.largest = 0
        self.overflows = 0
        self.summaries = 0
        self.turns = 0
        self.failing_summaries = 0

    async def _develop(self, request: Request) -> Response:
        body = json.loads(request.body)
        tokens = _characters([*body["messages"], *body.get("tools", ())]) // CHARS_A_TOKEN
        self.largest = max(self.largest, tokens)
        if tokens > self.window:
            self.overflows += 1
            error = {"message": "too long", "code": "context_length_exceeded"}
            return Response({"error": error}, status=400)
        if body["messages"][0]["content"] == INSTRUCTION:
            return self._sum_up(body["messages"][1]["content"], tokens)
        self.requests.append(body)
        self.turns += 1
        if self.turns % TURNS == 0:
            return _completion("done with that part", tokens)
        call = {"id": f"c{self.turns}", "type": "function", "function": {"name": "time", "arguments": "{}"}}
        return _completion(f"Step {self.turns}. {PLAN}", tokens, tool_calls=[call])

    def _sum_up(self, conversation: str, tokens: int) -> Response:
        self.summaries += 1
        if self.failing_summaries:
            self.failing_summaries -= 1
            return Response({"error": {"message": "overloaded"}}, status=500)
        known = f"- {CONSTRAINT}" if CONSTRAINT in conversation else "- none"
        return _completion(f"## Goal\nBuild it.\n## Constraints\n{known}\n## Done\n{self.turns} turns", tokens)


def _characters(parts: list[dict[str, Any]]) -> int:
    return sum(len(json.dumps(part)) for part in parts)


def _completion(text: str, tokens: int, **message: object) -> Response:
    response = completion(text, **message)
    usage = {"prompt_tokens": tokens, "completion_tokens": 30, "total_tokens": tokens + 30}
    assert isinstance(response.body, dict)
    return Response({**response.body, "usage": usage})


async def _develop(here: World, fake: Developer, messages: int) -> None:
    settings: dict[str, Any] = {
        "autonous_model_provider": "openai",
        "openai_api_key": "sk-test",
        "openai_model": MODEL,
        "autonous_openai_uds": str(fake.server.path),
        "autonous_model_context_window": fake.window,
        "autonous_control_max_turns": TURNS,
        "autonous_control_max_tokens": 10**9,
    }
    clockwork = Clockwork(*[RESULT] * (messages * TURNS))
    async with clockwork.serve(here) as tools, here.active_worker(**settings, **tools):
        for number in range(1, messages + 1):
            await here.telegram.say(
                f"First of all: {CONSTRAINT}. Begin." if number == 1 else f"Go on with part {number}."
            )
            await until(lambda number=number: len(here.events("reply.sent")) == number)  # type: ignore[misc]


@pytest.mark.parametrize(
    ("window", "failing", "messages"),
    [
        pytest.param(128_000, 0, 10, id="five hundred turns", marks=pytest.mark.exhaustive),
        pytest.param(SMALL, 2, 2, id="failing summaries"),
        pytest.param(SMALL, 0, 1, id="small window, briefly"),
        pytest.param(128_000, 2, 2, id="failing summaries in a large window", marks=pytest.mark.exhaustive),
        pytest.param(SMALL, 0, 4, id="small window", marks=pytest.mark.exhaustive),
    ],
)
def test_a_long_development_run(
    window: int, failing: int, messages: int, record_property: Callable[[str, object], None]
) -> None:
    """Every request fits, summaries are few and billed, and the first constraint is in the last request."""

    @within(300)
    async def run() -> None:
        async with world() as here:
            fake = Developer(here.directory / "openai.sock", window)
            fake.failing_summaries = failing
            await fake.server.start()
            try:
                await _develop(here, fake, messages)
            finally:
                await fake.server.stop()
            record_property(FIGURE, _judge(here, fake, failing, messages))

    run()


def _judge(here: World, fake: Developer, failing: int, messages: int) -> str:
    """What it took, in words."""
    made = here.events("context.compacted")
    summed_up = [event for event in made if "summary" in event["rules"]]
    failed = [event for event in made if "summary_error" in event]
    paid = sum(event["input_tokens"] + event["output_tokens"] for event in summed_up)
    turns, called = here.events("turn.completed"), here.events("tool_call.completed")
    total = sum(event["input_tokens"] + event["output_tokens"] for event in turns)
    dollars, in_all = (sum(price(MODEL, event) for event in events) for events in (summed_up, turns))
    assert fake.turns == messages * TURNS
    assert fake.largest <= fake.window
    assert fake.overflows == 0
    assert all(request["tools"] for request in fake.requests), "their schemas are counted"
    assert len(called) == messages * (TURNS - 1)
    assert all(event["result_chars"] == len(WHOLE) > 200_000 for event in called), "each arrived whole"
    assert here.rows("SELECT DISTINCT result FROM tool_calls") == [(WHOLE,)]
    assert len(failed) == (1 if failing else 0), "a failure is followed by a rest"
    if not failing:
        assert 1 <= len(summed_up) <= messages * TURNS // (20 if fake.window > SMALL else 5)
        assert all(event["after_tokens"] < event["before_tokens"] for event in summed_up)
        assert CONSTRAINT in json.dumps(fake.requests[-1]["messages"])
    rows = here.rows("SELECT SUM(input_tokens + output_tokens) FROM turns WHERE NOT kept")
    assert (rows[0][0] or 0) == paid
    assert here.rows("SELECT COUNT(*) FROM history")[0][0] == 2 * messages
    return (
        f"{fake.turns} turns, largest request {fake.largest:,} of {fake.window:,} tokens, {fake.overflows} refused; "
        f"{len(made)} compactions, {len(summed_up)} summaries: {paid:,} tokens, ${dollars:.2f} "
        f"({paid / total:.1%} of the turns' {total:,}, ${in_all:.2f}), {len(failed)} failed"
    )


def price(model: str, event: dict[str, Any]) -> float:
    """What an answer costs by the list, in US dollars; the server of this test is no provider's own."""
    known = catalog.facts("openai", model).price
    assert known is not None
    return known.of(CompletionResponse("", event["input_tokens"], event["output_tokens"]))
