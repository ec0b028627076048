"""Whether the Bot API answers the supervisor itself, so that its failures are not blamed on a worker."""

from typing import Final

import httpx

from supervisor.localbot import process
from supervisor.settings import Settings

_SECONDS: Final = 5.0
#: Where Telegram's own Bot API is; a token follows.
TELEGRAM: Final = "https://api.telegram.org/bot"


class BotApiAway(Exception):
    """The Bot API does not answer, or refuses the token; the message is one line and holds no token."""


def bot_name(settings: Settings) -> str:
    """The bot's user name, asked of whichever Bot API this installation uses. Raises BotApiAway."""
    if settings.uses_local_bot:
        token, base = process.token(settings.paths), "http://localhost/bot"
        transport = httpx.HTTPTransport(uds=str(settings.paths.localbot_socket))
    else:
        token = settings.telegram_bot_token or ""
        base = settings.telegram_api_base_url or TELEGRAM
        transport = httpx.HTTPTransport()
    try:
        with httpx.Client(transport=transport, timeout=_SECONDS) as client:
            answer = client.get(f"{base}{token}/getMe").json()
    except (httpx.HTTPError, ValueError) as error:
        raise BotApiAway(f"the Bot API does not answer: {type(error).__name__}") from None
    if not answer.get("ok"):
        raise BotApiAway(f"the Bot API refuses the token: {answer.get('description', 'no reason given')}")
    return str(answer["result"]["username"])


def answers(settings: Settings) -> bool:
    """Whether the Bot API answers now."""
    try:
        bot_name(settings)
    except BotApiAway:
        return False
    return True
