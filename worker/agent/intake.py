"""The intake: polls the commander, stores every update, and decides who is served."""

import asyncio
import logging
import time
from collections.abc import Callable
from functools import partial
from typing import Final, Protocol

from supervisor.contract import Claim, EventType, Redactor
from worker.agent import notices
from worker.agent.claims import Claims
from worker.agent.commands import DirectCommands, Reply
from worker.agent.conflicts import Conflicts
from worker.agent.inheritance import Inheritance, Keeper
from worker.agent.owners import Owners
from worker.agent.presses import Presses
from worker.agent.seen import Seen
from worker.commander.base import Commander, CommanderError, Conflict, Incoming, RateLimited, UpdateKind
from worker.selfupdate.proposals import PATCH
from worker.store import Fenced, InboxStatus, Store
from worker.store.errors import is_out_of_our_hands
from worker.vitals import Vitals

SHORTEST_PAUSE_SECONDS: Final = 0.01
UNREADABLE_TEXT: Final = "I can only read text."
FORWARDED_TEXT: Final = "I take no forwarded commands. Write it yourself if you mean it."

logger = logging.getLogger(__name__)


class PollGate(Protocol):
    """Whether a poll may be made, and what became of it. Rates and other pollers are no failures."""

    def poll_wait(self) -> float:
        """Seconds until to ask again; 0 when a poll may be made now."""

    def poll_succeeded(self) -> None:
        """The poll came back."""

    def poll_failed(self, error: str) -> None:
        """The poll failed."""


