"""While nothing runs the supervisor polls the bot itself, so that nothing is lost and the owner can go back.

It answers an owner's ``/status``, ``/history`` and ``/rollback``. Whatever else comes in is stored as it is, and the
next active worker takes it over before its own first poll. The supervisor never polls beside a worker: a lock that the
lease's hand-over takes, too, lets only one of them.
"""

import json
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Final, Protocol

import structlog

from supervisor import facts
from supervisor.bot.client import BotApiError
from supervisor.bot.commands import Commands
from supervisor.bot.owner_notices import Sender, deliver
from supervisor.contract import Command, EventType
from supervisor.ledger import AmbiguousPrefix, Ledger, LedgerError, NewKept, UnknownUpdate
from supervisor.localbot import process as localbot
from supervisor.sessions import Signal
from supervisor.settings import Settings
from supervisor.timing import SYSTEM_CLOCKS, Clocks, Timing
from supervisor.updates.decisions import Decisions, Refusal

_LOG = structlog.get_logger()
#: Short, because a worker that is ready waits for its end.
_POLL_SECONDS: Final = 1
_LOOK_SECONDS: Final = 1.0
_BETWEEN_POLLS_SECONDS: Final = 0.05
_RETRY_SECONDS: Final = 2.0
_LONGEST_ANSWER: Final = 3500  # characters; what escaping adds fits as well
#: The Bot API starts its numbers anew after a week without updates.
_OFFSET_LIFETIME_SECONDS: Final = 6 * 86_400
_COMMANDS: Final = ("status", "history", "rollback")
_FORWARDED: Final = ("forward_origin", "forward_from", "forward_from_chat", "forward_sender_name", "forward_date")


class Bot(Sender, Protocol):
    """The part of :class:`supervisor.bot.client.BotClient` that is needed."""

    def updates(self, offset: int | None, wait_seconds: int) -> list[dict[str, Any]]:
        """What came in since ``offset``. Raises BotApiError."""


def source(settings: Settings) -> str:
    """The name of the bot as workers store it with its updates."""
    token = localbot.token(settings.paths) if settings.uses_local_bot else settings.telegram_bot_token or ""
    return f"telegram:{token.partition(':')[0]}"


class Rescue:
    """Stands in for a worker at the bot.

    ``works`` says whether a worker may be polling, ``polls`` whether it has; ``trouble`` why none is up, empty where
    one is merely on its way; ``poll_turn`` is held by whoever polls, or lets another one poll.
    """

    def __init__(
        self,
        *,
        bot: Callable[[], AbstractContextManager[Bot]],
        source: str,
        ledger: Ledger,
        decisions: Decisions,
        commands: Commands,
        owners: Callable[[], tuple[int, ...]],
        works: Callable[[], bool],
        polls: Callable[[], bool],
        trouble: Callable[[], str],
        poll_turn: threading.Lock,
        signal: Signal,
        timing: Timing,
        clocks: Clocks = SYSTEM_CLOCKS,
    ) -> None:
        self._bot = bot
        self._source = source
        self._ledger = ledger
        self._decisions = decisions
        self._commands = commands
        self._owners = owners
        self._works = works
        self._polls = polls
        self._trouble = trouble
        self._poll_turn = poll_turn
        self._signal = signal
        self._timing = timing
        self._clocks = clocks
        self._works_since: float | None = None
        self._idle_since: float | None = None
        self._told = False

    def run(self, stopping: threading.Event) -> None:
        """Stand in whenever it is needed, until ``stopping``; meant for a thread."""
        while not stopping.is_set():
            try:
                if self.needed():
                    with self._bot() as bot:
                        while not stopping.is_set() and self.needed():
                            self.turn(bot)
                            stopping.wait(_BETWEEN_POLLS_SECONDS)
                stopping.wait(_LOOK_SECONDS)
            except (BotApiError, LedgerError) as error:
                _LOG.warning("cannot stand in at the bot; trying again", error=str(error))
                stopping.wait(_RETRY_SECONDS)
            except Exception:  # a defect here must not end the one who brings workers back
                _LOG.exception("a defect in the rescue; trying again")
                stopping.wait(_RETRY_SECONDS)

    # -- when

    def needed(self) -> bool:
        """Whether nothing has run for long enough, and not merely because it is on its way."""
        now = self._clocks.monotonic()
        if self._idle_since is None or self._polls():
            self._idle_since = now  # one worker after the other that dies before it polls is as good as none
        if self._works():
            if self._works_since is None:
                self._works_since = now
            if now - self._works_since >= self._timing.rescue_over:
                self._end_episode()
            return False
        self._works_since = None
        return now - self._idle_since >= self._timing.rescue_after and bool(self._trouble())

    def _begin_episode(self) -> None:
        """Once for all the times that workers come and go within it."""
        if self._told:
            return
        event, reason = self._episode(), self._trouble()
        if event is None:
            event = self._ledger.append(EventType.RESCUE_STARTED, {"reason": reason})
            _LOG.warning("nothing runs; standing in at the bot", reason=reason)
        # Of an episode that another supervisor began, too: it may have died before it came to that.
        if self._ledger.add_notice(f"rescue {event}", _notice(reason)):
            self._signal.notify()
        self._told = True

    def _end_episode(self) -> None:
        self._told = False
        if (begun := self._episode()) is not None:
            self._ledger.append(EventType.RESCUE_ENDED, {}, parent_id=begun)
            _LOG.info("workers are back for good")

    def _episode(self) -> int | None:
        """The event with which the present episode began."""
        both = (EventType.RESCUE_STARTED, EventType.RESCUE_ENDED)
        latest = self._ledger.events(*both, newest_first=True, limit=1)
        return latest[0].id if latest and latest[0].event_type == EventType.RESCUE_STARTED else None

    # -- what

    def turn(self, bot: Bot) -> None:
        """One poll, unless a worker may poll by now: store what comes, then obey what is for us. Raises BotApiError."""
        with self._poll_turn:
            if not self.needed():
                return
            self._begin_episode()
            updates = bot.updates(self._offset(), _POLL_SECONDS)
            if updates:
                owners = self._owners()
                self._ledger.keep(self._source, [_kept(update, owners) for update in updates])
                self._remember(max(update["update_id"] for update in updates))
            self._obey(bot)

    def _offset(self) -> int | None:
        """After the last that was ever stored here; None leaves it to the Bot API, which knows what workers took."""
        noted = json.loads(self._ledger.fact(facts.RESCUE_OFFSET) or "{}")
        recent = noted.get("at", 0) > self._clocks.wall() - _OFFSET_LIFETIME_SECONDS
        return int(noted["next"]) if recent and noted.get("source") == self._source else None

    def _remember(self, last: int) -> None:
        noted = {"source": self._source, "next": last + 1, "at": self._clocks.wall()}
        self._ledger.set_fact(facts.RESCUE_OFFSET, json.dumps(noted))

    def _obey(self, bot: Bot) -> None:
        for update in self._ledger.kept(self._source):
            if update.commanded and not update.answered:
                message = json.loads(update.raw)["message"]
                chat_id = message["chat"]["id"]
                answer = self._answer_to(message["from"]["id"], chat_id, message["text"])
                deliver(bot, chat_id, answer[:_LONGEST_ANSWER])
                self._ledger.kept_answered(update.id)

    def _answer_to(self, user_id: int, chat_id: int, text: str) -> str:
        name, argument = _command(text) or ("", "")
        if name == "rollback":
            return self._roll_back(argument)
        answer = self._commands.answer(Command(name=name, user_id=user_id, chat_id=chat_id), owners=self._owners())
        return f"Nothing runs: {self._trouble()}\n{answer}" if name == "status" else answer

    def _roll_back(self, prefix: str) -> str:
        if not prefix:
            return "Which update? /rollback <tx>; /history lists them."
        try:
            decided = self._decisions.rollback(prefix)
        except (Refusal, UnknownUpdate, AmbiguousPrefix) as error:
            return str(error)
        self._signal.notify()
        return f"Update {decided.tx_id[:8]}: {decided.message}."


