"""Telegram through python-telegram-bot's Bot. We poll ourselves, so that we decide when a poll begins and ends."""

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from http import HTTPStatus
from typing import Any, Final

import httpx
from telegram import (
    Bot,
    BotCommand,
    Chat,
    InlineKeyboardButton,
    InlineKeyboardMarkup,
    Message,
    Update,
)
from telegram.constants import CallbackQueryLimit, ChatAction, MessageLimit, ParseMode
from telegram.error import (
    BadRequest,
    ChatMigrated,
    Forbidden,
    InvalidToken,
    NetworkError,
    RetryAfter,
    TelegramError,
)
from telegram.error import Conflict as PolledElsewhere
from telegram.request import HTTPXRequest

from worker import uds
from worker.commander.attachments import described, origin
from worker.commander.base import (
    Ambiguous,
    Button,
    CommanderError,
    Conflict,
    Incoming,
    RateLimited,
    Rejected,
    Unreachable,
    UpdateKind,
)
from worker.commander.markup import to_html
from worker.commander.splitting import split, split_markdown

ALLOWED_UPDATES: Final = ("message", "edited_message", "callback_query")
READ_TIMEOUT_SECONDS: Final = 10.0
PUBLIC_BASE_URL: Final = "https://api.telegram.org"

#: The request never left this machine.
_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol)
#: Of the chat, and for good. A token or an address that is wrong is not: an answer waits until it is put right.
_FINAL = (ChatMigrated, Forbidden)
#: A gateway answered in place of Telegram: what it had passed on may have been done.
_GATEWAY = frozenset({HTTPStatus.BAD_GATEWAY, HTTPStatus.GATEWAY_TIMEOUT})
#: How the SDK fails on an answer of another shape than it knows.
_UNREADABLE = (AttributeError, KeyError, TypeError, ValueError)
#: Telegram has a sentence for this, and no code of its own.
_NOT_MODIFIED: Final = "message is not modified"

logger = logging.getLogger(__name__)


class _Malformed(Rejected):
    """Telegram found the request itself wrong."""


class _GatewayFailed(NetworkError):
    """No word from Telegram itself."""


class _Request(HTTPXRequest):
    """Tells a gateway's error from Telegram's own, which the SDK does not."""

    async def do_request(self, *arguments: Any, **options: Any) -> tuple[int, bytes]:
        """The status and the body. Raises TelegramError."""
        status, body = await super().do_request(*arguments, **options)
        if status in _GATEWAY:
            raise _GatewayFailed(f"{HTTPStatus(status).phrase} ({status})")
        return status, body


