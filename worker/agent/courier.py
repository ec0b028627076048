"""The courier: sends what stands in the outbox, in order, and records what became of it."""

import asyncio
import logging
from typing import Final

from supervisor.contract import EventType, Redactor
from worker.agent.per_chat import PerChat
from worker.commander.base import Ambiguous, Commander, CommanderError, RateLimited, Rejected
from worker.control.retry import RetryPolicy
from worker.store import OutboxStatus, Reply, Store
from worker.store.outbox import ReplyKind
from worker.vitals import Vitals

#: An answer is kept until the chat service takes it, so only the waits are bounded.
WAITS: Final = RetryPolicy(max_retries=0, base_seconds=0.25, max_seconds=30)
UNCERTAIN_NOTICE: Final = (
    "My last answer may not have reached you: the connection broke while I sent it. "
    "If it is missing, ask me to repeat it."
)

logger = logging.getLogger(__name__)


class Courier:
    """Sends the answers of each chat one after the other."""

    def __init__(
        self,
        *,
        group: asyncio.TaskGroup,
        commander: Commander,
        store: Store,
        vitals: Vitals,
        redact: Redactor,
        process_event: int,
    ) -> None:
        self.chats = PerChat(group, self._work, vitals)
        self._commander = commander
        self._store = store
        self._vitals = vitals
        self._redact = redact
        self._process_event = process_event

    def wake_all(self) -> None:
        """Look at every chat that waits for an answer."""
        for chat_id in self._store.outbox.pending_chats():
            self.chats.wake(chat_id)

    async def _work(self, chat_id: int) -> None:
        failures = 0
        while (reply := self._store.outbox.next(chat_id)) is not None:
            try:
                await self._send(reply)
            except RateLimited as limit:
                await self.chats.rest(limit.retry_after)
            except CommanderError as error:
                failures += 1
                logger.warning("sending to chat %d failed: %s", chat_id, error)
                await self.chats.rest(WAITS.wait_seconds(failures))

    async def _send(self, reply: Reply) -> None:
        """Send the parts that are left. Raises CommanderError when the same part can be tried again."""
        parts = self._commander.parts(reply.text)
        doubt, message_id = reply.error, None
        for number, part in enumerate(parts[reply.parts_sent :], start=reply.parts_sent + 1):
            try:
                message_id = await self._commander.send(reply.chat_id, part)
            except Ambiguous as error:
                doubt = self._redact(str(error))
                logger.warning("no one knows whether chat %d got a message: %s", reply.chat_id, doubt)
            except Rejected as error:
                logger.warning("chat %d does not take an answer: %s", reply.chat_id, error)
                self._store.outbox.settle(reply, OutboxStatus.REJECTED, self._redact(str(error)))
                return
            self._store.outbox.part_sent(reply, number, message_id=message_id, error=doubt)
            self._vitals.progressed()
        self._settle(reply, message_id, parts=len(parts), doubt=doubt)

    def _settle(self, reply: Reply, message_id: int | None, *, parts: int, doubt: str) -> None:
        status = OutboxStatus.AMBIGUOUS if doubt else OutboxStatus.SENT
        with self._store.write():
            self._store.outbox.settle(reply, status)
            self._store.events.append(
                EventType.REPLY_SENT,
                {"chat_id": reply.chat_id, "message_id": message_id, "parts": parts, "delivery": status},
                parent_id=reply.event_id or self._process_event,
            )
            if doubt and reply.kind == ReplyKind.ANSWER:
                self._store.outbox.add(reply.chat_id, UNCERTAIN_NOTICE, event_id=reply.event_id)
