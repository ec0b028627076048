"""The methods of the Bot API, each with the checks and the words of Telegram's own server."""

import mimetypes
import re
from collections.abc import Callable
from typing import Any, Final

from supervisor.localbot.entities import Entity, parse_html, utf16_length
from supervisor.localbot.errors import ApiError, BadRequest
from supervisor.localbot.parameters import Parameters, Upload
from supervisor.localbot.store import BotStore, EventKind, Json

LONGEST_TEXT: Final = 4096  # UTF-16 units
LONGEST_CAPTION: Final = 1024
LONGEST_CALLBACK_ANSWER: Final = 200
LONGEST_COMMAND_DESCRIPTION: Final = 256
LONGEST_CALLBACK_DATA: Final = 64  # bytes
_ACTIONS: Final = (
    *("typing", "choose_sticker", "find_location"),
    *("upload_photo", "upload_video", "upload_voice", "upload_document", "upload_video_note"),
    *("record_video", "record_voice", "record_video_note"),
)
_NOT_MODIFIED: Final = (
    "message is not modified: specified new message content and reply markup are exactly the same"
    " as a current content and reply markup of the message"
)


class BotApi:
    """What the bot's program can do, besides polling. ``changed`` is called after everything a user can see."""

    def __init__(
        self, store: BotStore, bot_id: int, *, clock: Callable[[], float], changed: Callable[[], None]
    ) -> None:
        self._store = store
        self._clock = clock
        self._changed = changed
        self._user: Json = {
            "id": bot_id,
            "is_bot": True,
            "first_name": "autonous (local)",
            "username": "autonous_local_bot",
        }

    def call(self, method: str, parameters: Parameters) -> Any:
        """Do what ``method`` asks for, in upper or lower case. ``ApiError`` when Telegram would refuse it."""
        implementation = _METHODS.get(method.lower())
        if implementation is None:
            raise ApiError(404, "Not Found")
        return implementation(self, parameters)

    def get_me(self, _: Parameters) -> Json:
        """Who the bot is."""
        return {
            **self._user,
            "can_join_groups": True,
            "can_read_all_group_messages": False,
            "supports_inline_queries": False,
        }

    def send_message(self, parameters: Parameters) -> Json:
        """A text, at most ``LONGEST_TEXT`` units after the entities were parsed."""
        chat_id = self._chat(parameters)
        text, entities = _formatted(parameters, "text", "entities")
        if not text:
            raise BadRequest("message text is empty")
        if utf16_length(text) > LONGEST_TEXT:
            raise BadRequest("message is too long")
        body = self._body(parameters, chat_id) | {"text": text} | ({"entities": entities} if entities else {})
        return self._add(chat_id, body)

    def send_document(self, parameters: Parameters) -> Json:
        """A file that comes with the call."""
        chat_id = self._chat(parameters)
        upload = _upload(parameters, "document")
        caption, entities = _formatted(parameters, "caption", "caption_entities")
        if utf16_length(caption) > LONGEST_CAPTION:
            raise BadRequest("message caption is too long")
        body = self._body(parameters, chat_id)
        if caption:
            body |= {"caption": caption} | ({"caption_entities": entities} if entities else {})
        body["document"] = {
            "file_id": f"local-{chat_id}-{upload.name}",
            "file_unique_id": f"{chat_id}-{upload.name}",
            "file_name": upload.name,
            "mime_type": mimetypes.guess_type(upload.name)[0] or upload.content_type,
            "file_size": len(upload.content),
        }
        return self._add(chat_id, body, upload.content)

    def edit_message_text(self, parameters: Parameters) -> Json:
        """Another text for a message of the bot; buttons that are not sent again are taken off."""
        message = self._own_message(parameters)
        if "text" not in message:
            raise BadRequest("there is no text in the message to edit")
        text, entities = _formatted(parameters, "text", "entities")
        if not text:
            raise BadRequest("message text is empty")
        if utf16_length(text) > LONGEST_TEXT:
            raise BadRequest("MESSAGE_TOO_LONG")
        kept = {key: value for key, value in message.items() if key not in {"entities", "reply_markup"}}
        return self._change(
            message, kept | {"text": text} | ({"entities": entities} if entities else {}) | _markup(parameters)
        )

    def edit_message_reply_markup(self, parameters: Parameters) -> Json:
        """Other buttons under a message of the bot, or none."""
        message = self._own_message(parameters)
        kept = {key: value for key, value in message.items() if key != "reply_markup"}
        return self._change(message, kept | _markup(parameters))

    def answer_callback_query(self, parameters: Parameters) -> bool:
        """End the waiting sign on a pressed button, maybe with a short text."""
        press_id = parameters.text("callback_query_id")
        chat_id = self._store.press_chat(press_id)
        if chat_id is None:
            raise BadRequest("query is too old and response timeout expired or query ID is invalid")
        text = parameters.text("text")
        if utf16_length(text) > LONGEST_CALLBACK_ANSWER:
            raise BadRequest("MESSAGE_TOO_LONG")
        answer = {"callback_query_id": press_id, "text": text, "show_alert": parameters.flag("show_alert")}
        self._store.note(chat_id, EventKind.ANSWER, answer)
        self._changed()
        return True

    def send_chat_action(self, parameters: Parameters) -> bool:
        """Show that the bot is busy."""
        chat_id = self._chat(parameters)
        action = parameters.text("action")
        if action not in _ACTIONS:
            raise BadRequest("wrong parameter action in request")
        self._store.note(chat_id, EventKind.ACTION, {"action": action})
        self._changed()
        return True

    def set_my_commands(self, parameters: Parameters) -> bool:
        """Keep the menu of commands."""
        commands = parameters.parsed("commands")
        if not isinstance(commands, list) or not all(isinstance(c, dict) and _is_command(c) for c in commands):
            raise BadRequest("BOT_COMMAND_INVALID")
        self._store.set_fact("commands", commands)
        return True

    def get_my_commands(self, _: Parameters) -> list[Json]:
        """The menu of commands."""
        return self._store.fact("commands") or []

    def delete_webhook(self, parameters: Parameters) -> bool:
        """There is never one; may forget what is in the queue."""
        if parameters.flag("drop_pending_updates"):
            self._store.drop_updates()
        return True

    def get_webhook_info(self, _: Parameters) -> Json:
        """There is never one; tells how many updates wait."""
        return {"url": "", "has_custom_certificate": False, "pending_update_count": self._store.update_count()}

    def _chat(self, parameters: Parameters) -> int:
        chat_id = parameters.text("chat_id")
        if not chat_id:
            raise BadRequest("chat_id is empty")
        if not re.fullmatch(r"-?\d{1,18}", chat_id) or self._store.chat(int(chat_id)) is None:
            raise BadRequest("chat not found")
        return int(chat_id)

    def _own_message(self, parameters: Parameters) -> Json:
        chat_id, message_id = self._chat(parameters), parameters.integer("message_id")
        if (message := self._store.message(chat_id, message_id, of_bot=True)) is not None:
            return message
        known = self._store.message(chat_id, message_id) is not None
        raise BadRequest("message can't be edited" if known else "message to edit not found")

    def _body(self, parameters: Parameters, chat_id: int) -> Json:
        body = {"from": self._user} | _markup(parameters)
        reply = parameters.parsed("reply_parameters")
        if isinstance(reply, dict) and "message_id" in reply:
            target = self._store.message(chat_id, reply["message_id"])
            if target is not None:
                target.pop("reply_to_message", None)  # Telegram shows one level
                body["reply_to_message"] = target
            elif not reply.get("allow_sending_without_reply"):
                raise BadRequest("message to be replied not found")
        return body

    def _add(self, chat_id: int, body: Json, content: bytes | None = None) -> Json:
        message = self._store.add_message(chat_id, body, from_bot=True, content=content)
        self._changed()
        return message

    def _change(self, before: Json, after: Json) -> Json:
        if after == before:
            raise BadRequest(_NOT_MODIFIED)
        after["edit_date"] = int(self._clock())
        self._store.change_message(after)
        self._changed()
        return after


