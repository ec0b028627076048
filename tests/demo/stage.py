"""The demo's stage: one installation, what is typed, and what is seen."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from rich.console import Console
from rich.rule import Rule
from rich.text import Text

from supervisor.localbot.client import Event, LocalBotAway, LocalBotClient, Message
from supervisor.localbot.store import EventKind
from tests.support.installation import Installation

PATIENCE_SECONDS: Final = 240.0
_LOOK_SECONDS: Final = 1.0


class Stage:
    """Types into the chat and the terminal, and prints everything that comes back."""

    def __init__(self, installation: Installation, console: Console, client: LocalBotClient) -> None:
        self.installation = installation
        self._console = console
        self._client = client
        self._cursor = 0
        self._seen: dict[int, list[str]] = {}
        self._over = threading.Event()

    def scene(self, title: str) -> None:
        """Say what is about to be shown."""
        self._console.print()
        self._console.print(Rule(title, align="left"))

    def remark(self, text: str) -> None:
        """Explain what is seen."""
        self._console.print(Text(text, style="italic"), soft_wrap=True)

    def say(self, text: str) -> None:
        """Write into the chat."""
        self._line("you", text, "bold cyan")
        self._cursor = self._client.send(text).cursor

    def hear(self, *words: str) -> Message:
        """Wait for a message of the bot that says all of this. Raises TimeoutError."""
        heard = self._client.wait_for(
            lambda message: all(word in message.text for word in words), PATIENCE_SECONDS, after=self._cursor
        )
        self._wait_until_shown(heard)
        return heard

    def press(self, label: str, *words: str) -> None:
        """Wait for a message that says this and has such a button, and press it. Raises TimeoutError."""
        asked = self._client.wait_for(
            lambda message: (
                any(button.label == label for button in message.buttons) and all(word in message.text for word in words)
            ),
            PATIENCE_SECONDS,
            after=self._cursor,
        )
        self._wait_until_shown(asked)
        self._line("you", f"[{label}]", "bold cyan")
        self._cursor = self._client.press(label, message_id=asked.message_id).cursor

    def _wait_until_shown(self, message: Message) -> None:
        """Nobody goes on from what they have not seen."""
        deadline = time.monotonic() + _LOOK_SECONDS
        while self._seen.get(message.message_id) != message.text.splitlines() and time.monotonic() < deadline:
            time.sleep(0.02)

    def run(self, *arguments: str) -> str:
        """Run a command of the supervisor and print what it says; gives that."""
        self._console.print(Text(f"$ supervisor {' '.join(arguments)}", style="bold"))
        out = self.installation.run(*arguments).expect(0).out
        self._console.print(Text(out.rstrip()), soft_wrap=True)
        return out

    def glance(self, title: str) -> None:
        """Print in a line what `supervisor status` and `supervisor history` say: of an update, and of the workers."""
        entry = next(entry for entry in self.installation.history() if entry["title"] == title)
        status = self.installation.status()
        workers = [
            f"{role} {worker['sha'][:12]} {worker['health']}"
            for role in ("active", "standby")
            if (worker := status[role]) is not None
        ]
        line = f"update {entry['tx_id'][:8]} is {entry['status']}; {', '.join(workers)}; epoch {_epoch(status)}"
        self._line("status", line, "yellow")

    def tree(self, tx: str) -> None:
        """Print the event tree of an update as it is by now."""
        self.run("events", "--tx", tx, "--no-payload")

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Print what the bot does meanwhile."""
        listener = threading.Thread(target=self._listen, daemon=True)
        listener.start()
        try:
            yield
        finally:
            self._over.set()
            listener.join(timeout=2 * _LOOK_SECONDS)

    def _listen(self) -> None:
        cursor = 0
        while not self._over.is_set():
            try:
                events = self._client.events(cursor, wait=_LOOK_SECONDS)
            except LocalBotAway:
                self._over.wait(_LOOK_SECONDS)
                continue
            for event in events:
                cursor = event.cursor
                self._show(event)

    def _show(self, event: Event) -> None:
        if event.kind is EventKind.ANSWER and event.text:
            self._line("bot", f"({event.text})", "green")
        elif event.from_bot and event.message is not None:
            message = event.message
            lines = message.text.splitlines()
            before = self._seen.get(message.message_id, [])
            for line in lines:
                if line not in before:
                    self._line("bot", line, "green")
            if message.document:
                self._line("bot", f"file: {message.document}", "green")
            if message.buttons:
                self._line("bot", "  ".join(f"[{button.label}]" for button in message.buttons), "green")
            self._seen[message.message_id] = lines

    def _line(self, who: str, text: str, style: str) -> None:
        self._console.print(Text.assemble((f"{who} | ", style), text), soft_wrap=True)


def _epoch(status: dict[str, Any]) -> object:
    return status["active"]["epoch"] if status["active"] else "-"
