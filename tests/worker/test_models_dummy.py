"""The offline model."""

import asyncio
import time

import pytest

from worker import scripts
from worker.models.base import CompletionResponse, ModelError, ProviderApiError, ToolCall, ValidationError
from worker.models.dummy import DummyModel


def replies(script: str, number: int = 1) -> list[CompletionResponse]:
    model = DummyModel(scripts.parse(script))

    async def ask() -> list[CompletionResponse]:
        return [await model.complete([]) for _ in range(number)]

    return asyncio.run(ask())


def test_the_offline_reply() -> None:
    """With no script the model says what it is and how to get a real one."""
    answer = asyncio.run(DummyModel().complete([]))
    assert answer.text == (
        "I am the offline stand-in for a model: I run, but I cannot think. "
        "To give me a model, put OPENAI_API_KEY=... into the file .env and run: make up"
    )


def test_the_last_step_repeats() -> None:
    """Each call takes one step; past the end the last one repeats; every reply costs one token each way."""
    answers = replies("ok,msg:hi,msgb64:YSwgYg==", 4)
    assert [answer.text for answer in answers] == ["dummy-ok", "hi", "a, b", "a, b"]
    assert {(answer.input_tokens, answer.output_tokens) for answer in answers} == {(1, 1)}


def test_sleep_waits_without_blocking() -> None:
    """While one call sleeps the loop goes on."""

    async def work_beside_a_sleep() -> list[str]:
        done: list[str] = []

        async def other_work() -> None:
            await asyncio.sleep(0)
            done.append("other work")

        async def reply() -> None:
            done.append((await DummyModel(scripts.parse("sleep:50")).complete([])).text)

        await asyncio.gather(reply(), other_work())
        return done

    begun = time.monotonic()
    assert asyncio.run(work_beside_a_sleep()) == ["other work", "dummy-after-sleep"]
    assert time.monotonic() - begun >= 0.05


def test_errors_carry_their_class() -> None:
    """A scripted error has the class that the script names."""
    for name, error in (("provider_api", ProviderApiError), ("validation", ValidationError), ("db", ModelError)):
        with pytest.raises(error) as caught:
            replies(f"err:{name}")
        assert caught.value.error_class == name


def test_json_replies_stand_for_tool_calls_or_the_final_answer() -> None:
    """The two keys are understood; other JSON is text like any other."""
    assert replies('msg:{"final_answer":"42"}')[0].text == "42"
    assert replies('msg:{"answer":"42"}')[0].text == '{"answer":"42"}'
    calls = replies('msg:{"tool_calls":[{"name":"time"}]}')[0].tool_calls
    assert calls == (ToolCall("call-1", "time", {}),)


@pytest.mark.parametrize(
    "reply", ['{"final_answer":""}', '{"tool_calls":[]}', '{"tool_calls":[{}]}', '{"tool_calls":3}']
)
def test_json_replies_that_say_nothing_are_invalid(reply: str) -> None:
    """Neither a call nor an answer, or a call with no name, is a validation error."""
    with pytest.raises(ValidationError):
        replies(f"msg:{reply}")


@pytest.mark.parametrize(
    "script", ["", "okay", "err:", "err:Not A Class", "sleep:soon", "sleep:-1", "msg:", "msgb64:%%"]
)
def test_bad_scripts_are_refused(script: str) -> None:
    """A bad step is named."""
    with pytest.raises(ValueError, match="step"):
        scripts.parse(script)
