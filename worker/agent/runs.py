"""The runs: claim a message, let the agent answer it, settle what came of it."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from supervisor.contract import EventType, Redactor
from worker.agent import notices
from worker.agent.journal import INTERRUPTED, Attempt, Journal
from worker.agent.loop import AgentLoop, LimitHit, Stalled
from worker.agent.observer import ObserveRun
from worker.agent.per_chat import PerChat
from worker.control.breaker import Breaker
from worker.control.errors import ErrorClass, classify
from worker.control.progress import fingerprint
from worker.control.retry import RetryPolicy
from worker.control.verdict import GiveUp, Retry, after_failure
from worker.models.base import CompletionResponse, Message, ModelError, RateLimited, Speaker
from worker.store import Fenced, Store
from worker.store.outbox import ReplyKind
from worker.tools.base import ToolError
from worker.vitals import Vitals

STOPPED: Final = "stopped"
LIMIT: Final = "limit"

logger = logging.getLogger(__name__)


@dataclass
class _InHand:
    """A run that is under way. ``stopped`` says that its author wants no answer any more."""

    work: asyncio.Task[CompletionResponse]
    stopped: bool = False


class Runs:
    """At most ``limit`` runs at once; the messages of one chat strictly one after the other.

    ``answered`` is called for a chat with an answer to be sent.
    """

    def __init__(
        self,
        *,
        group: asyncio.TaskGroup,
        agent: AgentLoop,
        journal: Journal,
        observe: ObserveRun,
        store: Store,
        retries: RetryPolicy,
        no_progress_k: int,
        breaker: Breaker,
        vitals: Vitals,
        redact: Redactor,
        limit: int,
        answered: Callable[[int], None],
    ) -> None:
        self.chats = PerChat(group, self._work, vitals)
        self._agent = agent
        self._journal = journal
        self._observe = observe
        self._store = store
        self._retries = retries
        self._k = no_progress_k
        self._breaker = breaker
        self._vitals = vitals
        self._redact = redact
        self._slots = asyncio.Semaphore(limit)
        self._answered = answered
        self._paused = False
        self._in_hand: dict[int, _InHand] = {}
        self._rests: dict[int, asyncio.Event] = {}

    def pause(self) -> None:
        """Begin no more runs."""
        self._paused = True

    def resume(self) -> None:
        """Begin runs wherever a message waits."""
        self._paused = False
        for chat_id in self._store.inbox.open_chats():
            self.chats.wake(chat_id)

    def in_hand(self, chat_id: int) -> bool:
        """Whether a run of this chat is under way."""
        return chat_id in self._in_hand

    def stop(self, chat_id: int, *, up_to: int) -> bool:
        """End the chat's run, or the oldest one that has yet to begin or to begin again; whether there was one.

        What came after the inbox's row ``up_to`` is left alone.
        """
        running = self._in_hand.get(chat_id)
        if running is not None:
            running.stopped = True
            running.work.cancel()
            return True
        task = self._store.inbox.oldest_open(chat_id, up_to=up_to)
        if task is None:
            return False
        attempt = self._journal.begin(task)  # an attempt that is over before it did anything
        self._settle_stopped(attempt)
        self._wake(chat_id)
        return True

    async def _work(self, chat_id: int) -> None:
        while not self._paused and (delay := self._delay(chat_id)) is not None:
            if delay > 0:
                await self._rest(chat_id, delay)
                continue
            with self.chats.resting():
                await self._slots.acquire()
            try:
                # While it waited for its turn everything may have changed.
                if not self._paused and self._delay(chat_id) == 0:
                    await self._attempt(chat_id)
            finally:
                self._slots.release()

    def _delay(self, chat_id: int) -> float | None:
        """Seconds until the chat's next message may be claimed, None when there is none."""
        due = self._store.inbox.due_in(chat_id)
        return None if due is None else max(due, self._breaker.run_wait())

    async def _rest(self, chat_id: int, seconds: float) -> None:
        """Wait, but not longer than until ``_wake``."""
        woken = self._rests.setdefault(chat_id, asyncio.Event())
        woken.clear()
        with self.chats.resting(), suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await woken.wait()

    def _wake(self, chat_id: int) -> None:
        if chat_id in self._rests:
            self._rests[chat_id].set()

    async def _attempt(self, chat_id: int) -> None:
        """Claim the chat's next message and work on it, until its answer or the reason why there is none is stored."""
        with self._store.write():
            task = self._store.inbox.claim(chat_id)
            if task is None:
                return
            attempt = self._journal.begin(task)
        self._vitals.progressed()
        probe = self._breaker.run_begun()
        running = _InHand(asyncio.create_task(self._answer(attempt)))
        self._in_hand[chat_id] = running
        try:
            await asyncio.wait({running.work})
        except asyncio.CancelledError:
            await self._cut(attempt, running)
            self._breaker.run_abandoned(probe=probe)
            raise
        finally:
            del self._in_hand[chat_id]
        self._settle(attempt, running, probe=probe)
        self._vitals.progressed()

    async def _answer(self, attempt: Attempt) -> CompletionResponse:
        if self._retries.exhausted(attempt.task.attempts - 1):
            raise ModelError("the worker ended in every attempt before this one", ErrorClass.UNKNOWN)
        async with self._observe(attempt.task) as observer:
            return await self._agent.run(attempt, observer)

    async def _cut(self, attempt: Attempt, running: _InHand) -> None:
        """The worker is to let go. The message goes back, and the run is gone on with wherever it is claimed next."""
        running.work.cancel()
        await asyncio.wait({running.work})
        if running.work.cancelled() or running.work.exception() is not None:
            with self._store.write():
                self._journal.failed(attempt, INTERRUPTED, "the worker was told to stop", closed=False)
                self._store.inbox.give_back(attempt.task)
        else:
            self._settle_completed(attempt, running.work.result())

    def _settle(self, attempt: Attempt, running: _InHand, *, probe: bool) -> None:
        """Store what came of a run. Raises Fenced."""
        error = None if running.work.cancelled() else running.work.exception()
        if running.work.cancelled() or (running.stopped and isinstance(error, Exception)):
            self._breaker.run_abandoned(probe=probe)
            self._settle_stopped(attempt)
            return
        match error:
            case None:
                self._breaker.run_succeeded(probe=probe)
                self._vitals.run_ended("")
                self._settle_completed(attempt, running.work.result())
            case LimitHit() as hit:
                self._breaker.run_abandoned(probe=probe)
                self._settle_limit(attempt, hit)
            case Fenced() as fenced:
                raise fenced
            case Exception():
                error_class = classify(error)
                self._breaker.run_failed(error_class, str(error), probe=probe)
                if error_class is ErrorClass.PROVIDER_API:
                    self._vitals.run_ended(self._redact(f"{type(error).__name__}: {error}"))
                self._settle_failed(attempt, error_class, error)
            case _:
                raise error

    def _settle_completed(self, attempt: Attempt, response: CompletionResponse) -> None:
        task = attempt.task
        with self._store.write():
            self._store.inbox.done(task)
            question, answer = Message(Speaker.USER, task.text), Message(Speaker.ASSISTANT, response.text)
            self._store.history.add(task.chat_id, question, answer, inbox_id=task.id)
            self._tell(attempt, notices.sent(response), kind=ReplyKind.ANSWER)
            self._journal.completed(attempt)
        self._answered(task.chat_id)

    def _settle_stopped(self, attempt: Attempt) -> None:
        with self._store.write():
            self._store.inbox.stopped(attempt.task, STOPPED)
            self._journal.failed(attempt, STOPPED, "its author stopped it", closed=True)
            self._settle_unanswered(attempt, notices.STOPPED)
        self._answered(attempt.task.chat_id)

    def _settle_limit(self, attempt: Attempt, hit: LimitHit) -> None:
        """What was reached is told, and nothing is tried again: it would cost the same once more."""
        with self._store.write():
            self._store.inbox.stopped(attempt.task, str(hit))
            self._journal.failed(attempt, LIMIT, str(hit), closed=True)
            self._settle_unanswered(attempt, notices.limit_reached(hit.limit, self._journal.turns(attempt)))
        self._answered(attempt.task.chat_id)

    def _settle_unanswered(self, attempt: Attempt, notice: str) -> None:
        """The conversation goes on from what was asked, and what was told in place of an answer."""
        task = attempt.task
        self._store.history.add(task.chat_id, Message(Speaker.USER, task.text), inbox_id=task.id)
        self._store.history.add_notice(task.chat_id, notice, inbox_id=task.id)
        self._tell(attempt, notice)

    def _settle_failed(self, attempt: Attempt, error_class: ErrorClass, error: Exception) -> None:
        """Plan the next attempt, or give the message up and tell its author."""
        task = attempt.task
        words = self._redact(str(error) or type(error).__name__)
        logger.warning("attempt %d on task %d failed: %s: %s", task.attempts, task.id, error_class, words)
        if not isinstance(error, ModelError | Stalled | ToolError):
            logger.error("unexpected error in a run", exc_info=error)
            self._vitals.internal_error(error)
        state = self._state(attempt, error_class)
        progress = attempt.run.progress.after(state)
        verdict = after_failure(self._retries, task.attempts, progress, self._k)
        if isinstance(error, Stalled):
            state, verdict = error.state, GiveUp(stalled=True)
        with self._store.write():
            self._journal.failed(attempt, error_class, words, closed=isinstance(verdict, GiveUp), progress=progress)
            match verdict:
                case Retry(wait_seconds):
                    seconds = self._wait_seconds(wait_seconds, error)
                    self._store.inbox.failed(task, words, wait_seconds=seconds)
                    wait = {"wait_seconds": seconds, "state_fingerprint": state}
                    self._record(EventType.RETRY_SCHEDULED, attempt, error_class, words, wait)
                case GiveUp(stalled):
                    if stalled:
                        self._record(EventType.PROGRESS_STALLED, attempt, error_class, words, self._stall(error, state))
                    self._store.inbox.dead(task, words)
                    self._tell(attempt, notices.given_up(task.id, task.attempts, words, stalled=stalled))
                    self._record(EventType.RETRY_EXHAUSTED, attempt, error_class, words, {"stalled": stalled})
        self._answered(task.chat_id)

    def _wait_seconds(self, planned: float, error: Exception) -> float:
        """The wait for the next attempt: longer than planned where the provider asks for it, up to the longest."""
        asked = error.retry_after if isinstance(error, RateLimited) else None
        return planned if asked is None else max(planned, min(asked, self._retries.max_seconds))

    def _state(self, attempt: Attempt, error_class: ErrorClass) -> str:
        seen = attempt.seen
        return fingerprint(
            task_id=attempt.task.id,
            history_count=seen.history_count,
            compressed_count=seen.compressed_count,
            error_class=error_class,
            reply_hash=seen.reply_hash,
        )

    def _stall(self, error: Exception, state: str) -> dict[str, object]:
        return {"k": error.k if isinstance(error, Stalled) else self._k, "state_fingerprint": state}

    def _record(
        self, event: EventType, attempt: Attempt, error_class: ErrorClass, error: str, more: dict[str, object]
    ) -> None:
        task = attempt.task
        about = {"chat_id": task.chat_id, "task_id": task.id, "attempts": task.attempts}
        payload = {**about, "error_class": error_class, "error": error, **more}
        self._store.events.append(event, payload, parent_id=attempt.event_id)

    def _tell(self, attempt: Attempt, text: str, *, kind: ReplyKind = ReplyKind.NOTICE) -> None:
        task = attempt.task
        self._store.outbox.add(task.chat_id, text, kind=kind, inbox_id=task.id, event_id=attempt.event_id)
