"""Commands that are answered at once, without a model and before the messages that wait."""

from collections.abc import Callable
from typing import Final

START_TEXT: Final = "I am autonous, an agent that can change its own source. Write to me, or send /help."
HELP_TEXT: Final = (
    "Write to me in plain words. Besides that I understand:\n/status - what I am and what I am doing\n/help - this text"
)


class DirectCommands:
    """The commands by name. ``status`` gives the text of ``/status``."""

    def __init__(self, status: Callable[[], str]) -> None:
        self._answers: dict[str, Callable[[], str]] = {
            "/start": lambda: START_TEXT,
            "/help": lambda: HELP_TEXT,
            "/status": status,
        }

    def answer(self, text: str) -> str | None:
        """The answer when the text is a command, None when it is for the model. ``/name@bot`` is understood."""
        words = text.split(maxsplit=1)
        name = words[0].partition("@")[0].lower() if words else ""
        answer = self._answers.get(name)
        return None if answer is None else answer()