class TelegramCommander:
    """One bot. ``poll_timeout`` is in seconds; ``socket`` is a Unix socket to use instead of the network."""

    owners: frozenset[int] = frozenset()

    def __init__(self, *, token: str, base_url: str | None, socket: str | None, poll_timeout: int) -> None:
        self.source = f"telegram:{token.partition(':')[0]}"
        self._poll_timeout = poll_timeout
        self._webhook_removed = False
        root = (base_url or (uds.HOST if socket else PUBLIC_BASE_URL)).rstrip("/")
        self._requests = (_request(socket, connections=16), _request(socket, connections=2))
        self._bot = Bot(
            token,
            base_url=f"{root}/bot",
            base_file_url=f"{root}/file/bot",
            request=self._requests[0],
            get_updates_request=self._requests[1],
        )

    async def poll(self, offset: int | None, *, at_once: bool) -> list[Incoming]:
        """The updates from ``offset`` on. Raises CommanderError.

        A webhook that somebody set for this bot forbids to poll: the first one that is met is removed. It loses
        nothing, and whoever sets it again while this runs is told like any other poller.
        """
        seconds = 0 if at_once else self._poll_timeout
        try:
            return await self._get_updates(offset, seconds)
        except Conflict:
            if self._webhook_removed or not await self._remove_webhook():
                raise
            return await self._get_updates(offset, seconds)

    def parse(self, raw: str) -> Incoming | None:
        """An update as the Bot API wrote it; None when it is none."""
        try:
            return incoming(Update.de_json(json.loads(raw), self._bot))
        except (*_UNREADABLE, TelegramError):
            return None

    async def drop_pending(self) -> None:
        """Forget what waits at Telegram. Raises CommanderError."""
        with _translated():
            await self._bot.delete_webhook(drop_pending_updates=True)

    def parts(self, text: str, *, formatted: bool) -> list[str]:
        """Pieces that one message each can hold; Telegram takes none that is blank."""
        pieces = (split_markdown if formatted else split)(text, MessageLimit.MAX_TEXT_LENGTH)
        return [piece for piece in pieces if piece.strip()]

    async def send(self, chat_id: int, text: str, *, formatted: bool = False, replaces: int | None = None) -> int:
        """Send a text and give the message's id. Raises CommanderError.

        Markdown goes out as HTML, and as it is when Telegram does not take that.
        """
        markup = to_html(text) if formatted else None
        for words, parse_mode in ((markup, ParseMode.HTML), (text, None)):
            if words is None:
                continue
            try:
                return await self._deliver(chat_id, words, parse_mode, replaces)
            except _Malformed:
                if parse_mode is None:
                    raise
        raise AssertionError("the plain text is always tried")

    async def show(self, chat_id: int, text: str, message_id: int | None = None) -> int:
        """Show a plain text, in a new message or in place of what one shows. Raises CommanderError."""
        if message_id is None:
            return await self._send(chat_id, text, None)
        await self._edit(chat_id, message_id, text, None)
        return message_id

    async def ask(self, chat_id: int, text: str, buttons: Sequence[Button]) -> int:
        """Send a plain text with one row of buttons. Raises CommanderError."""
        row = [InlineKeyboardButton(button.label, callback_data=button.data) for button in buttons]
        with _translated():
            return (await self._bot.send_message(chat_id, text, reply_markup=InlineKeyboardMarkup([row]))).message_id

    async def remove_buttons(self, chat_id: int, message_id: int) -> None:
        """Take the buttons off. Raises CommanderError."""
        with _unless_not_modified(), _translated():
            await self._bot.edit_message_reply_markup(chat_id, message_id)

    async def answer_press(self, callback_id: str, text: str, *, alert: bool = False) -> None:
        """End the waiting sign. Raises CommanderError."""
        shown = text[: CallbackQueryLimit.ANSWER_CALLBACK_QUERY_TEXT_LENGTH]
        with _translated():
            await self._bot.answer_callback_query(callback_id, shown, show_alert=alert)

    async def show_working(self, chat_id: int) -> None:
        """Show the typing sign for five seconds. Raises CommanderError."""
        with _translated():
            await self._bot.send_chat_action(chat_id, ChatAction.TYPING)

    async def publish_commands(self, commands: Mapping[str, str]) -> None:
        """Set the menu of private chats. Raises CommanderError."""
        with _translated():
            await self._bot.set_my_commands([BotCommand(name, about) for name, about in commands.items()])

    async def close(self) -> None:
        """Close the connections."""
        for request in self._requests:
            await request.shutdown()

    async def _get_updates(self, offset: int | None, seconds: int) -> list[Incoming]:
        with _translated():
            try:
                updates = await self._bot.get_updates(offset=offset, timeout=seconds, allowed_updates=ALLOWED_UPDATES)
            except _UNREADABLE:
                # One update of a shape that the SDK does not know would hold up all that come after it.
                wanted = {"offset": offset, "timeout": 0, "allowed_updates": ALLOWED_UPDATES}
                return [self._readable(raw) for raw in await self._bot.do_api_request("getUpdates", api_kwargs=wanted)]
        return [incoming(update) for update in updates]

    def _readable(self, raw: dict[str, Any]) -> Incoming:
        try:
            return incoming(Update.de_json(dict(raw), self._bot))
        except _UNREADABLE as error:
            logger.warning("update %s cannot be read, and is passed over: %r", raw.get("update_id"), error)
            return Incoming(raw["update_id"], UpdateKind.OTHER, 0, None, private=False, text="", date=None)

    async def _remove_webhook(self) -> bool:
        """Remove the bot's webhook; False when it has none, or that cannot be found out."""
        try:
            with _translated():
                if not (await self._bot.get_webhook_info()).url:
                    return False
                await self._bot.delete_webhook(drop_pending_updates=False)
        except CommanderError as error:
            logger.info("whether this bot has a webhook is not known: %s", error)
            return False
        logger.warning("this bot had a webhook, which keeps it from polling: it is removed, and no message with it")
        self._webhook_removed = True
        return True

    async def _deliver(self, chat_id: int, text: str, parse_mode: ParseMode | None, replaces: int | None) -> int:
        if replaces is not None:
            try:
                await self._edit(chat_id, replaces, text, parse_mode)
            except Ambiguous as error:  # the same edit again does no harm
                raise Unreachable(str(error)) from error
            except Rejected as error:
                logger.info("message %d of chat %d cannot be edited: %s", replaces, chat_id, error)
            else:
                return replaces
        return await self._send(chat_id, text, parse_mode)

    async def _send(self, chat_id: int, text: str, parse_mode: ParseMode | None) -> int:
        with _translated():
            return (await self._bot.send_message(chat_id, text, parse_mode=parse_mode)).message_id

    async def _edit(self, chat_id: int, message_id: int, text: str, parse_mode: ParseMode | None) -> None:
        with _unless_not_modified(), _translated():
            await self._bot.edit_message_text(text, chat_id, message_id, parse_mode=parse_mode)


