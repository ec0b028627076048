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
        formatted = reply.kind == ReplyKind.ANSWER
        # The whole text goes through the redactor: a secret must not slip through between two parts.
        parts = self._commander.parts(self._redact(reply.text), formatted=formatted)
        doubt, message_id = reply.error, None
        for number, part in enumerate(parts[reply.parts_sent :], start=reply.parts_sent + 1):
            if number > reply.parts_sent + 1:  # the last part is recorded with the whole reply
                self._store.outbox.part_sent(reply, number - 1, message_id=message_id, error=doubt)
            try:
                replaces = reply.replaces if number == 1 else None
                message_id = await self._commander.send(reply.chat_id, part, formatted=formatted, replaces=replaces)
            except Ambiguous as error:
                if reply.kind == ReplyKind.DOUBT:
                    raise
                doubt = self._redact(str(error))
                logger.warning("no one knows whether chat %d got a message: %s", reply.chat_id, doubt)
            except Rejected as error:
                logger.warning("chat %d does not take an answer: %s", reply.chat_id, error)
                self._settle(reply, OutboxStatus.REJECTED, message_id, number - 1, self._redact(str(error)))
                return
            self._vitals.progressed()
        status = OutboxStatus.AMBIGUOUS if doubt else OutboxStatus.SENT
        self._settle(reply, status, message_id, len(parts), doubt)

    def _settle(self, reply: Reply, status: OutboxStatus, message_id: int | None, parts: int, error: str) -> None:
        """Nothing more will be sent of a reply, of which so many parts are out."""
        with self._store.write():
            self._store.outbox.part_sent(reply, parts, message_id=message_id, error=error)
            self._store.outbox.settle(reply, status)
            self._store.events.append(
                EventType.REPLY_SENT,
                {"chat_id": reply.chat_id, "message_id": message_id, "parts": parts, "delivery": status},
                parent_id=reply.event_id or self._process_event,
            )
            if status is OutboxStatus.AMBIGUOUS and reply.kind == ReplyKind.ANSWER:
                self._store.outbox.add(
                    reply.chat_id, uncertain_notice(reply.id), kind=ReplyKind.DOUBT, event_id=reply.event_id
                )


def uncertain_notice(reply_id: int) -> str:
    """What a chat is told of an answer that may be missing."""
    return (
        "My last answer may not have reached you: the connection broke while I sent it. "
        f"If it is missing: /again_{reply_id}"
    )
