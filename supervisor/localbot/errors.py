"""What the local bot answers instead of a result.

LocalBotError
├── ApiError         told to the bot's program in Telegram's own form
│   ├── BadRequest   400, "Bad Request: ..."
│   └── PollConflict 409, told to the older of two pollers
├── RequestRefused   told to the user's side
└── ClientGone       the client closed the connection: nobody is left to tell
"""


class LocalBotError(Exception):
    """Base of all errors of the local bot."""


class ApiError(LocalBotError):
    """A refusal as Telegram words it. ``retry_after`` is in seconds."""

    def __init__(self, status: int, description: str, *, retry_after: int | None = None) -> None:
        super().__init__(description)
        self.status = status
        self.description = description
        self.retry_after = retry_after


class BadRequest(ApiError):
    """400, the most usual refusal."""

    def __init__(self, reason: str) -> None:
        super().__init__(400, f"Bad Request: {reason}")


class PollConflict(ApiError):
    """409: another poll has begun."""

    def __init__(self) -> None:
        super().__init__(
            409, "Conflict: terminated by other getUpdates request; make sure that only one bot instance is running"
        )


class RequestRefused(LocalBotError):
    """A request of the user's side that cannot be met; the text says why."""


class ClientGone(LocalBotError):
    """The client closed its connection while it waited."""
