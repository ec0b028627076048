"""The runs: claim a message, let the agent answer it, settle what came of it."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final

from supervisor.contract import EventType, Redactor
from worker.agent.loop import AgentLoop
from worker.agent.per_chat import PerChat
from worker.commander.base import Commander, CommanderError
from worker.control.retry import RetryPolicy
from worker.models.base import CompletionResponse, Message, ModelError, Speaker
from worker.store import Fenced, Store, Task
from worker.store.outbox import ReplyKind
from worker.vitals import Vitals

SHOW_WORKING_SECONDS: Final = 4.0

logger = logging.getLogger(__name__)


class Runs:
    """At most ``limit`` runs at once; the messages of one chat strictly one after the other."""

    def __init__(
        self,
        *,
        group: asyncio.TaskGroup,
        agent: AgentLoop,
        commander: Commander,
        store: Store,
        retries: RetryPolicy,
        vitals: Vitals,
        redact: Redactor,
        process_event: int,
        limit: int,
        answered: Callable[[int], None],
    ) -> None:
        self.chats = PerChat(group, self._work, vitals)
        self._agent = agent
        self._commander = commander
        self._store = store
        self._retries = retries
        self._vitals = vitals
        self._redact = redact
        self._process_event = process_event
        self._slots = asyncio.Semaphore(limit)
        self._answered = answered
        self._paused = False

    def pause(self) -> None:
        """Begin no more runs."""
        self._paused = True

    def resume(self) -> None:
        """Begin runs wherever a message waits."""
        self._paused = False
        for chat_id in self._store.inbox.open_chats():
            self.chats.wake(chat_id)

    async def _work(self, chat_id: int) -> None:
        while not self._paused and (delay := self._store.inbox.due_in(chat_id)) is not None:
            if delay > 0:
                await self.chats.rest(delay)
                continue
            with self.chats.resting():
                await self._slots.acquire()
            try:
                if not self._paused and (task := self._store.inbox.claim(chat_id)) is not None:
                    await self._attempt(task)
            finally:
                self._slots.release()

    async def _attempt(self, task: Task) -> None:
        started = self._store.events.append(
            EventType.AGENT_STARTED,
            {"chat_id": task.chat_id, "task_id": task.id, "update_id": task.update_id, "text": task.text},
            parent_id=self._process_event,
        )
        self._vitals.progressed()
        try:
            if self._retries.exhausted(task.attempts - 1):
                raise ModelError("the worker stopped in every attempt before this one", "interrupted")  # noqa: TRY301
            async with self._shown_working(task.chat_id):
                response = await self._agent.run(task, parent_id=started)
        except ModelError as error:
            self._failed(task, started, error.error_class, str(error))
        except asyncio.CancelledError:
            with self._store.write():
                self._store.inbox.give_back(task)
                self._log_failure(task, started, "interrupted", "the worker was told to stop")
            raise
        except Fenced:
            raise
        except Exception as error:
            logger.exception("unexpected error in a run")
            self._vitals.internal_error()
            self._failed(task, started, "internal", f"{type(error).__name__}: {error}")
        else:
            self._completed(task, started, response)
        self._vitals.progressed()

    def _completed(self, task: Task, started: int, response: CompletionResponse) -> None:
        with self._store.write():
            self._store.inbox.done(task)
            self._store.history.add(
                task.chat_id, Message(Speaker.USER, task.text), Message(Speaker.ASSISTANT, response.text)
            )
            self._store.outbox.add(
                task.chat_id, response.text, kind=ReplyKind.ANSWER, inbox_id=task.id, event_id=started
            )
            self._store.events.append(
                EventType.AGENT_COMPLETED,
                {
                    "chat_id": task.chat_id,
                    "task_id": task.id,
                    "turns": 1,
                    "input_tokens": response.input_tokens,
                    "output_tokens": response.output_tokens,
                },
                parent_id=started,
            )
        self._answered(task.chat_id)

    def _failed(self, task: Task, started: int, error_class: str, error: str) -> None:
        """Plan the next attempt, or give the message up and tell its author."""
        error = self._redact(error)
        logger.warning("attempt %d on task %d failed: %s: %s", task.attempts, task.id, error_class, error)
        about = {"chat_id": task.chat_id, "task_id": task.id, "attempts": task.attempts, "error": error}
        with self._store.write():
            self._log_failure(task, started, error_class, error)
            if not self._retries.exhausted(task.attempts):
                wait = self._retries.wait_seconds(task.attempts)
                self._store.inbox.failed(task, error, wait_seconds=wait)
                retry = {**about, "error_class": error_class, "wait_seconds": wait}
                self._store.events.append(EventType.RETRY_SCHEDULED, retry, parent_id=started)
                return
            self._store.inbox.dead(task, error)
            self._store.outbox.add(
                task.chat_id,
                f"I could not answer your message, and gave up after {task.attempts} attempts: {error}",
                inbox_id=task.id,
                event_id=started,
            )
            exhausted = {**about, "error_class": error_class}
            self._store.events.append(EventType.RETRY_EXHAUSTED, exhausted, parent_id=started)
        self._answered(task.chat_id)

    def _log_failure(self, task: Task, started: int, error_class: str, error: str) -> None:
        payload = {"chat_id": task.chat_id, "task_id": task.id, "error_class": error_class, "error": error}
        self._store.events.append(EventType.AGENT_FAILED, payload, parent_id=started)

    @asynccontextmanager
    async def _shown_working(self, chat_id: int) -> AsyncIterator[None]:
        """The chat shows that an answer is being made."""
        sign = asyncio.create_task(self._keep_showing(chat_id))
        try:
            yield
        finally:
            sign.cancel()

    async def _keep_showing(self, chat_id: int) -> None:
        while True:
            with suppress(CommanderError):
                await self._commander.show_working(chat_id)
            await asyncio.sleep(SHOW_WORKING_SECONDS)
