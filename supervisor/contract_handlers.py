"""What workers ask, answered."""

import hmac
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final

import structlog

from supervisor import facts, views
from supervisor.bot import rescue
from supervisor.bot.commands import Commands
from supervisor.cards.audience import Audience
from supervisor.cards.handlers import CardsDesk
from supervisor.contract import (
    Claim,
    Claimed,
    Command,
    Kept,
    KeptUpdate,
    Press,
    Pressed,
    Problem,
    Progress,
    Submission,
    Submitted,
    Taken,
    Told,
)
from supervisor.ledger import AmbiguousPrefix, Ledger, NewUpdate, Origin, UnknownUpdate, Update
from supervisor.outages import OutageMonitor
from supervisor.pipeline.pipeline import Pipeline
from supervisor.revisions import Revisions
from supervisor.rollout.rollout import Rollout
from supervisor.server import NotThere
from supervisor.sessions import Sessions, Signal
from supervisor.settings import Settings
from supervisor.updates import progress

_LOG = structlog.get_logger()

_PROGRESS_SECONDS: Final = 1.0


class WorkersDesk:
    """The running supervisor's :class:`supervisor.server.Desk`."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        revisions: Revisions,
        sessions: Sessions,
        settings: Settings,
        signal: Signal,
        pipeline: Pipeline,
        rollout: Rollout,
        cards: CardsDesk,
        outages: OutageMonitor,
        stopped: Callable[[], bool],
    ) -> None:
        self.sessions = sessions
        self._ledger = ledger
        self._settings = settings
        self._signal = signal
        self._pipeline = pipeline
        self._rollout = rollout
        self._cards = cards
        self._audience = Audience.of(settings, ledger)
        self._outages = outages
        self._stopped = stopped
        self.commands = Commands(ledger, revisions, status=self.status)

    def claim(self, worker_id: str, claim: Claim) -> Claimed:
        """The right code makes the first one who sends it the owner."""
        code = self._ledger.fact(facts.CLAIM)
        owners = self.owners()
        accepted = bool(code) and not owners and hmac.compare_digest(str(code), claim.code)
        if accepted:
            self._ledger.add_owner(claim.user_id, claim.chat_id, parent_id=self._ledger.worker(worker_id).event_id)
            self.set_owners()
        return Claimed(accepted=accepted, owners=list(self.owners()) if accepted else [])

    def submit(self, worker_id: str, submission: Submission) -> Submitted | Problem:
        """A patch from the agent; only the holder of the lease may hand one in."""
        if not self._ledger.holds_lease(worker_id):
            return Problem(code="not_active", reason="only the active worker submits patches")
        return submitted(
            self._pipeline.submit(
                NewUpdate(
                    origin=Origin.CHAT,
                    patch=submission.patch.encode(),
                    title=submission.title,
                    why=submission.why,
                    model=submission.model,
                    tokens=submission.tokens,
                    chat_id=submission.chat_id,
                    repairs=submission.repairs or None,
                )
            )
        )

    def progress(self, tx_id: str) -> Iterator[Progress]:
        """Each event of the update, until it needs a person or is over. Raises NotThere at once."""
        try:
            update = self._ledger.find(tx_id)
        except (UnknownUpdate, AmbiguousPrefix) as error:
            raise NotThere(str(error)) from None
        news = partial(self._signal.wait, _PROGRESS_SECONDS)
        return self._watched(progress.follow(self._ledger, update, wait=news, stopped=self._stopped))

    def _watched(self, steps: Iterator[Progress]) -> Iterator[Progress]:
        """Who has heard the last step tells the chat about it."""
        for step in steps:
            yield step
            if step.final:
                self._cards.watched(step.tx_id)

    def press(self, worker_id: str, press: Press) -> Pressed:
        """A button of a card; only the holder of the lease may relay one."""
        if not self._ledger.holds_lease(worker_id):
            return Pressed(text="only the active worker relays presses", alert=True)
        return self._cards.press(press)

    def command(self, worker_id: str, command: Command) -> Told:
        """A direct command; only the holder of the lease may relay one."""
        if not self._ledger.holds_lease(worker_id):
            return Told(text="only the active worker relays commands")
        if self._cards.knows(command.name):
            return Told(text=self._cards.answer(command))
        return Told(text=self.commands.answer(command, owners=self.owners()))

    def kept(self, worker_id: str) -> Kept:
        """What came for the bot while no worker ran; only the holder of the lease is told."""
        if not self._ledger.holds_lease(worker_id):
            return Kept()
        updates = self._ledger.kept(rescue.source(self._settings))
        return Kept(updates=[KeptUpdate(id=u.id, raw=u.raw, answered=u.answered) for u in updates])

    def taken(self, worker_id: str, taken: Taken) -> Kept:
        """The holder of the lease has stored these."""
        if self._ledger.holds_lease(worker_id):
            self._ledger.taken(rescue.source(self._settings), taken.ids)
        return self.kept(worker_id)

    def status(self) -> dict[str, Any]:
        """For ``status --json``."""
        shown = views.status(self._ledger, running=True, session_of=self.sessions.get, paused=self._pipeline.paused)
        if renewal := self._rollout.renewal:
            shown["renewal"] = renewal
        if trouble := [line for line in (self._no_worker(), self._outages.away()) if line]:
            shown["trouble"] = trouble
        return shown

    def _no_worker(self) -> str:
        return f"no worker is up: {self._rollout.trouble}" if self._rollout.trouble else ""

    def history(self) -> list[dict[str, Any]]:
        """As ``history --json``; the latest update that failed comes with its evidence, for the next attempt."""
        shown = views.history(self._ledger)
        if failed := next((entry for entry in shown if entry["status"] in progress.FAILED), None):
            failed["evidence"] = progress.evidence(self._ledger.find(failed["tx_id"]))
        return shown

    # -- who may use the bot

    def owners(self) -> tuple[int, ...]:
        """Numeric ids of users: those that the settings name, else those that claimed the bot."""
        return self._audience.owners()

    def set_owners(self) -> None:
        """Have workers told as they announce themselves."""
        self.sessions.set_owners(self.owners())


def submitted(update: Update) -> Submitted:
    """How far a submission got."""
    reason = (update.last_error or "").partition("\n")[0]
    return Submitted(tx_id=update.tx_id, status=update.status, code=update.code or "", reason=reason)
