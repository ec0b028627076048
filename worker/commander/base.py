"""What the agent knows of a chat service."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class UpdateKind(StrEnum):
    """What came in."""

    MESSAGE = "message"
    CALLBACK = "callback"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Button:
    """A button under a message. ``data`` comes back when it is pressed: opaque, at most 64 bytes."""

    label: str
    data: str


@dataclass(frozen=True, slots=True)
class Incoming:
    """One update. ``date`` is in seconds since the Unix epoch; ``private`` means a chat with one person.

    ``text`` is what the model gets to read, attachments named in it; ``forwarded_from`` says whose
    words they are when they are not the sender's own. Of a callback, ``text`` is the button's data, ``message_id``
    the message that it is under, and ``callback_id`` what answers it.
    """

    update_id: int
    kind: UpdateKind
    chat_id: int
    user_id: int | None
    private: bool
    text: str
    date: float | None
    forwarded_from: str = ""
    message_id: int | None = None
    callback_id: str = ""


class Commander(Protocol):
    """A chat service."""

    @property
    def source(self) -> str:
        """The name under which updates are stored: which service, which bot."""

    @property
    def owners(self) -> frozenset[int]:
        """User ids that are owners by the nature of this service."""

    async def poll(self, offset: int | None, *, at_once: bool) -> list[Incoming]:
        """The updates from ``offset`` on; waits for the first one unless told to answer at once.

        Raises CommanderError.
        """

    def parse(self, raw: str) -> Incoming | None:
        """An update as the service wrote it, from somebody else who polled; None when it cannot be read."""

    async def drop_pending(self) -> None:
        """Forget what waits at the service. Raises CommanderError."""

    def parts(self, text: str, *, formatted: bool) -> list[str]:
        """The text in pieces that one message each can hold; ``formatted`` text is the Markdown of a model."""

    async def send(self, chat_id: int, text: str, *, formatted: bool = False, replaces: int | None = None) -> int:
        """Send one final message and give its id; ``replaces`` is the id of a shown one that becomes it.

        What replaces a message can be sent again at no harm, so it is never Ambiguous unless that message is gone.
        Raises CommanderError.
        """

    async def show(self, chat_id: int, text: str, message_id: int | None = None) -> int:
        """Show something for the time being, in a new message or in place of what one shows, and give its id.

        Raises CommanderError.
        """

    async def ask(self, chat_id: int, text: str, buttons: Sequence[Button]) -> int:
        """Send a plain text with buttons under it, and give its id; ``show`` takes the buttons off again.

        Raises CommanderError.
        """

    async def remove_buttons(self, chat_id: int, message_id: int) -> None:
        """Take the buttons off a message whose text is not known. Raises CommanderError."""

    async def answer_press(self, callback_id: str, text: str, *, alert: bool = False) -> None:
        """End the waiting sign on a pressed button; who pressed it is shown ``text``. Raises CommanderError."""

    async def show_working(self, chat_id: int) -> None:
        """Show for some seconds that an answer is being made. Raises CommanderError."""

    async def publish_commands(self, commands: Mapping[str, str]) -> None:
        """Offer the commands, by name and with a word on each, in the service's own menu. Raises CommanderError."""

    async def close(self) -> None:
        """Free the connections."""


class CommanderError(Exception):
    """A call to the chat service failed.

    CommanderError
    ├── Unreachable   nothing was accepted; trying again is safe
    ├── Ambiguous     the request went out, and nobody can say whether it was accepted
    ├── Rejected      refused for good: the same request will never be accepted
    ├── Conflict      somebody else polls the same bot
    └── RateLimited   to be tried again after a given time
    """


class Unreachable(CommanderError):
    """Nothing was accepted; trying again is safe."""


class Ambiguous(CommanderError):
    """The request went out, and nobody can say whether it was accepted."""


class Rejected(CommanderError):
    """Refused for good."""


class Conflict(CommanderError):
    """Somebody else polls the same bot."""


class RateLimited(CommanderError):
    """Too many requests; ``retry_after`` seconds must pass."""

    def __init__(self, retry_after: float) -> None:
        super().__init__(f"rate limited, to be tried again after {retry_after:g} s")
        self.retry_after = retry_after
