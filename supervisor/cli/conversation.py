"""The terminal's side of a conversation over the local bot: say one thing, press a button, or chat."""

import json
import re
import sys
import threading
import time
import unicodedata
from collections.abc import Callable, Iterator
from typing import Final, TextIO

from rich.console import Console
from rich.text import Text

from supervisor.cli.errors import NoLongerAwaited
from supervisor.localbot.client import Event, LocalBotAway, LocalBotClient, LocalBotRefused, Message, Sent
from supervisor.localbot.store import EventKind

#: Quiet after the bot's last word that makes it its final one.
SETTLE_SECONDS: Final = 0.3
#: How long a sign of typing stands, as in Telegram: for so long more is expected.
TYPING_SECONDS: Final = 5.0
#: How long a chat whose input is no terminal waits for the answer to each line.
PATIENCE_SECONDS: Final = 60.0
_RETRY_SECONDS: Final = 1.0
_LONG_POLL_SECONDS: Final = 60.0
_RECENT_MESSAGES: Final = 3
_ESCAPES: Final = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # colours, cursor movements
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?"  # titles, links, device strings
    r"|\x1b[ -/]*[0-~]"
)
_BIDI: Final = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_PRESS: Final = re.compile(r"(?P<command>/press\s+)?(?P<number>\d{1,3})")


def clean(text: str) -> str:
    """A text that cannot steer the terminal: no escape sequences, control or direction characters."""
    return "".join(
        character
        for character in _ESCAPES.sub("", text)
        if character in "\n\t" or not (unicodedata.category(character) == "Cc" or character in _BIDI)
    )


def say(client: LocalBotClient, text: str, *, wait: float, as_json: bool, console: Console) -> int:
    """Send a text and print the replies to it; the exit code.

    Waits up to ``wait`` seconds: 1 when no reply came in that time, 0 at once when it is 0. Raises NoLongerAwaited.
    """
    try:
        sent = client.send(text)
        return _ask(client, sent, _newer_than(sent), wait=wait, as_json=as_json, console=console)
    except (LocalBotAway, LocalBotRefused) as exc:
        return _fail(exc)


def press(client: LocalBotClient, label: str, *, wait: float, as_json: bool, console: Console) -> int:
    """Press the newest button with this label and print what follows, edits included; the exit code as of ``say``."""
    try:
        return _ask(client, client.press(label), _any_message, wait=wait, as_json=as_json, console=console)
    except (LocalBotAway, LocalBotRefused) as exc:
        return _fail(exc)


def chat(client: LocalBotClient, *, console: Console, lines: TextIO, patience: float = PATIENCE_SECONDS) -> int:
    """Talk until the input ends or Ctrl-C comes; the exit code.

    At a terminal the bot's messages are printed whenever they come. Otherwise each line waits until its answer has
    settled, at most ``patience`` seconds, so that a script can press the buttons of the answer before.
    """
    screen = Screen(console)
    try:
        return _converse(client, screen, lines) if lines.isatty() else _recite(client, screen, lines, patience)
    except KeyboardInterrupt:
        return 0
    except LocalBotAway as exc:
        return _fail(exc)


class Screen:
    """Prints messages and numbers their buttons, so that a number can press one."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._buttons: Message | None = None  # the message whose buttons have the numbers

    def show(self, event: Event) -> None:
        """Print what the bot did, if there is something to see."""
        if event.from_bot and event.message is not None:
            self.print(event.message, again=event.kind is EventKind.EDIT)
        elif event.kind is EventKind.ANSWER and event.text:
            self.write(f"* {event.text}")

    def print(self, message: Message, *, again: bool = False) -> None:
        """Print a message; ``again`` when it is an edit of one that was printed."""
        lines = [("(edited) " if again else "") + message.text]
        if message.document:
            lines.append(f"[file] {message.document}")
        if message.buttons:
            self._buttons = message
            lines.append("  ".join(f"[{n}] {button.label}" for n, button in enumerate(message.buttons, start=1)))
        elif self._buttons is not None and self._buttons.message_id == message.message_id:
            self._buttons = None  # an edit took them off
        self.write("\n".join(line for line in lines if line))

    def write(self, text: str) -> None:
        """Print a text of somebody else's making."""
        self._console.print(Text(clean(text)), soft_wrap=True)

    def button(self, number: int) -> tuple[Message, str] | None:
        """The message and the data of the button with this number."""
        if self._buttons is None or not 1 <= number <= len(self._buttons.buttons):
            return None
        return self._buttons, self._buttons.buttons[number - 1].data