class Intake:
    """Takes updates in. ``pause_seconds`` is the wait after a failed poll.

    ``queued`` is called for a chat with a message to be worked on, ``answered`` for one with an answer to be sent.
    """

    def __init__(
        self,
        *,
        commander: Commander,
        store: Store,
        owners: Owners,
        commands: DirectCommands,
        claims: Claims | None,
        presses: Presses,
        keeper: Keeper | None,
        gate: PollGate,
        seen: Seen,
        vitals: Vitals,
        redact: Redactor,
        process_event: int,
        pause_seconds: float,
        drop_pending: bool,
        queued: Callable[[int], None],
        answered: Callable[[int], None],
    ) -> None:
        self._commander = commander
        self._store = store
        self._owners = owners
        self._commands = commands
        self._claims = claims
        self._presses = presses
        self._inheritance = Inheritance(keeper=keeper, parse=commander.parse, store=self._take_in)
        self._gate = gate
        self._seen = seen
        self._vitals = vitals
        self._redact = redact
        self._process_event = process_event
        self._pause = max(pause_seconds, SHORTEST_PAUSE_SECONDS)
        self._drop_pending = drop_pending
        self._queued = queued
        self._answered = answered
        self._conflicts = Conflicts(owners)

    async def run(self, *, inherits: bool) -> None:
        """Poll for ever. The first poll is answered at once, so that it is soon known whether polling works.

        So is the first after one that failed. With ``inherits`` the supervisor is asked first for what it has kept: a
        question that nobody polls during, and is spared where there is nothing.
        """
        self._presses.go_on()
        if inherits:
            self._inheritance.expect()
        try:
            await self._run()
        finally:
            self._seen.drop()
            await self._presses.close()

    async def _run(self) -> None:
        first = True
        while True:
            if closed := self._gate.poll_wait():
                await asyncio.sleep(closed)
                continue
            begun = time.monotonic()
            try:
                await self._inheritance.take()
                updates = await self._poll(at_once=first)
                self._take_in(updates)
                # An empty answer that came early would soon be asked for again: that is slowed down.
                early = 0.0 if first or updates else self._pause - (time.monotonic() - begun)
                first = False
                wait = 0.0 if updates else max(early, SHORTEST_PAUSE_SECONDS)
            except CommanderError as error:
                wait = self._pause_after(error)
                first = True  # whether it works again is to be known at once, too
            except Fenced:
                raise
            except Exception as error:
                # What was not stored is not acknowledged either: the same updates come again.
                self._spoilt("unexpected error in the intake", error)
                wait = self._pause
            await asyncio.sleep(wait)

    async def _poll(self, *, at_once: bool) -> list[Incoming]:
        source = self._commander.source
        if self._drop_pending and self._store.inbox.is_new(source):
            await self._commander.drop_pending()
        self._drop_pending = False
        updates = await self._commander.poll(self._store.inbox.offset(source), at_once=at_once)
        self._conflicts.over()
        self._gate.poll_succeeded()
        self._vitals.poll_succeeded(first=at_once)
        return updates

    def _pause_after(self, error: CommanderError) -> float:
        """Seconds to wait after a poll that failed."""
        text = self._redact(str(error))
        if not self._vitals.poll_error:
            logger.warning("polling failed: %s", text)
        self._vitals.poll_failed(text)
        match error:
            case RateLimited():
                return max(error.retry_after, self._pause)
            case Conflict():
                for owner, warning in self._conflicts.again(time.monotonic()):
                    self._store.outbox.add(owner, warning)
                    self._answered(owner)
                return max(self._conflicts.wait_seconds, self._pause)
            case _:
                self._gate.poll_failed(text)
                return self._pause

    def _take_in(self, updates: list[Incoming], answered: frozenset[int] = frozenset()) -> None:
        """Store the updates before the offset moves past them, then have them worked on.

        Those whose ids are among the ``answered`` were obeyed by the supervisor, and only their rows are needed.
        """
        if not updates:
            return
        afterwards: list[Callable[[], object]] = []
        with self._store.write(durable=True):
            for update in updates:
                if update.update_id in answered:
                    self._add(update, "command")
                else:
                    self._admit(update, afterwards)
        for act in afterwards:
            self._see_to(act)
        for chat_id in {update.chat_id for update in updates}:
            self._queued(chat_id)
            self._answered(chat_id)

    def _admit(self, update: Incoming, afterwards: list[Callable[[], object]]) -> None:
        """Give the update its row. What is to be done once the row is safe is added to ``afterwards``."""
        if not update.private or update.user_id not in self._owners:
            self._admit_stranger(update, afterwards)
            return
        if update.kind is not UpdateKind.MESSAGE:
            stored = self._add(update, update.kind)
            if stored is not None and update.kind is UpdateKind.CALLBACK:
                afterwards.append(self._presses.take(update))
        elif not update.text.strip():
            self._add_answered(update, "unreadable", UNREADABLE_TEXT)
        elif update.forwarded_from:
            self._admit_forwarded(update)
        elif self._commands.is_wish(update.text):
            self._enqueue(update, update.text, kind=PATCH)
        elif (found := self._commands.find(update.text)) is not None:
            row_id = self._add(update, "command")
            if row_id is not None:  # else it was obeyed before
                command, argument = found
                self._obey(update.chat_id, row_id, partial(command, update.chat_id, argument), afterwards)
        else:
            self._enqueue(update, update.text)

    def _obey(
        self, chat_id: int, row_id: int, command: Callable[[], Reply], afterwards: list[Callable[[], object]]
    ) -> None:
        """Carry a command out. One that breaks down takes nothing else of its batch with it."""
        try:
            with self._store.savepoint():
                reply = command()
                if reply.text:
                    self._store.outbox.add(chat_id, reply.text, inbox_id=row_id)
        except Fenced:
            raise
        except Exception as error:
            if is_out_of_our_hands(error):  # a full disk takes the whole transaction back
                raise
            self._spoilt("unexpected error in a command", error)
            self._store.inbox.spoilt(row_id, self._redact(f"{type(error).__name__}: {error}"))
            self._store.outbox.add(chat_id, notices.SPOILT, inbox_id=row_id)
        else:
            afterwards.append(reply.then)

    def _see_to(self, act: Callable[[], object]) -> None:
        """Do what follows from an update that is stored; what comes after it is done in any case."""
        try:
            act()
        except Fenced:
            raise
        except Exception as error:
            self._spoilt("unexpected error after an update was stored", error)

    def _spoilt(self, what: str, error: Exception) -> None:
        logger.error(what, exc_info=error)
        self._vitals.internal_error(error)

    def _enqueue(self, update: Incoming, text: str, *, kind: str = UpdateKind.MESSAGE) -> None:
        if self._add(update, kind, InboxStatus.QUEUED, text) is not None:
            self._seen.queued(update.chat_id)

    def _admit_forwarded(self, update: Incoming) -> None:
        """Somebody else's words may be read, but command nothing."""
        if not update.text.startswith("/"):
            self._enqueue(update, f"[forwarded from {update.forwarded_from}]\n{update.text}")
        elif self._add_answered(update, "refused", FORWARDED_TEXT):
            self._refuse(update.chat_id, update.user_id, "forwarded_command")

    def _admit_stranger(self, update: Incoming, afterwards: list[Callable[[], object]]) -> None:
        """A stranger's words are not kept, and not answered, but for the claim of a bot that nobody owns."""
        code = self._claimed_code(update)
        if self._add(update, "claim" if code else "refused", text="") is None:
            return
        if code and self._claims is not None and update.user_id is not None:
            claim = Claim(code=code, user_id=update.user_id, chat_id=update.chat_id)
            afterwards.append(partial(self._claims.take, claim))
            return
        self._refuse(update.chat_id, update.user_id, "stranger" if update.private else "not_private")

    def _claimed_code(self, update: Incoming) -> str:
        open_to_claims = self._owners.unclaimed and self._claims is not None and update.private
        if not open_to_claims or update.kind is not UpdateKind.MESSAGE:
            return ""
        command, _, code = update.text.partition(" ")
        return code.strip() if command.partition("@")[0] == "/start" else ""

    def _refuse(self, chat_id: int, user_id: int | None, reason: str) -> None:
        payload = {"chat_id": chat_id, "user_id": user_id, "reason": reason}
        self._store.events.append(EventType.MESSAGE_REFUSED, payload, parent_id=self._process_event)

    def _add(
        self,
        update: Incoming,
        kind: str,
        status: InboxStatus = InboxStatus.DONE,
        text: str | None = None,
    ) -> int | None:
        words = update.text if text is None else text
        return self._store.inbox.add(self._commander.source, update, kind=kind, text=words, status=status)

    def _add_answered(self, update: Incoming, kind: str, answer: str) -> bool:
        """Store and answer an update; False when it was stored before."""
        row_id = self._add(update, kind)
        if row_id is None:
            return False
        self._store.outbox.add(update.chat_id, answer, inbox_id=row_id)
        return True
