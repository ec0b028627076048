"""The supervisor's own way to the Bot API: it writes the cards, tells how things ended, and helps when nothing runs.

Plain calls over httpx, each made once: whoever calls decides whether to try again. A call that fails names no token.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Self

import httpx

from supervisor.localbot import process
from supervisor.settings import Settings

_SECONDS: Final = 5.0
#: A gateway answered in place of Telegram: what it had passed on may have been done.
_GATEWAY: Final = frozenset({502, 504})
#: Where Telegram's own Bot API is.
TELEGRAM: Final = "https://api.telegram.org"


class BotApiError(Exception):
    """A call to the Bot API failed; the message is one line.

    BotApiError
    ├── BotApiAway       nothing was accepted; trying again is safe
    ├── BotApiAmbiguous  the request went out, and nobody can say whether it was accepted
    └── BotApiRefused    refused, with Telegram's code; ``retry_after`` seconds when it was too much at once
    """


class BotApiAway(BotApiError):
    """Nothing was accepted; trying again is safe."""


class BotApiAmbiguous(BotApiError):
    """The request went out, and nobody can say whether it was accepted."""


class BotApiRefused(BotApiError):
    """Refused by the Bot API."""

    def __init__(self, code: int, description: str, retry_after: float | None = None) -> None:
        super().__init__(f"the Bot API refuses ({code}): {description}")
        self.code = code
        self.description = description
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class Button:
    """A button under a message. ``data`` comes back when it is pressed: at most 64 bytes."""

    label: str
    data: str


Keyboard = Sequence[Sequence[Button]]


class BotClient:
    """A connection to a Bot API. Safe to share among threads.

    ``base_url`` is what a token follows; ``socket`` is a Unix socket to speak it over.
    """

    def __init__(self, base_url: str, token: str, *, socket: Path | None = None) -> None:
        self._url = f"{base_url}{token}/"
        transport = httpx.HTTPTransport(uds=str(socket), verify=False) if socket else None
        self._client = httpx.Client(transport=transport, timeout=_SECONDS)

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """To whichever Bot API this installation uses."""
        if settings.uses_local_bot:
            socket = settings.paths.localbot_socket
            return cls("http://localhost/bot", process.token(settings.paths), socket=socket)
        root = (settings.telegram_api_base_url or TELEGRAM).rstrip("/")
        return cls(f"{root}/bot", settings.telegram_bot_token or "")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def user_name(self) -> str:
        """The bot's user name."""
        return str(self.call("getMe")["username"])

    def send(self, chat_id: int, html: str, *, buttons: Keyboard = (), reply_to: int | None = None) -> int:
        """Write a message, in Telegram's HTML; gives its id."""
        return int(self.call("sendMessage", {**_text(chat_id, html, buttons), **_reply(reply_to)})["message_id"])

    def edit(self, chat_id: int, message_id: int, html: str, *, buttons: Keyboard = ()) -> None:
        """Put another text, and these buttons alone, in a message's place."""
        try:
            self.call("editMessageText", {**_text(chat_id, html, buttons), "message_id": message_id})
        except BotApiRefused as refused:
            if "message is not modified" not in refused.description:  # Telegram has no other sign for it
                raise

    def answer_press(self, callback_id: str, text: str = "", *, alert: bool = False) -> None:
        """End the waiting of a pressed button; ``text`` is shown to who pressed it, 200 characters of it."""
        self.call("answerCallbackQuery", {"callback_query_id": callback_id, "text": text[:200], "show_alert": alert})

    def send_document(
        self, chat_id: int, name: str, content: bytes, *, caption: str = "", reply_to: int | None = None
    ) -> int:
        """Send a file; gives the message's id."""
        parameters = {"chat_id": chat_id, "caption": caption, **_reply(reply_to)}
        return int(self.call("sendDocument", parameters, files={"document": (name, content)})["message_id"])

    def updates(self, offset: int | None, wait_seconds: int) -> list[dict[str, Any]]:
        """What came in since ``offset``, raw. Only for when no worker polls: two pollers disturb each other."""
        wanted = {"offset": offset, "timeout": wait_seconds}
        got: list[dict[str, Any]] = self.call("getUpdates", wanted, seconds=wait_seconds + _SECONDS)
        return got

    def call(
        self,
        method: str,
        parameters: Mapping[str, object] = MappingProxyType({}),
        *,
        files: Mapping[str, tuple[str, bytes]] | None = None,
        seconds: float = _SECONDS,
    ) -> Any:
        """One call of any method; gives its ``result``. A parameter that is None is left out. Raises BotApiError."""
        given = {name: value for name, value in parameters.items() if value is not None}
        # With a file the parameters are form fields, and what is no text in them is JSON.
        form = {name: value if isinstance(value, str) else json.dumps(value) for name, value in given.items()}
        try:
            answer = (
                self._client.post(self._url + method, data=form, files=files, timeout=seconds)
                if files
                else self._client.post(self._url + method, json=given, timeout=seconds)
            ).json()
        except httpx.InvalidURL:
            raise BotApiAway("TELEGRAM_API_BASE_URL is no URL that can be used") from None
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            raise BotApiAway(f"the Bot API does not answer: {type(error).__name__}") from None
        except (httpx.HTTPError, ValueError) as error:
            raise BotApiAmbiguous(f"the Bot API does not answer {method}: {type(error).__name__}") from None
        if not answer.get("ok"):
            retry_after = (answer.get("parameters") or {}).get("retry_after")
            code, why = int(answer.get("error_code", 0)), str(answer.get("description", "no reason given"))
            if code in _GATEWAY:
                raise BotApiAmbiguous(f"a gateway before the Bot API failed in {method}: {why}")
            raise BotApiRefused(code, why, retry_after)
        return answer["result"]


def _text(chat_id: int, html: str, buttons: Keyboard) -> dict[str, object]:
    keyboard = [[{"text": b.label, "callback_data": b.data} for b in row] for row in buttons]
    markup = {"inline_keyboard": keyboard} if keyboard else None
    return {"chat_id": chat_id, "text": html, "parse_mode": "HTML", "reply_markup": markup}


def _reply(message_id: int | None) -> dict[str, object]:
    return {"reply_parameters": {"message_id": message_id, "allow_sending_without_reply": True}} if message_id else {}


def bot_name(settings: Settings) -> str:
    """The bot's user name, asked of whichever Bot API this installation uses. Raises BotApiError."""
    with BotClient.of(settings) as client:
        return client.user_name()


def answers(settings: Settings) -> bool:
    """Whether the Bot API answers now."""
    try:
        bot_name(settings)
    except BotApiError:
        return False
    return True
