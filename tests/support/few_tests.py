"""The offline model, in as few tests as an update can be judged by; none of them looks at a clock."""

import asyncio

import pytest

from worker import scripts
from worker.models.base import CompletionResponse, ModelError
from worker.models.dummy import DummyModel


def replies(script: str, number: int) -> list[CompletionResponse]:
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
    """Each call takes one step; past the end the last one repeats."""
    assert [answer.text for answer in replies("ok,msg:hi,msgb64:YSwgYg==", 4)] == ["dummy-ok", "hi", "a, b", "a, b"]


def test_every_reply_has_a_price() -> None:
    """One token each way."""
    assert {(answer.input_tokens, answer.output_tokens) for answer in replies("ok", 2)} == {(1, 1)}


def test_a_step_may_fail() -> None:
    """With the class that the script names."""
    with pytest.raises(ModelError) as caught:
        replies("err:provider_api", 1)
    assert caught.value.error_class == "provider_api"


def test_other_json_is_text() -> None:
    """It is given back as it is."""
    (answer,) = replies('msg:{"answer":"42"}', 1)
    assert answer.text == '{"answer":"42"}'


def test_a_reply_may_be_json() -> None:
    """With a final answer in it that is what counts."""
    (answer,) = replies('msg:{"final_answer":"42"}', 1)
    assert answer.text == "42"
