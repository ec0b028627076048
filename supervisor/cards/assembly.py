"""The parts of the cards put together."""

from dataclasses import dataclass

from supervisor.cards.audience import Audience
from supervisor.cards.endings import Endings
from supervisor.cards.handlers import CardsDesk
from supervisor.cards.notifier import Bot, Notifier
from supervisor.cards.presses import Presses
from supervisor.ledger import Ledger, Update
from supervisor.revisions import Revisions
from supervisor.sessions import Signal
from supervisor.settings import Settings
from supervisor.updates.decisions import Decisions


@dataclass(frozen=True)
class Cards:
    """Who answers for cards, and who writes them."""

    desk: CardsDesk
    notifier: Notifier


def assemble(
    *, settings: Settings, ledger: Ledger, revisions: Revisions, decisions: Decisions, bot: Bot, signal: Signal
) -> Cards:
    """Everything about cards of one installation."""

    def diff(update: Update) -> bytes:
        return revisions.diff(update.base_sha or "", update.sha or "").encode()

    audience = Audience.of(settings, ledger)
    terminal = settings.approval == "terminal"
    endings = Endings(ledger, bot, audience)
    notifier = Notifier(
        ledger=ledger,
        bot=bot,
        audience=audience,
        endings=endings.tell,
        diff=diff,
        signal=signal,
        terminal=terminal,
        expiry_seconds=settings.approval_expiry_seconds,
    )
    desk = CardsDesk(
        ledger=ledger,
        decisions=decisions,
        audience=audience,
        bot=bot,
        presses=Presses(ledger, decisions, owners=audience.owners, terminal=terminal),
        notifier=notifier,
        endings=endings,
        diff=diff,
        terminal=terminal,
    )
    return Cards(desk, notifier)
