"""What the worker asks of its supervisor, whatever carries it there."""

from collections.abc import AsyncIterator
from typing import Any, Protocol

from supervisor.contract import Command, Press, Pressed, Progress, Submission, Submitted, Told


class SupervisorError(Exception):
    """The supervisor did not do what was asked; the message is one line.

    SupervisorError
    ├── Away       it cannot be reached, or does not know this yet: nothing is known to have happened
    └── Declined   it answered, and says why not
    """


class Away(SupervisorError):
    """It cannot be reached, or does not know this yet."""


class Declined(SupervisorError):
    """It answered, and says why not; ``code`` is one word."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class Supervisor(Protocol):
    """Who judges and decides. Every method raises SupervisorError."""

    async def press(self, press: Press) -> Pressed:
        """Somebody pressed a button of a message that the supervisor wrote."""

    async def command(self, command: Command) -> Told:
        """An owner sent a command that no model has a say in."""

    async def submit(self, submission: Submission) -> Submitted:
        """A patch to be turned into an update."""

    def progress(self, tx_id: str) -> AsyncIterator[Progress]:
        """The steps of an update from its first one on, until it waits for a person or is over."""

    async def history(self) -> list[dict[str, Any]]:
        """All updates, newest first, as ``supervisor history --json`` has them."""
