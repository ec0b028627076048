"""Windows and prices of models, from one data file that says its date."""

import functools
import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any, Final

from worker.models.base import CompletionResponse

#: Providers that reach the same models in another way.
SAME_MODELS: Final = {"openai-responses": "openai"}
MILLION: Final = 1_000_000
_DATED: Final = re.compile(r"-(\d{8}|\d{4}-\d{2}-\d{2})$")


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars for a million tokens; of the input ``cached`` for what was kept, ``written`` for what is kept anew."""

    input: float
    output: float
    cached: float
    written: float

    def of(self, response: CompletionResponse) -> float:
        """What an answer cost, in US dollars."""
        kept, written = response.cached_tokens, response.written_tokens
        fresh = max(response.input_tokens - kept - written, 0)
        paid_in = fresh * self.input + kept * self.cached + written * self.written
        return (paid_in + response.output_tokens * self.output) / MILLION


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What is known of a model, in tokens. Without a price nobody knows what it costs."""

    window: int
    longest_output: int | None = None
    price: Price | None = None


@functools.cache
def _catalog() -> Mapping[str, Any]:
    text = resources.files("worker.models").joinpath("catalog.json").read_text(encoding="utf-8")
    catalog: Mapping[str, Any] = json.loads(text)
    return catalog


def date() -> str:
    """The day that windows and prices were looked up."""
    return str(_catalog()["date"])


def facts(provider: str, model: str) -> ModelFacts:
    """What is known of a provider's model, by its name with or without a date; a safe window where that is nothing."""
    catalog = _catalog()
    models = catalog["models"].get(SAME_MODELS.get(provider, provider), {})
    known = models.get(model) or models.get(_DATED.sub("", model))
    if known is None:
        return ModelFacts(int(catalog["safe_window"]))
    price = known["price"]
    cached, written = (price.get(name, price["input"]) for name in ("cached", "written"))
    listed = Price(price["input"], price["output"], cached, written)
    return ModelFacts(int(known["window"]), int(known["output"]), listed)


class Prices:
    """What answers cost. The list's prices hold at the provider itself, not at another server with the same names."""

    def __init__(self, provider: str, model: str, *, elsewhere: Collection[str] = ()) -> None:
        self._provider = provider
        self._model = model
        self._elsewhere = elsewhere

    def __call__(self, response: CompletionResponse) -> float | None:
        """US dollars, None where no price is known."""
        provider, _, model = (
            response.spoken_by.partition(":") if response.spoken_by else (self._provider, "", self._model)
        )
        price = None if provider in self._elsewhere else facts(provider, model).price
        return None if price is None or response.estimated else price.of(response)
