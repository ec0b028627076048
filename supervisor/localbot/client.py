"""The user's side as a Python object, for the command line, the exam and tests."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import httpx

from supervisor.localbot.faults import EVERY_METHOD, Call, Fault, FaultKind, Poll, PollOutcome
from supervisor.localbot.store import OWNER, EventKind

_ANSWER_SECONDS: Final = 10.0  # for an answer that does not wait for anything


class LocalBotAway(ConnectionError):
    """Nobody answers on the socket."""


class LocalBotRefused(ValueError):
    """The local bot cannot do what was asked; the text says why in one line."""


@dataclass(frozen=True)
class Button:
    """A button under a message."""

    label: str
    data: str


@dataclass(frozen=True)
class Message:
    """A message as a user sees it. ``text`` is a document's caption where there is one.

    ``reply_to`` is the id of the message that it answers, if it does.
    """

    chat_id: int
    message_id: int
    text: str
    buttons: tuple[Button, ...]
    document: str  # the file's name, empty without one
    edited: bool
    reply_to: int | None = None

    @classmethod
    def from_api(cls, message: dict[str, Any]) -> Self:
        """The same from the Bot API's form."""
        rows = message.get("reply_markup", {}).get("inline_keyboard", [])
        return cls(
            chat_id=message["chat"]["id"],
            message_id=message["message_id"],
            text=message.get("text") or message.get("caption", ""),
            buttons=tuple(Button(b["text"], b.get("callback_data", "")) for row in rows for b in row),
            document=message.get("document", {}).get("file_name", ""),
            edited="edit_date" in message,
            reply_to=message.get("reply_to_message", {}).get("message_id"),
        )


@dataclass(frozen=True)
class Event:
    """Something that happened in a chat."""

    cursor: int
    at: float  # seconds since the epoch, by the local bot's clock
    kind: EventKind
    from_bot: bool
    message: Message | None  # of a message or an edit
    text: str  # of an answer; the name of an action


@dataclass(frozen=True)
class Sent:
    """What became of a text or a press."""

    message_id: int  # of the text, or of the message with the button
    update_id: int | None  # None: the bot did not allow this kind of update
    cursor: int  # what happens after this is news


class LocalBotClient:
    """Talks to the local bot on its user socket ``path``. Threads may share one.

    Every method raises ``LocalBotAway`` when nobody answers and ``LocalBotRefused`` when it cannot be done.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._http = httpx.Client(
            # No TLS on this socket: without its certificates the client is made 30 ms sooner.
            transport=httpx.HTTPTransport(uds=str(path), verify=False),
            base_url="http://localhost/local/",
            timeout=_ANSWER_SECONDS,
        )

    def ping(self) -> None:
        """Return when it answers."""
        self._request("GET", "ping", {})

    def send(self, text: str, *, chat_id: int = OWNER, user_id: int = OWNER, first_name: str = "Owner") -> Sent:
        """Write a text to the bot."""
        order = {"text": text, "chat_id": chat_id, "user_id": user_id, "first_name": first_name}
        return Sent(**self._request("POST", "send", order).json())

    def press(self, button: str, *, message_id: int | None = None, chat_id: int = OWNER, user_id: int = OWNER) -> Sent:
        """Press the button with this label or data, of the newest message that has it when none is named."""
        order = {"button": button, "message_id": message_id, "chat_id": chat_id, "user_id": user_id}
        return Sent(**self._request("POST", "press", order).json())

    def update(self, kind: str, body: dict[str, Any]) -> int | None:
        """Pass any other update to the bot and return its id."""
        update_id: int | None = self._request("POST", "update", {kind: body}).json()["update_id"]
        return update_id

    def events(self, after: int = 0, *, wait: float = 0.0, chat_id: int = OWNER) -> list[Event]:
        """What happened after a cursor, oldest first, waiting up to ``wait`` seconds for the first event."""
        query = {"after": after, "wait": wait, "chat_id": chat_id}
        return [_event(event) for event in self._request("GET", "events", query, wait=wait).json()["events"]]

    def messages(self, after: int = 0, *, wait: float = 0.0, chat_id: int = OWNER) -> list[Message]:
        """The bot's messages with an id above ``after``, as they are now, waiting for the first."""
        query = {"after": after, "wait": wait, "chat_id": chat_id}
        found = self._request("GET", "messages", query, wait=wait).json()["messages"]
        return [Message.from_api(message) for message in found]

    def wait_for(
        self, wanted: Callable[[Message], bool], timeout: float, *, after: int = 0, chat_id: int = OWNER
    ) -> Message:
        """The first message or edit of the bot after a cursor that is ``wanted``; ``TimeoutError`` without one."""
        deadline = time.monotonic() + timeout
        while True:
            remaining = deadline - time.monotonic()
            events = self.events(after, wait=max(0.0, remaining), chat_id=chat_id)
            for event in events:
                after = event.cursor
                if event.from_bot and event.message is not None and wanted(event.message):
                    return event.message
            if not events and remaining <= 0:
                raise TimeoutError(f"no such message of the bot within {timeout:g} s")

    def document(self, message_id: int, *, chat_id: int = OWNER) -> bytes:
        """The bytes of a document."""
        return self._request("GET", "document", {"message_id": message_id, "chat_id": chat_id}).content

    def fault(
        self,
        kind: FaultKind,
        method: str = EVERY_METHOD,
        *,
        count: int = Fault.count,
        seconds: float = Fault.seconds,
        status: int = Fault.status,
    ) -> None:
        """Let the next ``count`` calls of a method of the Bot API go wrong."""
        order = {"kind": kind, "method": method, "count": count, "seconds": seconds, "status": status}
        self._request("POST", "fault", order)

    def clear_faults(self) -> None:
        """Let everything go well again."""
        self._request("DELETE", "fault", {})

    def polls(self) -> list[Poll]:
        """The latest polls of the bot's programs, oldest first."""
        polls = self._request("GET", "record", {}).json()["polls"]
        return [Poll(**{**poll, "outcome": PollOutcome(poll["outcome"])}) for poll in polls]

    def calls(self) -> list[Call]:
        """The latest calls of the bot's programs with the status of their answers, oldest first."""
        return [Call(**call) for call in self._request("GET", "record", {}).json()["calls"]]

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _request(self, method: str, route: str, values: dict[str, Any], *, wait: float = 0.0) -> httpx.Response:
        sent: dict[str, Any] = {"params": values} if method == "GET" else {"json": values}
        try:
            response = self._http.request(method, route, timeout=_ANSWER_SECONDS + wait, **sent)
        except httpx.TransportError as exc:
            raise LocalBotAway(f"the local bot does not answer on {self._path}; `make up` starts it") from exc
        if response.status_code == httpx.codes.BAD_REQUEST:
            raise LocalBotRefused(response.json()["error"])
        if response.is_error:  # 404: a socket on which there is no user's side
            raise LocalBotAway(f"the local bot on {self._path} failed: HTTP {response.status_code}")
        return response


def _event(event: dict[str, Any]) -> Event:
    message = event.get("message")
    return Event(
        cursor=event["cursor"],
        at=event["at"],
        kind=EventKind(event["kind"]),
        from_bot=event.get("from_bot", True),
        message=Message.from_api(message) if message else None,
        text=event.get("text", event.get("action", "")),
    )
