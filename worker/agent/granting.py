"""Grants: the owner opens directories of the host to the tools for a time, by a command or a button.

The supervisor decides what can be granted at all, and keeps it; here it is only relayed and shown.
"""

import math
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Protocol

from supervisor.contract import Grant, GrantOrder, Grants, Revocation
from worker.agent.asks import Answer, Asks, Wording, listed, plain
from worker.agent.journal import Attempt
from worker.agent.toolset import OwnTool
from worker.selfupdate.base import Away, SupervisorError
from worker.tools.base import Arguments, ErrorClass, ToolError, ToolResult, argument

GRANTING: Final[Mapping[str, str]] = {
    "grant": "<path> ro|rw <hours>: open a directory to my tools",
    "grants": "what is open to my tools",
    "revoke": "<number>: take a grant back",
}
USAGE: Final = "Write: /grant <path> ro|rw <hours>, as in /grant /srv/reports ro 2"
ALONE_TEXT: Final = "Nothing can be granted: I run without a supervisor, so my tools see what my own user sees."
NONE: Final = "Nothing is granted: my tools see their workspace alone."
LONGEST_HOURS: Final = 24.0
FRESH_SECONDS: Final = 10.0
_MODES: Final = {"ro": "to read", "rw": "to read and write"}


class GrantDesk(Protocol):
    """Who keeps the grants. Every method raises SupervisorError."""

    async def grants(self) -> Grants:
        """What is granted now."""

    async def grant(self, order: GrantOrder) -> Grant:
        """Open a directory."""

    async def revoke(self, number: int, revocation: Revocation) -> Grant:
        """Take a grant back."""


@dataclass(frozen=True, slots=True)
class RootArguments(Arguments):
    """A directory of the host, and for how long it is wanted."""

    path: str = argument("an absolute path of the owner's machine, a directory", min_length=1, max_length=1024)
    mode: str = argument("ro to read, rw to read and write", pattern="^(ro|rw)$")
    hours: float = argument("for how long, at most 24", gt=0, le=LONGEST_HOURS)
    why: str = argument("what you need it for, in a sentence that the owner reads", min_length=1, max_length=500)


class Granting:
    """Relays grants. ``desk`` is None where no supervisor is."""

    def __init__(self, *, desk: GrantDesk | None, asks: Asks, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._desk = desk
        self._asks = asks
        self._monotonic = monotonic
        self._known: tuple[Grant, ...] = ()
        self._known_at = -math.inf

    # -- the owner

    def commands(self) -> Mapping[str, Callable[[int, str], Awaitable[str]]]:
        """The direct commands; each gives what the chat is told, or raises SupervisorError."""
        return {"grant": self._grant_by_words, "grants": self._list, "revoke": self._revoke_by_number}

    async def _grant_by_words(self, chat_id: int, argument: str) -> str:
        words = argument.rsplit(maxsplit=2)
        if len(words) != len(("path", "mode", "hours")) or words[1] not in _MODES:
            return USAGE
        try:
            hours = float(words[2])
        except ValueError:
            return USAGE
        if self._desk is None:
            return ALONE_TEXT
        if not math.isfinite(hours):
            return USAGE
        return _granted(await self._open(GrantOrder(path=words[0], mode=words[1], hours=hours, **_by(chat_id))))

    async def _list(self, _: int, __: str) -> str:
        if self._desk is None:
            return ALONE_TEXT
        known = await self._desk.grants()
        roots = ", ".join(known.grantable_roots) or "none (AUTONOUS_GRANTABLE_ROOTS is not set)"
        lines = [f"{_line(grant)}\n/revoke_{grant.number} takes it back." for grant in known.grants]
        return "\n\n".join([*(lines or [NONE]), f"Can be granted: what is under {roots}."])

    async def _revoke_by_number(self, chat_id: int, argument: str) -> str:
        if self._desk is None:
            return ALONE_TEXT
        if not argument.isdecimal():
            return "Write: /revoke <number>. /grants lists them."
        grant = await self._desk.revoke(int(argument), Revocation(**_by(chat_id)))
        self._known_at = -math.inf
        return f"Revoked: {grant.path}. My tools cannot reach it any more."

    # -- the model

    def tools(self) -> Sequence[OwnTool]:
        """What the model can call to be granted something."""
        if self._desk is None:
            return ()
        return (
            OwnTool(
                "request_root",
                "Asks the owner to open a directory of their machine to your tools for some hours. It is then there at "
                "the same path. Ask for no more than you need.",
                RootArguments,
                self._request,
            ),
        )

    async def _request(self, arguments: RootArguments, attempt: Attempt) -> ToolResult:
        """The owner is asked by a button. Raises ToolError."""
        chat_id = attempt.task.chat_id
        if self._desk is None:
            raise ToolError("not_grantable", ALONE_TEXT, ErrorClass.POLICY)
        fields = [
            ("path", plain(arguments.path)),
            ("access", _MODES[arguments.mode]),
            ("hours", f"{arguments.hours:g}"),
            ("why", plain(arguments.why)),
        ]
        wording = Wording(
            text=f"May my tools have this directory?\n\n{listed(fields)}",
            yes="Grant",
            no="Deny",
            said_yes="Granted.",
            said_no="Not granted.",
        )
        answer = await self._asks.ask(chat_id, wording)
        if answer is not Answer.YES:
            reason = "nobody answered in time" if answer is Answer.TIMED_OUT else "the owner does not grant it"
            raise ToolError("not_granted", f"{arguments.path}: {reason}; go on without it", ErrorClass.POLICY)
        order = GrantOrder(
            path=arguments.path, mode=arguments.mode, hours=arguments.hours, why=arguments.why, **_by(chat_id)
        )
        try:
            grant = await self._open(order)
        except Away as error:
            raise ToolError("supervisor_away", "the supervisor does not answer just now: try again later") from error
        except SupervisorError as error:
            raise ToolError("not_grantable", str(error), ErrorClass.POLICY) from error
        return ToolResult(ok=True, stdout=_granted(grant), meta={"grant": grant.number, "ends_at": grant.ends_at})

    # -- what is granted

    async def used_by(self, text: str) -> list[Grant]:
        """The grants whose directories a call names; a guess by its words, for the events alone."""
        if self._desk is None:
            return []
        if self._monotonic() - self._known_at > FRESH_SECONDS:
            try:
                self._known = tuple((await self._desk.grants()).grants)
            except SupervisorError:
                self._known = ()
            self._known_at = self._monotonic()
        return [grant for grant in self._known if grant.path in text]

    async def _open(self, order: GrantOrder) -> Grant:
        assert self._desk is not None  # noqa: S101 - asked by whoever calls
        grant = await self._desk.grant(order)
        self._known_at = -math.inf
        return grant


def _by(chat_id: int) -> dict[str, int]:
    """A private chat has its user's id."""
    return {"user_id": chat_id, "chat_id": chat_id}


def _granted(grant: Grant) -> str:
    now = "" if grant.in_force else " It takes effect when the tool call in hand has ended."
    return f"Granted: {_line(grant)}{now} /revoke_{grant.number} takes it back."


def _line(grant: Grant) -> str:
    until = datetime.fromtimestamp(grant.ends_at, UTC).strftime("%Y-%m-%d %H:%M UTC")
    why = f" ({grant.why})" if grant.why else ""
    return f"{grant.path}, {_MODES.get(grant.mode, grant.mode)}, until {until}{why}."
