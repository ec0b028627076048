"""The user's side of the conversation, under ``/local``: routes that the real Bot API does not have.

They ask nobody who they are: whoever reaches them is every user. They have a socket of their own for that reason.

| route                     | request                                             | answer                           |
|---------------------------|-----------------------------------------------------|----------------------------------|
| GET  /local/ping          | -                                                   | -                                |
| POST /local/send          | text, user_id, chat_id, first_name                  | message_id, update_id, cursor    |
| POST /local/press         | button (label or data), message_id, user_id, chat_id | message_id, update_id, cursor   |
| POST /local/update        | one update without its id, as the bot shall get it  | update_id                        |
| GET  /local/events        | after (cursor), wait (seconds), chat_id             | cursor, events                   |
| GET  /local/messages      | after (message_id), wait (seconds), chat_id         | messages of the bot              |
| GET  /local/document      | message_id, chat_id                                 | the bytes                        |
| POST, DELETE /local/fault | kind, method, count, seconds, status                | -                                |
| GET  /local/record        | -                                                   | polls, calls                     |

An event's ``kind`` is ``message`` or ``edit`` (with ``message`` and ``from_bot``), ``action`` or ``answer``.
"""

from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from supervisor.localbot.botapi import LONGEST_TEXT
from supervisor.localbot.entities import commands, utf16_length
from supervisor.localbot.errors import ApiError, ClientGone, RequestRefused
from supervisor.localbot.faults import Fault, Faults, Record
from supervisor.localbot.parameters import Parameters, read_parameters
from supervisor.localbot.store import OWNER, BotStore, Json
from supervisor.localbot.waiting import Bell

_LONGEST_WAIT_SECONDS: Final = 300.0


