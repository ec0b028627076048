"""Builds what the settings name, and imports only what that one needs."""

import logging
import os
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from supervisor.contract import Announcement
from supervisor.contract.providers import Provider
from worker.agent.memory import Memory
from worker.commander.base import Commander
from worker.models import catalog
from worker.models.base import ModelProvider
from worker.settings import Settings, SettingsError
from worker.store import Database, Store
from worker.tools.base import DEFAULT_SOCKET
from worker.tools.client import ToolboxClient
from worker.tools.local import LocalToolbox
from worker.tools.registry import OPERATIONS, TOOLS
from worker.tools.steady import Report, SteadyToolbox
from worker.vitals import Vitals

if TYPE_CHECKING:
    from worker.link import Link
    from worker.models.embeddings_base import Embedder
    from worker.store.vectors import VectorIndex

logger = logging.getLogger(__name__)


def make_commander(settings: Settings) -> Commander:
    """The commander that ``AUTONOUS_COMMANDER`` names."""
    if settings.autonous_commander == "dummy":
        from worker.commander.dummy import DummyCommander

        return DummyCommander(settings.autonous_dummy_commander_script, settings.autonous_dummy_commander_send_script)
    from worker.commander.telegram import TelegramCommander

    return TelegramCommander(
        token=settings.telegram_bot_token or "",
        base_url=settings.telegram_api_base_url,
        socket=settings.autonous_telegram_uds,
        poll_timeout=settings.tg_timeout,
    )


def make_model(settings: Settings) -> ModelProvider:
    """The model that the settings name, or the keys imply, with those that are turned to when it fails.

    Raises SettingsError when a provider's SDK is not installed.
    """
    first = _make_one(settings, settings.provider, None)
    if not settings.autonous_model_fallback:
        return first
    from worker.models.chain import Chain

    others = [_make_one(settings, provider, model) for provider, model in settings.autonous_model_fallback]
    policy = settings.circuit
    # Whoever wrote is not to run out of attempts before the next model is asked.
    threshold = max(min(policy.threshold, settings.autonous_control_max_retries), 1)
    return Chain([first, *others], replace(policy, threshold=threshold), time.monotonic)


def _make_one(settings: Settings, provider: Provider, model: str | None) -> ModelProvider:
    try:
        return _imported(settings, provider, model)
    except ImportError as error:
        raise SettingsError(
            f"AUTONOUS_MODEL_PROVIDER={provider} cannot be used: its SDK is not in this image ({error})"
        ) from error


def _imported(settings: Settings, provider: Provider, model: str | None) -> ModelProvider:
    if provider is Provider.DUMMY:
        from worker.models.dummy import DummyModel

        return DummyModel(settings.autonous_dummy_provider_script)
    if provider is Provider.ANTHROPIC:
        from worker.models.anthropic import AnthropicModel

        key, url = settings.anthropic_api_key or "", settings.anthropic_base_url
        return AnthropicModel(api_key=key, base_url=url, model=model or settings.anthropic_model)
    if provider is Provider.GEMINI:
        from worker.models.gemini import GeminiModel

        key, url = settings.gemini_api_key or "", settings.gemini_base_url
        return GeminiModel(api_key=key, base_url=url, model=model or settings.gemini_model)
    from worker.models.openai import OpenAIModel
    from worker.models.openai_responses import OpenAIResponsesModel

    adapter = OpenAIResponsesModel if provider is Provider.OPENAI_RESPONSES else OpenAIModel
    return adapter(
        api_key=settings.openai_api_key or "",
        base_url=settings.openai_base_url,
        model=model or settings.openai_model,
        socket=settings.autonous_openai_uds,
    )


def make_link(settings: Settings, announcement: Announcement, vitals: Vitals) -> "Link | None":
    """The link to the supervisor, None when the worker runs alone."""
    if settings.autonous_supervisor_socket is None:
        return None
    from worker.link import Link

    return Link(
        socket=settings.autonous_supervisor_socket,
        credential=settings.autonous_worker_credential,
        announcement=announcement,
        beat_now=vitals.beat_now,
    )


def smallest_window(model: ModelProvider) -> int:
    """The window of a model in tokens; of a chain the smallest, as any of it may be asked."""
    models = getattr(model, "models", [model])
    return min(catalog.facts(one.provider, one.model_name).window for one in models)


def make_prices(settings: Settings, model: ModelProvider) -> catalog.Prices:
    """What the answers of a model cost."""
    return catalog.Prices(model.provider, model.model_name, elsewhere=settings.providers_elsewhere)


def make_memory(settings: Settings, store: Store) -> Memory:
    """The memory: by words, and by meaning when an embeddings model is set and this interpreter can do it."""
    vectors, embedder = _make_vectors(settings, store.database)
    return Memory(store, shown=settings.tg_history_window, vectors=vectors, embedder=embedder)


def _make_vectors(settings: Settings, database: Database) -> "tuple[VectorIndex, Embedder] | tuple[None, None]":
    if settings.autonous_embeddings_model is None:
        return None, None
    from worker.models.embeddings import OpenAIEmbedder
    from worker.store.vectors import VectorIndex, VectorsUnavailable

    try:
        vectors = VectorIndex(database, settings.autonous_embeddings_model)
    except VectorsUnavailable as error:
        logger.warning("AUTONOUS_EMBEDDINGS_MODEL is not used, messages are recalled by words alone: %s", error)
        return None, None
    server = settings.autonous_embeddings_base_url
    return vectors, OpenAIEmbedder(
        api_key=settings.autonous_embeddings_api_key or (None if server else settings.openai_api_key),
        base_url=server or settings.openai_base_url,
        model=settings.autonous_embeddings_model,
    )


def make_toolbox(settings: Settings, report: Report) -> SteadyToolbox | LocalToolbox:
    """The toolbox beside this worker; a subprocess when the worker runs alone and none is named.

    ``report`` tells whoever makes toolboxes that another one is needed.
    """
    if settings.autonous_toolbox_socket is None and settings.autonous_supervisor_socket is None:
        logger.warning("tools run as this user and may use its network: only a supervisor's toolbox keeps bash offline")
        return LocalToolbox(TOOLS, {**os.environ, "AUTONOUS_MIN_FREE_BYTES": str(settings.autonous_min_free_bytes)})
    client = ToolboxClient(settings.autonous_toolbox_socket or DEFAULT_SOCKET, TOOLS)
    return SteadyToolbox(client, report, tools=TOOLS, timeout_seconds=settings.autonous_tool_timeout_seconds)


def make_operations(settings: Settings, toolbox: SteadyToolbox) -> SteadyToolbox:
    """What the toolbox beside this worker does for the worker itself, out of every model's reach."""
    return toolbox.beside(ToolboxClient(settings.autonous_toolbox_socket or DEFAULT_SOCKET, OPERATIONS), OPERATIONS)
