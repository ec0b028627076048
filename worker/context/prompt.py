"""Where the system prompt comes from."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

PROMPT_FILE: Final = "AUTONOUS.md"
BUILT_IN: Final = (
    "You are autonous, an agent that talks to its owner in a chat. Answer in the language of the message, "
    "plainly and briefly, in plain text. Say so when you do not know something or cannot do it."
)


class PromptUnreadable(Exception):
    """The file with the system prompt cannot be read; the message is one line for a person."""


@dataclass(frozen=True, slots=True)
class SystemPrompt:
    """The text, and a word on its origin: ``file``, ``environment`` or ``built_in``."""

    text: str
    origin: str

    @classmethod
    def load(cls, config_dir: Path, from_environment: str | None) -> "SystemPrompt":
        """The file in the configuration directory, else the environment's text, else the built-in one.

        Raises PromptUnreadable when the file is there and cannot be read.
        """
        path = config_dir / PROMPT_FILE
        try:
            if path.is_file() and (text := path.read_text(encoding="utf-8").strip()):
                return cls(text, "file")
        except (OSError, UnicodeDecodeError) as error:
            raise PromptUnreadable(f"{path} cannot be used as the system prompt: {error}") from error
        if from_environment:
            return cls(from_environment, "environment")
        return cls(BUILT_IN, "built_in")