def follow(
    client: LocalBotClient, after: int, *, wait: float, reply: Callable[[Event], bool], show: Callable[[Event], None]
) -> bool:
    """Pass on what happens after a cursor until the bot has settled; whether there was a ``reply``.

    It has settled when it was quiet after a reply, or when ``wait`` seconds ran out.
    """
    deadline = time.monotonic() + wait
    replied, quiet = False, wait
    while True:
        remaining = max(0.0, deadline - time.monotonic())
        events = client.events(after, wait=min(remaining, quiet))
        for event in events:
            after = event.cursor
            show(event)
            replied = replied or reply(event)
            if replied:
                quiet = TYPING_SECONDS if event.kind is EventKind.ACTION else SETTLE_SECONDS
        if not remaining or (replied and not events):
            return replied


def _newer_than(sent: Sent) -> Callable[[Event], bool]:
    """What replies to a text: a message, or its edit, that came after the text."""
    return lambda event: event.from_bot and event.message is not None and event.message.message_id > sent.message_id


def _any_message(event: Event) -> bool:
    """What replies to a press: any message, also an edit of the one with the button."""
    return event.from_bot and event.message is not None


def _ask(
    client: LocalBotClient,
    sent: Sent,
    reply: Callable[[Event], bool],
    *,
    wait: float,
    as_json: bool,
    console: Console,
) -> int:
    """Collect the replies, each in its last form, and print them."""
    replies: dict[int, Message] = {}
    answers: list[Event] = []

    def collect(event: Event) -> None:
        if event.message is not None and reply(event):
            replies[event.message.message_id] = event.message
        elif event.kind is EventKind.ANSWER:
            answers.append(event)

    try:
        follow(client, sent.cursor, wait=wait, reply=reply, show=collect)
    except KeyboardInterrupt:
        raise NoLongerAwaited("it was sent; `supervisor chat` shows the answer once it is there") from None
    if as_json:
        shown = [
            {"message_id": m.message_id, "text": m.text, "buttons": [button.label for button in m.buttons]}
            for m in replies.values()
        ]
        print(json.dumps({"replies": shown}), file=console.file)
    else:
        screen = Screen(console)
        for event in answers:
            screen.show(event)
        for message in replies.values():
            screen.print(message)
    if wait and not replies:
        return _fail(TimeoutError(f"no reply within {wait:g} s"))
    return 0


def _recite(client: LocalBotClient, screen: Screen, lines: TextIO, patience: float) -> int:
    """A chat whose lines are a script."""
    code = 0
    for line in lines:
        try:
            sent = _act(client, screen, line)
        except LocalBotRefused as exc:
            code = _fail(exc)
            continue
        if sent is not None and not follow(client, sent.cursor, wait=patience, reply=_any_message, show=screen.show):
            code = _fail(TimeoutError(f"no reply within {patience:g} s"))
    return code


def _converse(client: LocalBotClient, screen: Screen, lines: TextIO) -> int:
    """A chat with a person: a thread prints what comes while they type."""
    past = client.events()
    recent = {e.message.message_id: e.message for e in past if e.from_bot and e.message is not None}
    for message in list(recent.values())[-_RECENT_MESSAGES:]:
        screen.print(message)
    after = past[-1].cursor if past else 0
    threading.Thread(target=_print_news, args=(client, screen, after), name="news", daemon=True).start()
    for line in _typed(lines):
        try:
            _act(client, screen, line)
        except (LocalBotAway, LocalBotRefused) as exc:
            _fail(exc)
    return 0


def _print_news(client: LocalBotClient, screen: Screen, after: int) -> None:
    while True:
        try:
            events = client.events(after, wait=_LONG_POLL_SECONDS)
        except LocalBotAway:  # it may come back; who types meanwhile is told
            time.sleep(_RETRY_SECONDS)
            continue
        for event in events:
            after = event.cursor
            screen.show(event)


def _typed(lines: TextIO) -> Iterator[str]:
    if lines is not sys.stdin:
        yield from lines
        return
    import readline  # noqa: F401 - gives input() its line editing

    while True:
        try:
            yield input()
        except EOFError:
            return


def _act(client: LocalBotClient, screen: Screen, line: str) -> Sent | None:
    """Do what a line says: press a button by number or label, or send it; ``None`` for an empty one."""
    text = line.strip()
    if not text:
        return None
    numbered = _PRESS.fullmatch(text)
    if numbered is not None:
        found = screen.button(int(numbered["number"]))
        if found is not None:
            message, data = found
            return client.press(data, message_id=message.message_id)
        if numbered["command"]:
            raise LocalBotRefused(f"there is no button {numbered['number']}")
    elif text.startswith("/press "):
        return client.press(text.removeprefix("/press ").strip())
    return client.send(text)


def _fail(error: Exception) -> int:
    print(clean(str(error)), file=sys.stderr)
    return 1