class UserSide:
    """Acts as the users and shows what they see."""

    def __init__(self, store: BotStore, bell: Bell, faults: Faults, record: Record) -> None:
        self._store = store
        self._bell = bell
        self._faults = faults
        self._record = record
        if store.chat(OWNER) is None:
            store.remember_chat(_chat(OWNER, "Owner"))  # so that the bot may write first

    def routes(self) -> list[Route]:
        """The routes, to be mounted."""
        table = (
            ("GET", "ping", self.ping),
            ("POST", "send", self.send),
            ("POST", "press", self.press),
            ("POST", "update", self.update),
            ("GET", "events", self.events),
            ("GET", "messages", self.messages),
            ("GET", "document", self.document),
            ("POST", "fault", self.fault),
            ("DELETE", "fault", self.no_fault),
            ("GET", "record", self.record),
        )
        return [Route(f"/local/{name}", endpoint, methods=[method]) for method, name, endpoint in table]

    async def ping(self, _: Request) -> Response:
        """Whether anybody is there."""
        return JSONResponse({})

    async def send(self, request: Request) -> Response:
        """A user writes a text. Their chat comes into being with it."""
        parameters = await read_parameters(request)
        text = parameters.text("text")
        if not text.strip():
            raise RequestRefused("nothing to send: the text is empty")
        if utf16_length(text) > LONGEST_TEXT:
            raise RequestRefused(f"too long: a message holds at most {LONGEST_TEXT} characters")
        user, chat_id = _user(parameters), parameters.integer("chat_id", OWNER)
        entities = commands(text)
        with self._store.transaction():
            self._store.remember_chat(_chat(chat_id, user["first_name"]))
            body = {"from": user, "text": text} | ({"entities": entities} if entities else {})
            message = self._store.add_message(chat_id, body, from_bot=False)
            update_id = self._store.add_update("message", message)
        return self._accepted(message["message_id"], update_id)

    async def press(self, request: Request) -> Response:
        """A user presses a button, of the newest message that has it when none is named."""
        parameters = await read_parameters(request)
        user, chat_id = _user(parameters), parameters.integer("chat_id", OWNER)
        with self._store.transaction():
            message, data = self._find_button(chat_id, parameters.integer("message_id"), parameters.text("button"))
            press = {
                "id": self._store.add_press(chat_id),
                "from": user,
                "message": message,
                "chat_instance": str(chat_id),
                "data": data,
            }
            update_id = self._store.add_update("callback_query", press)
        return self._accepted(message["message_id"], update_id)

    async def update(self, request: Request) -> Response:
        """Any other update, for what users can do besides texts and buttons: it is passed on as it is."""
        values = (await read_parameters(request)).values
        if len(values) != 1 or not all(isinstance(body, dict) for body in values.values()):
            raise RequestRefused("not an update: exactly one object under the name of its kind is needed")
        update_ids = [self._store.add_update(kind, body) for kind, body in values.items()]
        self._bell.ring()
        return JSONResponse({"update_id": update_ids[0]})

    async def events(self, request: Request) -> Response:
        """What happened in a chat after a cursor, waiting for the first event."""
        parameters = await read_parameters(request)
        after, chat_id = parameters.integer("after"), parameters.integer("chat_id", OWNER)
        async with self._bell.listen(request.receive) as listener:
            events = await listener.until(lambda: self._store.journal(after, chat_id), _wait(parameters))
        return JSONResponse({"cursor": events[-1]["cursor"] if events else after, "events": events})

    async def messages(self, request: Request) -> Response:
        """The bot's messages in a chat after a message id, waiting for the first."""
        parameters = await read_parameters(request)
        after, chat_id = parameters.integer("after"), parameters.integer("chat_id", OWNER)
        async with self._bell.listen(request.receive) as listener:
            messages = await listener.until(lambda: self._store.bot_messages(chat_id, after), _wait(parameters))
        return JSONResponse({"messages": messages})

    async def document(self, request: Request) -> Response:
        """The bytes of a document that the bot sent."""
        parameters = await read_parameters(request)
        content = self._store.content(parameters.integer("chat_id", OWNER), parameters.integer("message_id"))
        if content is None:
            raise RequestRefused("no document in that message")
        return Response(content, media_type="application/octet-stream")

    async def fault(self, request: Request) -> Response:
        """Order a fault."""
        self._faults.order(Fault.from_json((await read_parameters(request)).values))
        return JSONResponse({})

    async def no_fault(self, _: Request) -> Response:
        """Take back all orders."""
        self._faults.clear()
        return JSONResponse({})

    async def record(self, _: Request) -> Response:
        """The latest polls and calls."""
        return JSONResponse(self._record.as_json())

    def _accepted(self, message_id: int, update_id: int | None) -> Response:
        self._bell.ring()
        return JSONResponse({"message_id": message_id, "update_id": update_id, "cursor": self._store.cursor()})

    def _find_button(self, chat_id: int, message_id: int, button: str) -> tuple[Json, str]:
        for message in self._store.messages_with_buttons(chat_id):
            if message_id in {0, message["message_id"]}:
                for candidate in (b for row in message["reply_markup"]["inline_keyboard"] for b in row):
                    if button in {candidate["text"], candidate.get("callback_data")} and "callback_data" in candidate:
                        return message, candidate["callback_data"]
        where = f"message {message_id}" if message_id else "any message"
        raise RequestRefused(f'no button "{button}" in {where} of chat {chat_id}')


async def refused(_: Request, error: Exception) -> Response:
    """The answer to a request of the user's side that cannot be met."""
    return JSONResponse({"error": str(error)}, status_code=400)


async def gone(_: Request, __: Exception) -> Response:
    """The answer that nobody waits for any more."""
    return Response(status_code=499)


#: How errors become answers.
HANDLERS: Final = {RequestRefused: refused, ApiError: refused, ClientGone: gone}


def _wait(parameters: Parameters) -> float:
    return min(parameters.seconds("wait"), _LONGEST_WAIT_SECONDS)


def _user(parameters: Parameters) -> Json:
    return {
        "id": parameters.integer("user_id", OWNER),
        "is_bot": False,
        "first_name": parameters.text("first_name") or "Owner",
    }


def _chat(chat_id: int, name: str) -> dict[str, Any]:
    """Groups have negative ids, as in Telegram; all others are private."""
    if chat_id < 0:
        return {"id": chat_id, "type": "group", "title": f"Group {-chat_id}"}
    return {"id": chat_id, "type": "private", "first_name": name}
