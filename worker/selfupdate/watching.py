"""Watching: each update that was submitted is followed through the gates, and the chat sees how far it is.

What is watched stands in the store, so the next worker goes on watching where one has ended.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from functools import partial
from typing import Final

from supervisor.contract import Progress, Redactor
from worker.agent.live import INTERVAL_SECONDS, LiveMessage
from worker.commander.base import Commander, Incoming, UpdateKind
from worker.control.retry import RetryPolicy
from worker.selfupdate import texts
from worker.selfupdate.base import Supervisor, SupervisorError
from worker.selfupdate.proposals import REPAIR
from worker.store import Fenced, InboxStatus, Store
from worker.store.developments import Development
from worker.vitals import Vitals

#: Where the requests for repairs come from: their numbers are those of developments.
SOURCE: Final = "selfupdate"
WAITS: Final = RetryPolicy(max_retries=0, base_seconds=0.25, max_seconds=10)
#: An update that nobody knows any more is not asked for for ever.
LONGEST_WATCH_SECONDS: Final = 86_400.0
#: How long the last text may take to be shown.
SHOW_SECONDS: Final = 30.0
CUT_GRACE_SECONDS: Final = 0.2

logger = logging.getLogger(__name__)


class Watching:
    """Watches all developments.

    ``queued`` is called for a chat with a request for a repair, ``answered`` for one with something to be sent.
    """

    def __init__(
        self,
        *,
        supervisor: Supervisor,
        commander: Commander,
        store: Store,
        redact: Redactor,
        vitals: Vitals,
        max_repairs: int,
        queued: Callable[[int], None],
        answered: Callable[[int], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._supervisor = supervisor
        self._commander = commander
        self._store = store
        self._redact = redact
        self._vitals = vitals
        self._max_repairs = max_repairs
        self._queued = queued
        self._answered = answered
        self._clock = clock
        self._news = asyncio.Event()

    def watch(self, _development_id: int) -> None:
        """There is one more."""
        self._news.set()

    async def run(self) -> None:
        """Watch for ever, beginning with what a predecessor left. Raises an exception group with Fenced inside."""
        begun: set[int] = set()
        async with asyncio.TaskGroup() as group:
            while True:
                self._news.clear()
                for development in self._store.developments.watched():
                    if development.id not in begun:
                        begun.add(development.id)
                        group.create_task(self._watch(development))
                await self._news.wait()

    async def _watch(self, development: Development) -> None:
        try:
            await self._follow(development)
        except Fenced:
            raise
        except Exception as error:
            logger.exception("unexpected error in watching update %s", development.tx_id)
            self._vitals.internal_error(error)

    async def _follow(self, development: Development) -> None:
        """Show each step until the gates have spoken."""
        view = _View(development, self._redact)
        live = LiveMessage(
            commander=self._commander,
            chat_id=development.chat_id,
            render=view.render,
            created=partial(self._store.developments.shown, development.id),
            shown=view.was_shown,
            message_id=development.message_id,
            interval=INTERVAL_SECONDS,
        )
        try:
            await self._until_judged(development, view, live)
            await view.all_shown(SHOW_SECONDS)
        finally:
            await live.close(grace=CUT_GRACE_SECONDS)

    async def _until_judged(self, development: Development, view: "_View", live: LiveMessage) -> None:
        failures = 0
        while self._clock() - development.created_at < LONGEST_WATCH_SECONDS:
            view.steps = []
            try:
                async for step in self._supervisor.progress(development.tx_id):
                    failures = 0
                    view.steps.append(step)
                    live.changed()
                    if step.final:
                        self._settle(development, step)
                        return
            except SupervisorError as error:
                logger.info("update %s cannot be watched just now: %s", development.tx_id[:8], error)
            failures += 1
            await asyncio.sleep(WAITS.wait_seconds(failures))
        self._store.developments.ended(development.id, status="unknown", evidence="")

    def _settle(self, development: Development, step: Progress) -> None:
        """Store what the gates said; what failed by a model's hand goes back to it, as long as attempts are left."""
        failed = step.status in texts.FAILED
        evidence = self._redact(step.evidence or step.text or step.status) if failed else ""
        with self._store.write():
            self._store.developments.ended(development.id, status=step.status, evidence=evidence)
            ended = self._store.developments.get(development.id)
            if failed and ended is not None and ended.task_id is not None:
                if ended.attempt < self._max_repairs:
                    self._ask_for_repair(ended)
                else:
                    self._store.outbox.add(ended.chat_id, texts.exhausted(ended))
        self._queued(development.chat_id)
        self._answered(development.chat_id)

    def _ask_for_repair(self, development: Development) -> None:
        text = texts.repair_request(development, attempt=development.attempt + 2, attempts=self._max_repairs + 1)
        request = Incoming(
            update_id=development.id,
            kind=UpdateKind.MESSAGE,
            chat_id=development.chat_id,
            user_id=None,
            private=True,
            text=text,
            date=self._clock(),
        )
        self._store.inbox.add(SOURCE, request, kind=REPAIR, text=text, status=InboxStatus.QUEUED)


class _View:
    """What the chat is shown of one update."""

    def __init__(self, development: Development, redact: Redactor) -> None:
        self.steps: list[Progress] = []
        self._development = development
        self._redact = redact
        self._rendered = ""
        self._shown = ""
        self._news = asyncio.Event()

    def render(self) -> str:
        self._rendered = self._redact(texts.shown(self._development, self.steps))
        return self._rendered

    def was_shown(self) -> None:
        self._shown = self._rendered
        self._news.set()

    async def all_shown(self, seconds: float) -> None:
        """Wait until the chat shows the latest text, but not longer."""
        latest = self._redact(texts.shown(self._development, self.steps))
        try:
            async with asyncio.timeout(seconds):
                while self._shown != latest:
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            logger.info("chat %d may not see how update %s fared", self._development.chat_id, self._development.tx_id)
