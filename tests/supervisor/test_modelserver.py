"""The scripted model, asked by the official SDK as it is, over its Unix socket."""

from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from openai import OpenAI, RateLimitError
from openai.types.chat import ChatCompletionMessage, ChatCompletionMessageParam

from supervisor.modelserver import ScriptedModel, ToolCall
from supervisor.unixserver import UnixServer
from tests.supervisor.localbot_support import short_directory

REPLY = "marker-1234 — a reply that nobody can guess\nwith two lines"
QUESTION = "exam: please answer"


@pytest.fixture
def socket() -> Iterator[Path]:
    with short_directory() as directory:
        yield directory / "model.sock"


def ask(socket: Path, prefix: str = "/v1") -> OpenAI:
    return OpenAI(
        api_key="exam-key",
        base_url=f"http://localhost{prefix}",
        max_retries=0,
        http_client=httpx2.Client(transport=httpx2.HTTPTransport(uds=str(socket))),
    )


@pytest.mark.parametrize("prefix", ["/v1", ""])
def test_the_sdk_gets_the_reply_and_its_usage(socket: Path, prefix: str) -> None:
    """Under both of the usual base URLs."""
    model = ScriptedModel(REPLY)
    with UnixServer(model.app(), socket), ask(socket, prefix) as client:
        answer = client.chat.completions.create(model="any", messages=[{"role": "user", "content": QUESTION}])
    choice = answer.choices[0]
    assert (choice.message.role, choice.message.content, choice.finish_reason) == ("assistant", REPLY, "stop")
    assert answer.model == "any"
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens > 1
    assert [request["messages"][-1]["content"] for request in model.requests()] == [QUESTION]


@pytest.mark.parametrize("usage", [True, False])
def test_the_sdk_gets_the_same_as_a_stream(socket: Path, usage: bool) -> None:
    """The pieces make up the reply, the last says why it ended; usage comes when it is asked for."""
    with UnixServer(ScriptedModel(REPLY).app(), socket), ask(socket) as client:
        chunks = list(
            client.chat.completions.create(
                model="any",
                messages=[{"role": "user", "content": QUESTION}],
                stream=True,
                stream_options={"include_usage": usage},
            )
        )
    choices = [chunk.choices[0] for chunk in chunks if chunk.choices]
    assert "".join(choice.delta.content or "" for choice in choices) == REPLY
    assert [choice.finish_reason for choice in choices] == [None, "stop"]
    assert [chunk.usage is not None for chunk in chunks] == [False, False, *([True] if usage else [])]


def test_a_refusal_is_one_that_the_sdk_knows(socket: Path) -> None:
    """A candidate that asks too much meets a rate limit, as it would in service."""
    asked: list[ChatCompletionMessageParam] = [{"role": "user", "content": QUESTION}]
    with UnixServer(ScriptedModel(REPLY, remembered=100).app(), socket), ask(socket) as client:
        client.chat.completions.create(model="any", messages=asked)
        with pytest.raises(RateLimitError, match="too much was asked"):
            client.chat.completions.create(model="any", messages=asked)


@pytest.mark.parametrize("stream", [False, True])
def test_tools_are_called_where_it_was_told_to(socket: Path, stream: bool) -> None:
    """One a turn, where the user's last words name the plan; then comes the answer."""
    model = ScriptedModel(REPLY)
    model.plan("look around", [ToolCall("bash", {"command": "ls"}), ToolCall("time", {})])
    talk: list[ChatCompletionMessageParam] = [{"role": "user", "content": "please look around"}]
    called = []
    with UnixServer(model.app(), socket), ask(socket) as client:
        for number in range(3):
            if stream:
                with client.chat.completions.stream(model="any", messages=talk) as streamed:
                    message: ChatCompletionMessage = streamed.get_final_completion().choices[0].message
            else:
                message = client.chat.completions.create(model="any", messages=talk).choices[0].message
            if not message.tool_calls:
                break
            [call] = message.tool_calls
            assert call.type == "function"
            called.append((call.function.name, call.function.arguments))
            talk.append(
                {
                    "role": "assistant",
                    "tool_calls": [
                        {
                            "id": call.id,
                            "type": "function",
                            "function": {"name": call.function.name, "arguments": call.function.arguments},
                        }
                    ],
                }
            )
            talk.append({"role": "tool", "tool_call_id": call.id, "content": f"result {number}"})
    assert called == [("bash", '{"command": "ls"}'), ("time", "{}")]
    assert message.content == REPLY
