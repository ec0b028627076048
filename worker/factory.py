"""Builds what the settings name, and imports only what that one needs."""

from worker.commander.base import Commander
from worker.models.base import ModelProvider
from worker.settings import Settings


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
    """The model provider that ``AUTONOUS_MODEL_PROVIDER`` names, or the keys imply."""
    if settings.provider == "dummy":
        from worker.models.dummy import DummyModel

        return DummyModel(settings.autonous_dummy_provider_script)
    from worker.models.openai import OpenAIModel

    return OpenAIModel(
        api_key=settings.openai_api_key or "",
        base_url=settings.openai_base_url,
        model=settings.openai_model,
        socket=settings.autonous_openai_uds,
    )
