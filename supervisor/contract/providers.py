"""The model providers that a worker may be told to use: what both sides must call by the same names."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Final


class Provider(StrEnum):
    """What ``AUTONOUS_MODEL_PROVIDER`` may be."""

    OPENAI = "openai"
    OPENAI_RESPONSES = "openai-responses"
    ANTHROPIC = "anthropic"
    GEMINI = "gemini"
    DUMMY = "dummy"


#: The variable that holds a provider's key.
KEY_NAMES: Final[Mapping[Provider, str]] = {
    Provider.OPENAI: "OPENAI_API_KEY",
    Provider.OPENAI_RESPONSES: "OPENAI_API_KEY",
    Provider.ANTHROPIC: "ANTHROPIC_API_KEY",
    Provider.GEMINI: "GEMINI_API_KEY",
}
PROVIDER_NAMES: Final = ", ".join(list(Provider)[:-1]) + f" or {list(Provider)[-1]}"
FALLBACK_FORM: Final = f"provider:model, comma separated, where a provider is {PROVIDER_NAMES}"


class Extra(StrEnum):
    """Packages that an image has only where they are used."""

    ANTHROPIC = "anthropic"
    GEMINI = "gemini"
    EMBEDDINGS = "embeddings"


def parse_fallback(written: str) -> tuple[tuple[Provider, str], ...]:
    """The providers and models of ``AUTONOUS_MODEL_FALLBACK``, in their order. Raises ValueError."""
    steps = []
    for part in filter(None, map(str.strip, written.split(","))):
        provider, _, model = part.partition(":")
        if provider not in list(Provider) or not model.strip():
            raise ValueError(f"it must be {FALLBACK_FORM}")
        steps.append((Provider(provider), model.strip()))
    return tuple(steps)


def missing_key(providers: Sequence[Provider], given: Mapping[str, object]) -> tuple[Provider, str] | None:
    """The first provider whose key is not ``given``, with the key's name."""
    for provider in providers:
        name = KEY_NAMES.get(provider)
        if name is not None and not given.get(name):
            return provider, name
    return None


def extras(providers: Sequence[Provider], *, embeddings: bool) -> tuple[Extra, ...]:
    """What an image must have for these providers, in a fixed order."""
    wanted = {Provider.ANTHROPIC: Extra.ANTHROPIC, Provider.GEMINI: Extra.GEMINI}
    found = {wanted[provider] for provider in providers if provider in wanted} | (
        {Extra.EMBEDDINGS} if embeddings else set()
    )
    return tuple(sorted(found))
