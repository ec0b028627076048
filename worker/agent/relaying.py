"""What only the supervisor may answer: its own buttons, and an owner's direct commands. No model has a say in it."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from supervisor.contract import Command, Press, Pressed
from worker.agent import notices
from worker.agent.granting import ALONE_TEXT as NO_GRANTS_TEXT
from worker.agent.granting import GRANTING
from worker.selfupdate.base import Away, Supervisor, SupervisorError
from worker.store import Fenced, Store
from worker.store.relays import Relay
from worker.vitals import Vitals

#: Direct commands that are not answered at once, with a word on each for the menu; some are the worker's own.
STAGE: Final = "stage"
RELAYED: Final[Mapping[str, str]] = {
    STAGE: "propose what stands in my working copy",
    "approve": "open an update's buttons again",
    "cancel": "the same, to reject it",
    "rollback": "take the active update back",
    "history": "every revision, the newest first",
    "show": "all about one update",
    "diff": "an update as a patch",
    "revision": "which revision this is",
    **GRANTING,
}
AWAY_TEXT: Final = "The supervisor does not answer just now, so nothing was done. Try again in a moment."
ALONE_TEXT: Final = "I run alone here, without a supervisor: I cannot update myself, and there is nothing to decide."
PAUSE_AFTER_ERROR_SECONDS: Final = 1.0

logger = logging.getLogger(__name__)


class Relaying:
    """Passes them on. ``supervisor`` is None for a worker that runs alone.

    ``own`` are commands that the worker carries out itself, beside its runs; they give what the chat is told, or raise
    SupervisorError.
    ``answered`` is called for a chat with an answer to be sent.
    """

    def __init__(
        self,
        *,
        supervisor: Supervisor | None,
        own: Mapping[str, Callable[[int, str], Awaitable[str]]],
        store: Store,
        vitals: Vitals,
        answered: Callable[[int], None],
    ) -> None:
        self._supervisor = supervisor
        self._own = own
        self._store = store
        self._vitals = vitals
        self._answered = answered
        self._news = {own: asyncio.Event() for own in (True, False)}

    @property
    def alone(self) -> bool:
        """Whether there is nobody to pass anything on to."""
        return self._supervisor is None

    def take(self, chat_id: int, name: str, argument: str) -> str:
        """Store a command, and pass it on once it is safe; gives what there is to answer at once."""
        if self._supervisor is None:
            return NO_GRANTS_TEXT if name in GRANTING else ALONE_TEXT
        # A private chat has the id of its person.
        self._store.relays.add(chat_id=chat_id, user_id=chat_id, name=name, argument=argument)
        return ""

    def wake(self) -> None:
        """There is a command to be passed on."""
        for news in self._news.values():
            news.set()

    async def run(self) -> None:
        """Pass commands on for ever, beginning with what a predecessor left.

        The worker's own, which need a toolbox or an owner's answer, hold up none of the supervisor's. Raises an
        exception group with Fenced inside.
        """
        if self._supervisor is None:
            return
        async with asyncio.TaskGroup() as group:
            for own, news in self._news.items():
                group.create_task(self._answer_all(news, self._supervisor, own=own))

    async def _answer_all(self, news: asyncio.Event, supervisor: Supervisor, *, own: bool) -> None:
        while True:
            news.clear()
            try:
                while (relay := self._store.relays.next(list(self._own), among=own)) is not None:
                    await self._answer(relay, supervisor)
            except Fenced:
                raise
            except Exception as error:
                logger.exception("unexpected error with a command for the supervisor")
                self._vitals.internal_error(error)
                await asyncio.sleep(PAUSE_AFTER_ERROR_SECONDS)
            else:
                await news.wait()

    async def _answer(self, relay: Relay, supervisor: Supervisor) -> None:
        text = await self._text(relay, supervisor)
        with self._store.write():
            self._store.relays.answered(relay)
            if text:
                self._store.outbox.add(relay.chat_id, text)
        self._answered(relay.chat_id)

    async def _text(self, relay: Relay, supervisor: Supervisor) -> str:
        """What the chat is told. A command that breaks down is not tried again: it would stand before all others."""
        try:
            own = self._own.get(relay.name)
            return await (own(relay.chat_id, relay.argument) if own else _answered(supervisor, relay))
        except Fenced:
            raise
        except SupervisorError as error:
            logger.warning("/%s was not relayed: %s", relay.name, error)
            return _told(error)
        except Exception as error:
            logger.exception("unexpected error in /%s", relay.name)
            self._vitals.internal_error(error)
            return notices.SPOILT

    async def press(self, press: Press) -> Pressed | None:
        """Pass on a press of one of the supervisor's buttons."""
        if self._supervisor is None:
            return None
        try:
            return await self._supervisor.press(press)
        except SupervisorError as error:
            logger.warning("a press was not relayed: %s", error)
            return Pressed(text=_told(error), alert=True)


async def _answered(supervisor: Supervisor, relay: Relay) -> str:
    """The supervisor's answer. Raises SupervisorError."""
    command = Command(name=relay.name, argument=relay.argument, user_id=relay.user_id, chat_id=relay.chat_id)
    return (await supervisor.command(command)).text


def _told(error: SupervisorError) -> str:
    """Why there is no answer: what an owner can do about a supervisor that is away, not how that looked from here."""
    return AWAY_TEXT if isinstance(error, Away) else str(error)