def _notice(reason: str) -> str:
    return (
        f"No worker runs: {reason}\n"
        "I, the supervisor, go on trying. Meanwhile I answer /status, /history and /rollback <tx>; every other "
        "message is kept and answered when a worker is back. "
        "On the machine, `supervisor doctor` and `supervisor logs` say more."
    )


def _command(text: str) -> tuple[str, str] | None:
    """The command that a text is, and its argument. ``rollback <tx>`` needs no slash, ``/rollback_<tx>`` no space."""
    first, *rest = text.split(maxsplit=1) or [""]
    name, argument = first.partition("@")[0].lower(), rest[0].strip() if rest else ""
    if name == "rollback" and argument:
        name = "/rollback"
    base, _, tx = name.partition("_")  # /rollback_1234abcd, which can be tapped on, is what workers offer
    if tx.isascii() and tx.isalnum() and not argument:
        name, argument = base, tx
    return (name[1:], argument) if name.startswith("/") and name[1:] in _COMMANDS else None


def _kept(update: dict[str, Any], owners: tuple[int, ...]) -> NewKept:
    """An update as it is stored: an owner's as it is, a stranger's without a word of it."""
    update_id = int(update["update_id"])
    kind = next((key for key, value in update.items() if isinstance(value, dict)), "")
    what = update.get(kind, {})
    chat = what.get("chat") or what.get("message", {}).get("chat") or {}
    user_id = what.get("from", {}).get("id")
    text = what.get("text", "")
    private = chat.get("type") == "private"
    if private and user_id in owners:
        forwarded = any(key in what for key in _FORWARDED)
        commanded = kind == "message" and not forwarded and _command(text) is not None
        return NewKept(update_id, json.dumps(update), commanded=commanded)
    if private and not owners and kind == "message" and text.startswith("/start "):
        return NewKept(update_id, json.dumps(update))  # whoever knows the code is the owner
    return NewKept(update_id, json.dumps(_without_words(update_id, kind, what, chat)))


def _without_words(update_id: int, kind: str, what: dict[str, Any], chat: dict[str, Any]) -> dict[str, Any]:
    """Who wrote where and when, which is all that is noted of a stranger."""
    if kind != "message":
        return {"update_id": update_id}
    sender = {"id": what.get("from", {}).get("id", 0), "is_bot": False, "first_name": ""}
    place = {"id": chat.get("id", 0), "type": chat.get("type", "private")}
    date, message_id = what.get("date", 0), what.get("message_id", 0)
    return {
        "update_id": update_id,
        "message": {"message_id": message_id, "date": date, "chat": place, "from": sender},
    }
