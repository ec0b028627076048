"""The courier: sends what stands in the outbox, in order, and records what became of it."""

import asyncio
import logging
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from supervisor.contract import EventType, Redactor
from worker.agent.per_chat import PerChat
from worker.commander.base import Ambiguous, Commander, CommanderError, RateLimited, Rejected
from worker.control.retry import RetryPolicy
from worker.store import Fenced, OutboxStatus, Reply, Store
from worker.store.outbox import ReplyKind
from worker.vitals import Vitals

#: An answer is kept until the chat service takes it, so only the waits are bounded.
WAITS: Final = RetryPolicy(max_retries=0, base_seconds=0.25, max_seconds=30)
#: How long a send that is cut may still come to its end. A drain ends half a second after it.
GRACE_SECONDS: Final = 0.4
CUT_TEXT: Final = "the worker had to let go while it sent this"

logger = logging.getLogger(__name__)


@dataclass
class _Delivery:
    """What is known of a reply, whether or not the database could be told.

    ``parts`` of it are out, and ``recorded`` of those are in the database. ``doubt`` says why it is not known whether
    one of them arrived, ``refused`` why the chat takes none.
    """

    parts: int
    recorded: int
    doubt: str
    message_id: int | None = None
    refused: str = ""


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
        self._closing = False
        self._deliveries: dict[int, _Delivery] = {}

    def open(self) -> None:
        """Look at every chat that waits for an answer."""
        self._closing = False
        for chat_id in self._store.outbox.pending_chats():
            self.chats.wake(chat_id)

    def begin_no_more(self) -> None:
        """Let what is being sent end, and leave the rest to the next worker."""
        self._closing = True

    async def close(self) -> None:
        """Cut what is being sent, after a moment of grace, and record what came of it."""
        self._closing = True
        await self.chats.close()
        self._deliveries.clear()  # from here on the database is the next worker's

    async def _work(self, chat_id: int) -> None:
        failures = 0
        while not self._closing and (reply := self._store.outbox.next(chat_id)) is not None:
            try:
                await self._send(reply)
            except RateLimited as limit:
                await self.chats.rest(limit.retry_after)
            except CommanderError as error:
                failures += 1
                logger.warning("sending to chat %d failed: %s", chat_id, error)
                await self.chats.rest(WAITS.wait_seconds(failures))

    async def _send(self, reply: Reply) -> None:
        """Send the parts that are left. Raises CommanderError when the same part can be tried again.

        What is out is remembered here before it is recorded: a database that cannot be written to makes no message
        come twice.
        """
        # The whole text goes through the redactor: a secret must not slip through between two parts.
        parts = self._commander.parts(self._redact(reply.text), formatted=reply.kind == ReplyKind.ANSWER)
        known = _Delivery(reply.parts_sent, recorded=reply.parts_sent, doubt=reply.error)
        delivery = self._deliveries.setdefault(reply.id, known)
        self._record(reply, delivery, len(parts))
        while reply.id in self._deliveries and not self._closing:
            try:
                await self._send_part(reply, delivery, parts[delivery.parts])
            except asyncio.CancelledError:
                self._record_last(reply, delivery, len(parts))
                raise
            self._record(reply, delivery, len(parts))
            self._vitals.progressed()

    async def _send_part(self, reply: Reply, delivery: _Delivery, part: str) -> None:
        """Send one part. Raises CommanderError when it can be tried again.

        Cancelled, it waits a moment for the chat service's word: what was accepted must not be sent by the next worker.
        """
        formatted, replaces = reply.kind == ReplyKind.ANSWER, None if delivery.parts else reply.replaces
        sending = asyncio.create_task(self._commander.send(reply.chat_id, part, formatted=formatted, replaces=replaces))
        try:
            await asyncio.wait({sending})
            self._note(reply, delivery, sending)
        except asyncio.CancelledError:
            await asyncio.wait({sending}, timeout=GRACE_SECONDS)
            if sending.done():
                with suppress(CommanderError):
                    self._note(reply, delivery, sending)
            elif replaces is None and reply.kind != ReplyKind.DOUBT:
                delivery.parts, delivery.doubt = delivery.parts + 1, CUT_TEXT
            raise
        finally:
            sending.cancel()

    def _note(self, reply: Reply, delivery: _Delivery, sent: asyncio.Task[int]) -> None:
        """Remember what sending a part came to. Raises CommanderError when it can be tried again."""
        try:
            delivery.message_id = sent.result()
        except Ambiguous as error:
            if reply.kind == ReplyKind.DOUBT:
                raise
            delivery.doubt = self._redact(str(error))
            logger.warning("no one knows whether chat %d got a message: %s", reply.chat_id, delivery.doubt)
        except Rejected as error:
            logger.warning("chat %d does not take an answer: %s", reply.chat_id, error)
            delivery.refused = self._redact(str(error))
            return
        delivery.parts += 1

    def _record_last(self, reply: Reply, delivery: _Delivery, total: int) -> None:
        """Record it while there is no time for another attempt."""
        try:
            self._record(reply, delivery, total)
        except Fenced:
            raise
        except Exception:
            logger.exception("what became of an answer to chat %d could not be recorded", reply.chat_id)

    def _record(self, reply: Reply, delivery: _Delivery, total: int) -> None:
        """Write down what is out of a reply in ``total`` parts; with the last one it is settled."""
        if delivery.refused:
            self._settle(reply, delivery, OutboxStatus.REJECTED, delivery.refused)
        elif delivery.parts >= total:
            status = OutboxStatus.AMBIGUOUS if delivery.doubt else OutboxStatus.SENT
            self._settle(reply, delivery, status, delivery.doubt)
        elif delivery.parts > delivery.recorded:
            self._store.outbox.part_sent(reply, delivery.parts, message_id=delivery.message_id, error=delivery.doubt)
            delivery.recorded = delivery.parts

    def _settle(self, reply: Reply, delivery: _Delivery, status: OutboxStatus, error: str) -> None:
        """Nothing more will be sent of a reply."""
        parts, message_id = delivery.parts, delivery.message_id
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
        del self._deliveries[reply.id]


def uncertain_notice(reply_id: int) -> str:
    """What a chat is told of an answer that may be missing."""
    return (
        "My last answer may not have reached you: the connection broke while I sent it. "
        f"If it is missing: /again_{reply_id}"
    )
