"""What workers relay about cards: presses, and commands that bring a card into the chat."""

from collections.abc import Callable

from supervisor.bot.client import BotApiError
from supervisor.bot.commands import NOT_YOURS
from supervisor.cards.audience import Audience
from supervisor.cards.endings import Endings
from supervisor.cards.notifier import Bot, Notifier, send_diff
from supervisor.cards.presses import Presses
from supervisor.contract import Command, Press, Pressed
from supervisor.ledger import AmbiguousPrefix, CardKind, Ledger, UnknownUpdate, Update
from supervisor.states import Status, may_move
from supervisor.updates.decisions import Decisions, Refusal


class CardsDesk:
    """Answers what is about cards. Commands never decide: they ask, by a card with buttons."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        decisions: Decisions,
        audience: Audience,
        bot: Bot,
        presses: Presses,
        notifier: Notifier,
        endings: Endings,
        diff: Callable[[Update], bytes],
        terminal: bool,
    ) -> None:
        self._ledger = ledger
        self._decisions = decisions
        self._audience = audience
        self._bot = bot
        self._presses = presses
        self._notifier = notifier
        self._endings = endings
        self._diff = diff
        self._terminal = terminal
        self._commands = {
            "approve": self._approve,
            "cancel": self._cancel,
            "rollback": self._roll_back,
            "diff": self._send_diff,
        }

    def press(self, press: Press) -> Pressed:
        """Somebody pressed a button."""
        return self._presses.answer(press)

    def watched(self, tx_id: str) -> None:
        """A worker has followed an update to where the gates left it."""
        self._endings.watched(tx_id)

    def knows(self, name: str) -> bool:
        """Whether a command is one of these."""
        return name in self._commands

    def answer(self, command: Command) -> str:
        """The text for the chat; empty when the supervisor writes there by itself."""
        if command.user_id not in self._audience.owners() or not self._audience.private(command.chat_id):
            return NOT_YOURS
        if not command.argument:
            return f"Which update? /{command.name} <tx>; /history lists them."
        try:
            return self._commands[command.name](self._ledger.find(command.argument), command.chat_id)
        except (UnknownUpdate, AmbiguousPrefix, Refusal) as error:
            return f"{error}."

    def _approve(self, update: Update, chat_id: int) -> str:
        if update.status is not Status.STAGED:
            raise Refusal(f"update {update.tx_id[:8]} is {update.status}; only a staged one can be approved")
        if self._terminal:
            return f"This installation is approved on the terminal alone: supervisor approve {update.tx_id[:8]}"
        self._notifier.ask(update, CardKind.APPROVAL, chat_id)
        return ""

    def _cancel(self, update: Update, chat_id: int) -> str:
        if not may_move(update.status, Status.CANCELLED):
            raise Refusal(f"update {update.tx_id[:8]} is {update.status} and cannot be cancelled any more")
        self._notifier.ask(update, CardKind.CANCEL, chat_id)
        return ""

    def _roll_back(self, update: Update, chat_id: int) -> str:
        self._notifier.ask(self._decisions.to_roll_back(update.tx_id), CardKind.ROLLBACK, chat_id)
        return ""

    def _send_diff(self, update: Update, chat_id: int) -> str:
        if not update.sha or not update.base_sha:
            what = "was refused and made no revision" if update.base_sha else "is the first one and changes nothing"
            return f"Update {update.tx_id[:8]} {what}."
        try:
            send_diff(self._bot, update, self._diff(update), chat_id)
        except BotApiError as error:
            return f"The diff could not be sent: {error}"
        return ""
