"""Cards over a real ledger and the local bot: the notifier is turned by hand, presses go straight to the desk."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from supervisor.bot.client import BotClient
from supervisor.cards.audience import Audience
from supervisor.cards.endings import Endings
from supervisor.cards.handlers import CardsDesk
from supervisor.cards.notifier import Notifier
from supervisor.cards.presses import Presses
from supervisor.contract import Command, EventType, Press, Pressed
from supervisor.ledger import Ledger, Update
from supervisor.localbot.client import Message
from supervisor.localbot.store import OWNER
from supervisor.sessions import Signal
from supervisor.states import Status
from supervisor.updates.decisions import Decisions
from tests.supervisor.fakes.updates import genesis, update_in
from tests.supervisor.localbot_support import TOKEN, Running, local_bot, short_directory

EXPIRY = 1000.0


@dataclass
class Clock:
    """The time that all of it goes by."""

    now: float = 1000.0

    def __call__(self) -> float:
        """Seconds since the Unix epoch."""
        return self.now


@dataclass
class Desk:
    """One installation's cards."""

    ledger: Ledger
    bot: Running
    client: BotClient
    clock: Clock
    owners: tuple[int, ...] = (OWNER,)
    terminal: bool = False
    signal: Signal = field(default_factory=Signal)

    def __post_init__(self) -> None:
        self.genesis = genesis(self.ledger)
        self.restart()

    def restart(self) -> None:
        """As after a start of the supervisor: all that is known is in the ledger."""
        decisions = Decisions(self.ledger)
        audience = Audience(self.ledger, lambda: self.owners)
        endings = Endings(self.ledger, self.client, audience, self.clock)
        self.notifier = Notifier(
            ledger=self.ledger,
            bot=self.client,
            audience=audience,
            endings=endings.tell,
            diff=lambda update: f"diff of {update.title}".encode(),
            signal=self.signal,
            terminal=self.terminal,
            expiry_seconds=EXPIRY,
            clock=self.clock,
        )
        self.desk = CardsDesk(
            ledger=self.ledger,
            decisions=decisions,
            audience=audience,
            bot=self.client,
            presses=Presses(
                self.ledger, decisions, owners=lambda: self.owners, terminal=self.terminal, clock=self.clock
            ),
            notifier=self.notifier,
            endings=endings,
            diff=lambda update: f"diff of {update.title}".encode(),
            terminal=self.terminal,
        )

    def staged(self, title: str = "greet by name") -> Update:
        """An update that waits for a person."""
        return update_in(self.ledger, Status.STAGED, base=self.genesis, title=title)

    def turn(self) -> float:
        """The notifier looks once."""
        return self.notifier.turn()

    def messages(self, chat: int = OWNER) -> list[Message]:
        """What the chat shows, without documents."""
        return [message for message in self.bot.user.messages(chat_id=chat) if not message.document]

    def card(self, chat: int = OWNER) -> Message:
        """The newest message with buttons."""
        return [message for message in self.messages(chat) if message.buttons][-1]

    def press(
        self, label: str, message: Message | None = None, *, user: int = OWNER, chat: int = OWNER, at: int = 0
    ) -> Pressed:
        """Somebody presses a button; ``at`` is another message than the one that has it."""
        card = message or self.card()
        data = next(button.data for button in card.buttons if button.label == label)
        message_id = at or card.message_id
        return self.desk.press(Press(data=data, user_id=user, chat_id=chat, message_id=message_id, callback_id="1"))

    def ask(self, name: str, argument: str = "", *, user: int = OWNER, chat: int = OWNER) -> str:
        """Somebody gives a direct command, and the notifier looks."""
        answer = self.desk.answer(Command(name=name, argument=argument, user_id=user, chat_id=chat))
        self.turn()
        return answer

    def status(self, update: Update) -> Status:
        """Where an update is."""
        return self.ledger.find(update.tx_id).status

    def verdicts(self) -> list[str]:
        """What came of each press, oldest first."""
        return [event.payload["verdict"] for event in self.ledger.events(EventType.UPDATE_PRESSED)]

    def moved(self, update: Update, *way: Status, **changes: object) -> Update:
        """The update after these moves; ``changes`` go with the last."""
        for target in way:
            restored = str(update.base_sha) if target is Status.ROLLED_BACK else None
            last = changes if target is way[-1] else {}
            now = self.ledger.find(update.tx_id)
            update = self.ledger.move(update.tx_id, now.status, target, changes=last, restored=restored)
        return update


@contextmanager
def cards_desk(directory: Path) -> Iterator[Desk]:
    """An installation with a first revision, whose owner has the local bot's chat."""
    clock = Clock()
    with (
        short_directory() as sockets,
        local_bot(sockets) as bot,
        BotClient("http://localhost/bot", TOKEN, socket=bot.socket) as client,
        Ledger(directory / "supervisor.db", clock=clock) as ledger,
    ):
        yield Desk(ledger, bot, client, clock)