_METHODS: Final[dict[str, Callable[[BotApi, Parameters], Any]]] = {
    "getme": BotApi.get_me,
    "sendmessage": BotApi.send_message,
    "senddocument": BotApi.send_document,
    "editmessagetext": BotApi.edit_message_text,
    "editmessagereplymarkup": BotApi.edit_message_reply_markup,
    "answercallbackquery": BotApi.answer_callback_query,
    "sendchataction": BotApi.send_chat_action,
    "setmycommands": BotApi.set_my_commands,
    "getmycommands": BotApi.get_my_commands,
    "deletewebhook": BotApi.delete_webhook,
    "getwebhookinfo": BotApi.get_webhook_info,
}


def _is_command(command: Json) -> bool:
    name, description = str(command.get("command", "")), str(command.get("description", ""))
    return re.fullmatch(r"[a-z0-9_]{1,32}", name) is not None and 1 <= len(description) <= LONGEST_COMMAND_DESCRIPTION


def _formatted(parameters: Parameters, text_name: str, entities_name: str) -> tuple[str, list[Entity]]:
    """A text and its entities, blank ends cut off."""
    source = parameters.text(text_name).strip()
    match parameters.text("parse_mode").lower():
        case "":
            return source, parameters.parsed(entities_name) or []
        case "html":
            return parse_html(source)
        case _:  # Telegram knows more; whoever uses them here should learn it at once
            raise BadRequest("unsupported parse_mode")


def _markup(parameters: Parameters) -> Json:
    """The buttons to show, as the part of a message."""
    markup = parameters.parsed("reply_markup") or {}
    if not isinstance(markup, dict):
        raise BadRequest("object expected as reply markup")
    rows = markup.get("inline_keyboard") or []
    if not isinstance(rows, list) or not all(isinstance(row, list) for row in rows):
        raise BadRequest("inline keyboard must be an array of arrays of buttons")
    for button in (button for row in rows for button in row):
        if not isinstance(button, dict):
            raise BadRequest("can't parse inline keyboard button: object expected")
        if not button.get("text"):
            raise BadRequest('can\'t parse inline keyboard button: Field "text" must be of type String')
        if "url" not in button and not 1 <= len(str(button.get("callback_data", "")).encode()) <= LONGEST_CALLBACK_DATA:
            raise BadRequest("BUTTON_DATA_INVALID")
    return {"reply_markup": {"inline_keyboard": rows}} if rows else {}


def _upload(parameters: Parameters, name: str) -> Upload:
    reference = parameters.text(name)
    upload = parameters.files.get(reference.removeprefix("attach://") or name)
    if upload is None:
        raise BadRequest(
            f"there is no {name} in the request" if not reference else "wrong file identifier/HTTP URL specified"
        )
    if not upload.content:
        raise BadRequest("file must be non-empty")
    return upload