def incoming(update: Update) -> Incoming:
    """An update in our own terms. Whatever is neither a new message nor a pressed button is OTHER."""
    user, chat = update.effective_user, update.effective_chat
    message, query = update.effective_message, update.callback_query
    kind, text = UpdateKind.OTHER, ""
    if update.message is not None:
        kind, text = UpdateKind.MESSAGE, described(update.message)
    elif query is not None:
        kind, text = UpdateKind.CALLBACK, query.data or ""
    return Incoming(
        update_id=update.update_id,
        kind=kind,
        chat_id=chat.id if chat else 0,
        user_id=user.id if user else None,
        private=chat is not None and chat.type == Chat.PRIVATE,
        text=text,
        date=message.date.timestamp() if isinstance(message, Message) else None,
        forwarded_from=origin(message) if isinstance(message, Message) else "",
        message_id=message.message_id if message else None,
        callback_id=query.id if query else "",
    )


def _request(socket: str | None, *, connections: int) -> HTTPXRequest:
    options: dict[str, Any] = {}
    if socket:
        options["transport"] = httpx.AsyncHTTPTransport(uds=socket, verify=uds.no_tls())
    return _Request(connection_pool_size=connections, read_timeout=READ_TIMEOUT_SECONDS, httpx_kwargs=options)


@contextmanager
def _unless_not_modified() -> Iterator[None]:
    """A message that is as it should be already is no error."""
    try:
        yield
    except _Malformed as error:
        if _NOT_MODIFIED not in str(error).lower():
            raise


@contextmanager
def _translated() -> Iterator[None]:
    """Turns the SDK's errors into ours."""
    try:
        yield
    except TelegramError as error:
        raise _ours(error) from error
    except _UNREADABLE as error:
        raise Ambiguous(f"Telegram's answer cannot be read: {type(error).__name__}: {error}") from error


def _ours(error: TelegramError) -> CommanderError:
    message = f"{type(error).__name__}: {error}"
    if isinstance(error, RetryAfter):
        wait = error.retry_after
        return RateLimited(wait.total_seconds() if isinstance(wait, timedelta) else float(wait))
    if isinstance(error, PolledElsewhere):
        return Conflict(message)
    if isinstance(error, BadRequest):
        return _Malformed(message)
    if isinstance(error, _FINAL):
        return Rejected(message)
    if isinstance(error, InvalidToken):
        return Unreachable(message)
    # Whatever has another error behind it is no word of Telegram's: it broke on the way, or cannot be read.
    broke = error.__cause__ is not None and not isinstance(error.__cause__, _NOT_SENT)
    return Ambiguous(message) if broke or isinstance(error, _GatewayFailed) else Unreachable(message)
